"""One contract for every engine: same requests, same shape of answers, and the numbers that transformers and PEFT give."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from safetensors.torch import load_file, save_file

from libs.common.errors import PlatformError, Unavailable
from services.inference.domain.generation import Generation, NotOnThisEngine, Piece, QueueFull
from services.inference.metrics import EngineCollector
from tests.integration.inference.rigs import BASE, REAL_VLLM, Rig, make_rig

TEXT = "Question: what is a list in Python?\nAnswer: a row of things"
PROMPTS = [TEXT, "def chunked(", "1 2 3 4 5 6 7 8", "Question: and a set?\nAnswer:"]
SCHEMA = {"type": "object", "properties": {"n": {"enum": [1, 2, 3]}}, "required": ["n"]}

needs_vllm = pytest.mark.skipif(REAL_VLLM is None, reason="MT_TEST_VLLM names no vllm")
RIGS = [
    "transformers",
    "fake-vllm",
    pytest.param(
        "vllm", marks=[pytest.mark.slow, pytest.mark.weights, pytest.mark.timeout(1200), needs_vllm]
    ),
]


@pytest.fixture(scope="module", params=RIGS)
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with make_rig(request.param, tmp_path_factory.mktemp(request.param)) as rig:
        rig.load("tuned", rig.adapter(1), "v1")
        yield rig


def ask(rig: Rig, text: str = TEXT, **changes: Any) -> Generation:
    return replace(
        Generation(BASE, tuple([2, *rig.tokenizer.encode(text, add_special_tokens=False).ids]), 12), **changes
    )


async def pieces(rig: Rig, generation: Generation) -> list[Piece]:
    async with aclosing(rig.engine.generate(generation)) as stream:
        return [piece async for piece in stream]


def answers(rig: Rig, generations: Sequence[Generation]) -> list[list[Piece]]:
    async def together() -> list[list[Piece]]:
        return await asyncio.gather(*(pieces(rig, generation) for generation in generations))

    return asyncio.run(together())


def text_of(found: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in found)


def wait_until(true: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def distance(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(abs(a - b) for a, b in zip(left, right, strict=True)) / len(left)


def test_scores_are_those_of_transformers_and_peft(rig: Rig) -> None:
    ids = list(ask(rig).prompt)
    base, tuned = (rig.engine.score(name, [ids, ids])[1] for name in (BASE, "tuned"))
    assert len(base) == len(ids) - 1
    assert distance(base, rig.expected(ids)) < rig.tolerance
    assert distance(tuned, rig.expected(ids, rig.adapter(1))) < rig.tolerance
    assert distance(base, tuned) > 3 * rig.tolerance


def test_answers_are_the_same_in_company_and_add_up(rig: Rig) -> None:
    wanted = [ask(rig, text, model=model, logprobs=0) for text in PROMPTS for model in (BASE, "tuned")]
    alone = [answers(rig, [generation])[0] for generation in wanted]
    together = answers(rig, wanted)
    for single, batched, generation in zip(alone, together, wanted, strict=True):
        assert batched[-1].completion_tokens == sum(len(piece.scores) for piece in batched)
        assert batched[-1].completion_tokens <= generation.max_tokens
        assert [piece.finish_reason for piece in batched[:-1]] == [None] * (len(batched) - 1)
        assert (batched[-1].queued_s or 0) >= 0
        if rig.tolerance < 0.01:  # in bfloat16 two tokens may be as good as each other
            assert text_of(single) == text_of(batched)
    assert len({text_of(found) for found in alone}) > len(PROMPTS)


def test_log_probabilities_are_those_of_the_scored_text(rig: Rig) -> None:
    generation = ask(rig, logprobs=3, max_tokens=6)
    scores = [score for piece in answers(rig, [generation])[0] for score in piece.scores]
    assert len(scores) == 6
    ids = [*generation.prompt, *(score.id for score in scores)]
    scored = rig.engine.score(BASE, [ids])[0][-6:]
    assert distance([score.logprob for score in scores], scored) < max(rig.tolerance, 1e-3)
    for score in scores:
        assert [p for _, p in score.top] == sorted((p for _, p in score.top), reverse=True)
        assert score.top[0] == (score.id, score.logprob)


def test_an_answer_ends_at_its_stop_text_stop_token_and_length(rig: Rig) -> None:
    whole = answers(rig, [ask(rig, logprobs=0)])[0]
    assert whole[-1].finish_reason == "length"
    stop = text_of(whole)[4:7]
    (stopped,) = answers(rig, [ask(rig, stop=(stop,))])
    assert text_of(stopped) == text_of(whole)[: text_of(whole).index(stop)]
    assert stopped[-1].finish_reason == "stop"
    first = whole[0].scores[0].id
    (ended,) = answers(rig, [ask(rig, stop_ids=frozenset([first]))])
    assert (text_of(ended), ended[-1].finish_reason, ended[-1].completion_tokens) == ("", "stop", 1)


def test_a_seed_makes_a_draw_repeatable(rig: Rig) -> None:
    drawn = [ask(rig, temperature=1.5, top_p=0.95, seed=seed) for seed in (3, 3, 4)]
    first, second, other = (text_of(answers(rig, [generation])[0]) for generation in drawn)
    assert first == second != other


def test_a_schema_is_kept_or_refused(rig: Rig) -> None:
    generation = ask(rig, schema=SCHEMA, max_tokens=40)
    if not rig.engine.traits.guided:
        with pytest.raises(NotOnThisEngine, match="JSON schema"):
            answers(rig, [generation])
        return
    assert isinstance(json.loads(text_of(answers(rig, [generation])[0]))["n"], int)
    with pytest.raises(NotOnThisEngine):
        answers(rig, [replace(generation, schema={"type": "nonsense"})])


def test_who_leaves_frees_the_place(rig: Rig) -> None:
    async def leave() -> None:
        stream = rig.engine.generate(ask(rig, max_tokens=400))
        await anext(stream)
        assert rig.engine.busy(BASE)
        await stream.aclose()

    asyncio.run(leave())
    wait_until(lambda: not rig.engine.busy(BASE))


def test_a_full_engine_refuses_and_says_when_to_come_back(rig: Rig) -> None:
    async def flood() -> list[Any]:
        return await asyncio.gather(
            *(pieces(rig, ask(rig, max_tokens=40)) for _ in range(40)), return_exceptions=True
        )

    results = asyncio.run(flood())
    refused = [result for result in results if isinstance(result, PlatformError)]
    assert refused
    assert all(isinstance(error, QueueFull) and error.retry_after_s for error in refused)
    assert all(found[-1].finish_reason for found in results if isinstance(found, list))
    assert len(refused) < 40


def test_a_name_that_is_not_loaded_or_not_any_more_is_unavailable(rig: Rig) -> None:
    rig.load("short-lived", rig.adapter(1), "v1")
    rig.engine.unload("short-lived")
    for name in ("short-lived", "never"):
        with pytest.raises(Unavailable, match="not loaded"):
            answers(rig, [ask(rig, model=name)])


def test_another_version_under_the_same_name_answers_as_itself(rig: Rig) -> None:
    ids = list(ask(rig).prompt)
    rig.load("twice", rig.adapter(1), "v1")
    old = rig.engine.score("twice", [ids])[0]
    answers(rig, [ask(rig, model="twice")])  # and leaves its prefix in a cache
    rig.engine.unload("twice")
    rig.load("twice", rig.adapter(2), "v2")
    new = rig.engine.score("twice", [ids])[0]
    assert distance(new, rig.expected(ids, rig.adapter(2))) < rig.tolerance
    assert distance(new, old) > 3 * rig.tolerance
    rig.engine.unload("twice")


def test_the_engine_reads_texts_as_our_tokenizer_does(rig: Rig) -> None:
    found = rig.engine.tokenize(BASE, TEXT)
    assert found is None or found == rig.tokenizer.encode(TEXT, add_special_tokens=False).ids


def test_vllm_alone_serves_an_adapter_that_matches_nothing(rig: Rig) -> None:
    """Why the gate is there."""
    if rig.name == "transformers":
        pytest.skip("this engine refuses it")
    adapter = rig.adapter(3)
    path = adapter / "adapter_model.safetensors"
    tensors = {key.replace("model.layers", "model.text.layers"): t for key, t in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    rig.load("nothing", adapter, "renamed")  # "added successfully"
    ids = [list(ask(rig).prompt)]
    assert rig.engine.score("nothing", ids) == rig.engine.score(BASE, ids)


def test_what_an_engine_counts_itself_is_scraped_with_ours_and_nothing_twice(rig: Rig) -> None:
    answers(rig, [ask(rig)])
    registry = CollectorRegistry()
    collector = EngineCollector(rig.engine, registry)
    text = generate_latest(registry).decode()
    collector.close()
    samples = [line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(samples) == len(set(samples))
    names = {sample.partition("{")[0] for sample in samples}
    assert "mt_inference_steps_total" in names
    theirs = {"vllm:request_success_total", "vllm:time_to_first_token_seconds_bucket"}
    assert names & theirs == (set() if rig.name == "transformers" else theirs)
    assert not any(name.startswith(("python_", "process_")) for name in names)
