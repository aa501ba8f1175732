"""The service over HTTP: the `openai` package as it is, tuned models from a real database, refusals, clients that leave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from sqlalchemy import select
from tokenizers import Tokenizer

from libs.common.db.engine import Database
from libs.common.db.tables import LiveSampleRow, ModelRow
from libs.common.models.prompting import encode, load_template, render
from libs.common.testing.tiny_gemma import write_tiny_adapter
from tests.conftest import Stores
from tests.integration.inference.serving import (
    BASE,
    QUESTION,
    Served,
    serving,
    wait_until,
    write_copy,
    write_fingerprint,
)


@pytest.fixture(scope="module")
def served(stores: Stores, database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(stores, database, tmp_path_factory.mktemp("models")) as served:
        yield served


def test_openai_package_chats_streamed_and_not(served: Served) -> None:
    whole = served.client.chat.completions.create(model=BASE, messages=QUESTION, max_tokens=12)
    chunks = list(
        served.client.chat.completions.create(
            model=BASE, messages=QUESTION, max_tokens=12, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert text
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "length"
    assert chunks[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 12


def test_openai_package_completes_text_with_a_seed_and_a_stop(served: Served) -> None:
    ask = served.client.completions.create
    options: dict[str, Any] = {
        "model": BASE,
        "prompt": "def add(",
        "temperature": 1.0,
        "top_p": 0.9,
        "max_tokens": 16,
    }
    first, second = (ask(**options, seed=3).choices[0].text for _ in range(2))
    assert first == second
    assert first != ask(**options, seed=4).choices[0].text
    stopped = ask(**options, seed=3, stop=[first[4:6]]).choices[0]
    assert (stopped.text, stopped.finish_reason) == (first[: first.index(first[4:6])], "stop")


def test_an_echo_tells_how_likely_the_prompt_is(served: Served) -> None:
    """What the model wrote itself is as likely when it is echoed behind its prompt as it was when it was written."""
    prompt = "def add(a, b):"
    written = served.client.completions.create(model=BASE, prompt=prompt, max_tokens=6, logprobs=0)
    said = written.choices[0].logprobs
    assert said is not None
    assert said.token_logprobs is not None
    assert written.usage is not None
    whole = prompt + written.choices[0].text
    echo = served.client.completions.create(model=BASE, prompt=whole, echo=True, max_tokens=0, logprobs=0)
    assert echo.choices[0].text == whole
    assert echo.usage is not None
    assert echo.usage.completion_tokens == 0
    told = echo.choices[0].logprobs
    assert told is not None
    assert told.tokens is not None
    assert told.token_logprobs is not None
    assert len(told.tokens) == len(told.token_logprobs) == echo.usage.prompt_tokens
    assert told.token_logprobs[0] is None
    if told.tokens[written.usage.prompt_tokens :] == said.tokens:  # else the text is read as other tokens
        assert told.token_logprobs[written.usage.prompt_tokens :] == pytest.approx(
            said.token_logprobs, abs=1e-3
        )
    for wrong in ({"echo": True, "max_tokens": 3, "logprobs": 0}, {"max_tokens": 0}):
        with pytest.raises(openai.BadRequestError, match=r"echo|max_tokens"):
            served.client.completions.create(model=BASE, prompt=prompt, **wrong)


def test_prompt_and_tokens_are_those_of_the_one_renderer(served: Served) -> None:
    tokenizer = Tokenizer.from_file(str(served.base / "tokenizer.json"))
    prompt = render(load_template("qa"), QUESTION)
    reply = served.http(
        "POST", "/v1/chat/completions", json={"model": BASE, "messages": QUESTION, "return_prompt": True}
    )
    counted = served.http("POST", "/v1/tokenize", json={"model": BASE, "messages": QUESTION}).json()
    assert reply.json()["prompt"] == counted["text"] == prompt
    assert counted["ids"] == encode(tokenizer, prompt)
    assert reply.json()["usage"]["prompt_tokens"] == counted["count"] == len(counted["ids"])
    plain = served.http("POST", "/v1/tokenize", json={"model": BASE, "text": "a list"}).json()
    assert plain["ids"] == tokenizer.encode("a list", add_special_tokens=False).ids


def test_a_tuned_model_passes_its_gate_and_answers_differently(served: Served, tmp_path: Path) -> None:
    adapter = write_fingerprint(write_tiny_adapter(tmp_path / "a", served.base, strength=0.2), served.base)
    model = served.publish("model_true", adapter)
    tuned = served.client.chat.completions.create(model=model, messages=QUESTION).choices[0].message.content
    base = served.client.chat.completions.create(model=BASE, messages=QUESTION).choices[0].message.content
    assert tuned != base
    row = served.row(model)
    assert row.state == "servable"
    assert row.gate is not None
    assert row.gate["error"] < 1e-3 < row.gate["served_move"]
    listed = {m["id"]: m for m in served.http("GET", "/v1/models").json()["data"]}
    assert (listed[model]["root"], listed[model]["state"], listed[BASE].get("root")) == (
        BASE,
        "servable",
        None,
    )


def test_an_adapter_that_changes_nothing_is_refused(served: Served, tmp_path: Path) -> None:
    real = write_tiny_adapter(tmp_path / "real", served.base, strength=0.2)
    nothing = write_tiny_adapter(tmp_path / "nothing", served.base, strength=0.0)
    for name, adapter in [
        ("model_nothing", nothing),
        (
            "model_nothing_but_said_much",
            write_fingerprint(write_copy(nothing, tmp_path / "b"), served.base, real),
        ),
    ]:
        model = served.publish(name, adapter)
        for _ in range(2):  # loading finds it first, the recorded state afterwards
            reply = served.http("POST", "/v1/chat/completions", json={"model": model, "messages": QUESTION})
            assert reply.status_code == 409, reply.text
            assert "changes nothing" in reply.json()["detail"]
        assert served.row(model).state == "refused"


def test_an_adapter_that_is_not_the_trained_one_is_refused(served: Served, tmp_path: Path) -> None:
    trained = write_tiny_adapter(tmp_path / "trained", served.base, strength=0.2)
    other = write_tiny_adapter(tmp_path / "other", served.base, strength=0.2, seed=9)
    model = served.publish("model_other", write_fingerprint(other, served.base, measured=trained))
    with pytest.raises(openai.ConflictError, match="not the trained one"):
        served.client.chat.completions.create(model=model, messages=QUESTION)
    assert served.row(model).state == "refused"


def test_a_whole_model_is_refused_with_the_way_to_serve_it(served: Served, tmp_path: Path) -> None:
    model = served.publish("model_whole", write_tiny_adapter(tmp_path / "whole", served.base, strength=0.2))
    gate = {"passed": False, "code": "whole_model", "reason": "prepare it: mt models prepare FOLDER"}
    with served.database.session() as session:
        row = session.get_one(ModelRow, model)
        row.state, row.gate = "refused", gate
    with pytest.raises(openai.ConflictError, match="mt models prepare"):
        served.client.chat.completions.create(model=model, messages=QUESTION)
    assert served.row(model).gate == gate


def test_refusals_say_what_is_wrong(served: Served) -> None:
    with pytest.raises(openai.NotFoundError, match="no model 'gemma-9'"):
        served.client.chat.completions.create(model="gemma-9", messages=QUESTION)
    with pytest.raises(openai.InternalServerError, match=r"not prepared.*mt models prepare gemma-3-1b"):
        served.client.chat.completions.create(model="gemma-3-1b", messages=QUESTION)
    with pytest.raises(openai.BadRequestError, match=r"has \d{3,} tokens and the model's window 256"):
        served.client.completions.create(model=BASE, prompt="long " * 200)
    assert httpx.post(f"{served.url}/v1/completions", json={"model": BASE, "prompt": "x"}).status_code == 401


def test_a_client_that_leaves_frees_its_place(served: Served) -> None:
    body = {"model": BASE, "prompt": "a", "max_tokens": 250, "stream": True}
    headers = {"Authorization": f"Bearer {served.token}"}
    before = cancelled(served)
    with httpx.stream("POST", f"{served.url}/v1/completions", json=body, headers=headers) as reply:
        next(reply.iter_lines())
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{served.url}/v1/completions",
            json=body | {"stream": False},
            headers=headers,
            timeout=httpx.Timeout(60, read=0.1),
        )
    wait_until(lambda: cancelled(served) == before + 2)
    wait_until(lambda: f'{{model="{BASE}"}} 0.0' in running(served))


def cancelled(served: Served) -> float:
    """Requests of the base that ended because their client left."""
    name = f'mt_inference_requests_total{{model="{BASE}",reason="cancelled"}}'
    lines = httpx.get(f"{served.url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def test_log_probabilities_usage_and_text_parts_come_in_openais_shape(served: Served) -> None:
    parts = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "a list?"}],
        }
    ]
    options: dict[str, Any] = {"model": BASE, "max_tokens": 5, "logprobs": True, "top_logprobs": 2}
    whole = served.client.chat.completions.create(messages=QUESTION, **options)
    chunks = list(served.client.chat.completions.create(messages=parts, stream=True, **options))
    tokens = whole.choices[0].logprobs.content
    streamed = [token for chunk in chunks for token in chunk.choices[0].logprobs.content]
    assert [token.token for token in tokens] == [token.token for token in streamed]
    assert len(tokens) == 5
    assert all(token.top_logprobs[0].logprob == token.logprob <= 0 for token in tokens)
    assert (
        "".join(token.token for token in tokens).strip() == (whole.choices[0].message.content or "").strip()
    )
    assert chunks[-1].usage == whole.usage
    text = served.client.completions.create(model=BASE, prompt="def f(", max_tokens=3, logprobs=1).choices[0]
    assert len(text.logprobs.tokens) == len(text.logprobs.token_logprobs) == 3


def test_a_request_may_take_so_long_and_no_longer(served: Served) -> None:
    body = {"model": BASE, "prompt": "a", "max_tokens": 250, "timeout_s": 0.001}
    for stream in (False, True):
        reply = served.http("POST", "/v1/completions", json=body | {"stream": stream})
        assert reply.status_code == 504, reply.text
        assert reply.json()["code"] == "timed_out"
        assert reply.json()["hint"]
    reply = served.http("POST", "/v1/completions", json=body | {"timeout_s": -1})
    assert reply.status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        {"messages": []},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "robot", "content": "a"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        {"messages": [{"role": "user", "content": 7}]},
        {"messages": "What is a list?"},
        {"messages": QUESTION, "response_format": {"type": "yaml"}},
        {"messages": QUESTION, "top_logprobs": 21},
    ],
)
def test_malformed_messages_are_refused_by_field(served: Served, body: dict[str, Any]) -> None:
    reply = served.http("POST", "/v1/chat/completions", json={"model": BASE} | body)
    assert reply.status_code == 422, reply.text
    assert any(word in reply.text for word in ("messages", "response_format", "top_logprobs"))


def test_a_schema_is_refused_where_the_engine_cannot_keep_to_one(served: Served) -> None:
    ask = served.client.chat.completions.create
    with pytest.raises(
        openai.BadRequestError, match=r"cannot hold an answer to a JSON schema.*MT_INFERENCE_ENGINE"
    ):
        ask(model=BASE, messages=QUESTION, response_format={"type": "json_object"})
    with pytest.raises(openai.BadRequestError, match=r"json_schema\.schema"):
        ask(model=BASE, messages=QUESTION, response_format={"type": "json_schema", "json_schema": {}})


def test_an_adapter_deleted_while_in_use_ends_what_runs_and_is_gone(served: Served, tmp_path: Path) -> None:
    adapter = write_fingerprint(
        write_tiny_adapter(tmp_path / "d", served.base, strength=0.2, seed=5), served.base
    )
    model = served.publish("model_deleted", adapter)
    options: dict[str, Any] = {"model": model, "prompt": "a", "max_tokens": 200, "stream": True}
    stream = served.client.completions.create(**options)
    next(stream)
    with served.database.session() as session:
        session.delete(session.get_one(ModelRow, model))
    with pytest.raises(openai.NotFoundError, match="no model 'model_deleted'"):
        served.client.completions.create(**options)
    with pytest.raises(openai.APIError, match="was unloaded"):
        list(stream)
    assert f'model="{model}"' not in running(served)
    assert served.client.completions.create(model=BASE, prompt="a", max_tokens=2).choices[0].text


def running(served: Served) -> str:
    lines = httpx.get(f"{served.url}/metrics").text.splitlines()
    return "\n".join(line for line in lines if line.startswith("mt_inference_running{"))


def test_adapters_are_listed_loaded_pinned_and_unloaded(served: Served, tmp_path: Path) -> None:
    adapter = write_fingerprint(
        write_tiny_adapter(tmp_path / "p", served.base, strength=0.2, seed=6), served.base
    )
    model = served.publish("model_registry", adapter)

    def act(action: str, name: str = model) -> httpx.Response:
        return served.http("POST", f"/v1/adapters/{name}/{action}")

    loaded = act("load").json()
    assert (loaded["loaded"], loaded["pinned"], loaded["state"]) == (True, False, "servable")
    assert loaded["gate"]["engine"].startswith("transformers 5.")
    assert loaded["gate"]["error"] <= loaded["gate"]["tolerance"]
    assert loaded["gate"]["served_move"] >= loaded["gate"]["margin"]
    assert "one must stay free" in act("pin").json()["detail"]  # there is one place only
    assert act("unload").json()["loaded"] is False
    assert act("unload").status_code == act("load", "model_none").status_code == 404
    assert act("explode").status_code == 422
    listed = {row["id"]: row["loaded"] for row in served.http("GET", "/v1/adapters").json()["data"]}
    assert listed[model] is False


def test_answers_are_measured_where_the_gateway_says_so(served: Served, database: Database) -> None:
    before = _sampled(database)
    for stream in (False, True):
        headers = {"x-mt-sample": "numbers"}
        answer = served.client.chat.completions.create(
            model=BASE, messages=QUESTION, max_tokens=4, stream=stream, extra_headers=headers
        )
        if stream:
            list(answer)
    served.client.chat.completions.create(model=BASE, messages=QUESTION, max_tokens=4)
    wait_until(lambda: len(_sampled(database)) == len(before) + 2)
    whole, streamed = [row.features for row in _sampled(database)[-2:]]
    assert whole["answer_length"] == streamed["answer_length"] > 0
    assert whole["answer_cut"] == streamed["answer_cut"] == 1


def _sampled(database: Database) -> list[LiveSampleRow]:
    with database.session() as session:
        query = select(LiveSampleRow).where(LiveSampleRow.model == BASE).order_by(LiveSampleRow.id)
        return list(session.scalars(query))
