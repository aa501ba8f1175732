"""The service over HTTP: the `openai` package as it is, tuned models from a real database, refusals, clients that leave."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch
from peft import PeftModel
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from libs.common.artifacts import ArtifactStore
from libs.common.db.engine import Database
from libs.common.db.tables import ArtifactRow, ModelRow
from libs.common.models.fingerprint import FILE_NAME
from libs.common.models.prompting import encode, load_template, render
from libs.common.service import BackgroundServer
from libs.common.testing.tiny_gemma import write_tiny_adapter, write_tiny_gemma
from services.inference.main import build_app
from services.inference.settings import InferenceSettings
from tests.conftest import Stores, free_ports

BASE = "gemma-3-270m"
TEXTS = ["Question: what is a list?\nAnswer: a row of things", "def f(x):\n    return x"]
QUESTION = [{"role": "user", "content": "What is a list?"}]


@dataclass(frozen=True)
class Served:
    url: str
    token: str
    store: ArtifactStore
    database: Database
    base: Path

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.token, max_retries=0)

    def http(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.request(method, self.url + path, headers=headers, timeout=60, **options)

    def publish(self, model_id: str, adapter: Path) -> str:
        """Put an adapter into the store and the database, as the trainer and the gateway do."""
        artifact = self.store.commit(adapter)
        with self.database.session() as session:
            session.merge(ArtifactRow(sha256=artifact, kind="adapter", bytes=1))
            session.merge(
                ModelRow(
                    id=model_id, project_id="proj_default", base=BASE, artifact=artifact, state="pending"
                )
            )
        return model_id

    def row(self, model_id: str) -> ModelRow:
        with self.database.session() as session:
            return session.get_one(ModelRow, model_id)


@pytest.fixture(scope="module")
def served(stores: Stores, database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models = tmp_path_factory.mktemp("models")
    base = write_tiny_gemma(models / BASE)
    url = f"http://127.0.0.1:{free_ports(1)}"
    settings = InferenceSettings(
        home=stores.home,
        model_dir=models,
        database_url=stores.settings.database_url,
        broker_url=stores.settings.broker_url,
        internal_token=stores.settings.internal_token,
        inference_url=url,
        inference_dtype="float32",
        inference_window=256,
        inference_max_tokens=16,
        inference_tuned_models=1,
        inference_threads=1,
    )
    server = BackgroundServer(build_app(settings, database), url)
    server.start()
    wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
    token = settings.internal_token.get_secret_value()
    yield Served(url, token, ArtifactStore(stores.home / "artifacts"), database, base)
    server.stop()


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def write_fingerprint(adapter: Path, base: Path, measured: Path | None = None) -> Path:
    """What the trainer stores, computed with PEFT; `measured` is another adapter to take the numbers from."""
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(model, measured or adapter)
    texts = []
    for text in TEXTS:
        ids = encode(tokenizer, text)
        with torch.inference_mode():
            after = log_probabilities(tuned, ids)
            with tuned.disable_adapter():
                texts.append({"ids": ids, "base": log_probabilities(tuned, ids), "adapter": after})
    content = {"version": 1, "precision": "float32", "merged": True, "texts": texts}
    (adapter / FILE_NAME).write_text(json.dumps(content), encoding="utf-8")
    return adapter


def log_probabilities(model: Any, ids: list[int]) -> list[float]:
    logits = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    return logits.gather(-1, torch.tensor(ids[1:]).unsqueeze(-1)).squeeze(-1).tolist()


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


def write_copy(source: Path, target: Path) -> Path:
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_an_adapter_that_is_not_the_trained_one_is_refused(served: Served, tmp_path: Path) -> None:
    trained = write_tiny_adapter(tmp_path / "trained", served.base, strength=0.2)
    other = write_tiny_adapter(tmp_path / "other", served.base, strength=0.2, seed=9)
    model = served.publish("model_other", write_fingerprint(other, served.base, measured=trained))
    with pytest.raises(openai.ConflictError, match="not the trained one"):
        served.client.chat.completions.create(model=model, messages=QUESTION)
    assert served.row(model).state == "refused"


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
    with httpx.stream("POST", f"{served.url}/v1/completions", json=body, headers=headers) as reply:
        next(reply.iter_lines())
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{served.url}/v1/completions", json=body | {"stream": False}, headers=headers, timeout=0.1
        )
    wait_until(
        lambda: f'mt_inference_running{{model="{BASE}"}} 0.0' in httpx.get(f"{served.url}/metrics").text, 10
    )
    text = httpx.get(f"{served.url}/metrics").text
    assert 'mt_inference_requests_total{kind="base",reason="cancelled"}' in text
