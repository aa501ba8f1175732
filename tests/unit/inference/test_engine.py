"""The engine against transformers' own `generate` and against itself: batching must never change an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from libs.common.testing.tiny_gemma import WINDOW, write_tiny_adapter, write_tiny_gemma
from services.inference.domain.generation import Generation, ModelRefused, Piece, QueueFull, ServedModel
from services.inference.engines.transformers_engine import TransformersEngine

PROMPTS = [
    "Question: what is a list?\nAnswer:",
    "Hi",
    "Question: " + "the longest of them all, longer than window and chunk, " * 3 + "\nAnswer:",
    "def chunked(",
    "Question: what is a list?\nAnswer: it is\n\nQuestion: and a set?\nAnswer:",
    "1 2 3 4 5 6 7 8 9 10 11 12 13 14",
]


def request(tokenizer: Any, text: str, **changes: Any) -> Generation:
    return replace(Generation("tiny", tuple(tokenizer.encode(text).ids), 24), **changes)


async def answer(engine: TransformersEngine, generation: Generation) -> tuple[str, Piece]:
    pieces = [piece async for piece in engine.generate(generation)]
    return "".join(piece.text for piece in pieces), pieces[-1]


def answers(engine: TransformersEngine, generations: Sequence[Generation]) -> list[str]:
    async def all_at_once() -> list[str]:
        return [text for text, _ in await asyncio.gather(*(answer(engine, g) for g in generations))]

    return asyncio.run(all_at_once())


def reference(model: Any, tokenizer: Any, generation: Generation) -> str:
    ids = torch.tensor([generation.prompt])
    with torch.inference_mode():
        out = model.generate(
            ids, max_new_tokens=generation.max_tokens, do_sample=False, eos_token_id=None, pad_token_id=0
        )
    return tokenizer.decode(out[0, ids.shape[1] :].tolist())


def test_a_batch_gives_what_transformers_gives_alone(
    engine: TransformersEngine, model: Any, tokenizer: Any
) -> None:
    generations = [request(tokenizer, text) for text in PROMPTS]
    assert max(len(g.prompt) for g in generations) > 2 * WINDOW
    expected = [reference(model, tokenizer, g) for g in generations]
    assert len(set(expected)) == len(expected), "the reference must tell the prompts apart"
    assert answers(engine, generations) == expected
    assert answers(engine, list(reversed(generations))) == list(reversed(expected))


def test_more_requests_than_rows_and_two_models_at_once(engine: TransformersEngine, tokenizer: Any) -> None:
    wanted = [
        request(tokenizer, PROMPTS[i % 6], max_tokens=4 + i, model=("tiny", "tuned")[i % 2])
        for i in range(14)
    ]
    alone = [answers(engine, [generation])[0] for generation in wanted]
    assert answers(engine, wanted) == alone
    assert alone[0] != alone[6]


def test_a_prompt_that_begins_like_another_is_not_read_again(
    engine: TransformersEngine, model: Any, tokenizer: Any
) -> None:
    shots = "Question: a b c?\nAnswer: one two three, as shown above.\n\n" * 4
    generations = [request(tokenizer, f"{shots}Question: {i}?\nAnswer:", max_tokens=6) for i in range(5)]
    before = replace(engine.states()["tiny"].counters)
    first = answers(engine, generations)
    after = engine.states()["tiny"].counters
    read = (after.prompt_tokens - before.prompt_tokens) - (after.reused_tokens - before.reused_tokens)
    assert read < 2 * len(generations[0].prompt), "the common beginning was read more than once"
    assert first == [reference(model, tokenizer, g) for g in generations]
    assert [answers(engine, [g])[0] for g in generations] == first


def test_seeds_make_a_draw_repeatable_alone_and_in_a_batch(
    engine: TransformersEngine, tokenizer: Any
) -> None:
    drawn = [
        request(tokenizer, text, temperature=1.2, top_p=p, seed=seed)
        for text, p, seed in [(PROMPTS[0], 0.9, 7), (PROMPTS[1], 1.0, 7), (PROMPTS[0], 0.9, 8)]
    ]
    together = answers(engine, drawn)
    assert together == [answers(engine, [g])[0] for g in drawn]
    assert together[0] != together[2]


def test_stop_texts_and_stop_ids_end_an_answer(
    engine: TransformersEngine, model: Any, tokenizer: Any
) -> None:
    whole = answers(engine, [request(tokenizer, PROMPTS[0])])[0]
    stop = whole[5:8]
    text, last = asyncio.run(answer(engine, request(tokenizer, PROMPTS[0], stop=(stop,))))
    assert (text, last.finish_reason) == (whole[: whole.index(stop)], "stop")
    with torch.inference_mode():
        first = int(model(torch.tensor([tokenizer.encode(PROMPTS[0]).ids])).logits[0, -1].argmax())
    text, last = asyncio.run(answer(engine, request(tokenizer, PROMPTS[0], stop_ids=frozenset([first]))))
    assert (text, last.finish_reason, last.completion_tokens) == ("", "stop", 1)
    _, last = asyncio.run(answer(engine, request(tokenizer, PROMPTS[0], max_tokens=3)))
    assert (last.finish_reason, last.completion_tokens) == ("length", 3)


@pytest.fixture(scope="module")
def model(tiny: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)


def test_engines_that_load_at_once_leave_models_tied(tiny: Path) -> None:
    engines = [TransformersEngine(dtype="float32") for _ in range(2)]
    served = ServedModel("tiny", "tiny-gemma", tiny)

    def load_often(engine: TransformersEngine) -> None:
        for number in range(5):
            engine._bases.clear()
            engine.load(replace(served, name=f"tiny-{number}"), str)

    with ThreadPoolExecutor(len(engines)) as pool:
        list(pool.map(load_often, engines))
    for engine in engines:
        engine.close()
    later = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    assert later.lm_head.weight.data_ptr() == later.get_input_embeddings().weight.data_ptr()


def test_a_client_that_leaves_frees_its_place(engine: TransformersEngine, tokenizer: Any) -> None:
    async def leave_early() -> None:
        stream = engine.generate(request(tokenizer, PROMPTS[0], max_tokens=400))
        await anext(stream)
        assert engine.states()["tiny"].running == 1
        await stream.aclose()
        for _ in range(200):
            if engine.states()["tiny"].running == 0:
                return
            await asyncio.sleep(0.01)
        pytest.fail("the row was not freed")

    asyncio.run(leave_early())


def test_a_full_queue_says_when_to_come_back(engine: TransformersEngine, tokenizer: Any) -> None:
    async def flood() -> list[Any]:
        return await asyncio.gather(
            *(answer(engine, request(tokenizer, PROMPTS[0], max_tokens=60)) for _ in range(30)),
            return_exceptions=True,
        )

    results = asyncio.run(flood())
    refused = [result for result in results if isinstance(result, QueueFull)]
    assert refused
    assert refused[0].retry_after_s
    assert len({result[0] for result in results if not isinstance(result, BaseException)}) == 1


def test_merging_equals_peft_unmerged(
    engine: TransformersEngine, tiny: Path, tiny_adapter: Path, tokenizer: Any
) -> None:
    ids = tokenizer.encode(PROMPTS[4]).ids
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32), tiny_adapter
    )
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    expected = logits.gather(-1, torch.tensor(ids[1:]).unsqueeze(-1)).squeeze(-1)
    served = torch.tensor(engine.score("tuned", [ids])[0])
    assert torch.allclose(served, expected, atol=1e-4)
    assert not torch.allclose(served, torch.tensor(engine.score("tiny", [ids])[0]), atol=1e-2)


def test_an_adapter_shares_what_it_does_not_change(engine: TransformersEngine) -> None:
    base, tuned = (engine._lanes[name]._model for name in ("tiny", "tuned"))
    assert tuned.lm_head.weight.data_ptr() == base.lm_head.weight.data_ptr()
    assert tuned.model.norm.scale.data_ptr() == base.model.norm.scale.data_ptr()
    assert (
        tuned.model.layers[0].mlp.up_proj.weight.data_ptr()
        != base.model.layers[0].mlp.up_proj.weight.data_ptr()
    )


def test_an_adapter_of_another_shape_is_refused_even_unchecked(
    engine: TransformersEngine, tiny: Path, tmp_path: Path
) -> None:
    adapter = write_tiny_adapter(tmp_path / "adapter", write_tiny_gemma(tmp_path / "other", hidden=32))
    with pytest.raises(ModelRefused, match="does not have the shape of the base's weight"):
        engine.load(ServedModel("wrong", "tiny-gemma", tiny, adapter), str)
    (adapter / "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelRefused, match="cannot be read"):
        engine.load(ServedModel("wrong", "tiny-gemma", tiny, adapter), str)
    assert "wrong" not in engine.states()


def test_a_dora_adapter_is_merged_as_peft_does(
    engine: TransformersEngine, tiny: Path, tokenizer: Any, tmp_path: Path
) -> None:
    base: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    model: Any = get_peft_model(
        base, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", use_dora=True)
    )
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1)
        if "magnitude" in name:
            parameter.data *= 1.2
    model.save_pretrained(tmp_path)
    engine.load(ServedModel("dora", "tiny-gemma", tiny, tmp_path), tokenizer.decode)
    ids = tokenizer.encode(PROMPTS[4]).ids
    with torch.inference_mode():
        logits = model.eval()(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    expected = logits.gather(-1, torch.tensor(ids[1:]).unsqueeze(-1)).squeeze(-1)
    assert torch.allclose(torch.tensor(engine.score("dora", [ids])[0]), expected, atol=1e-3)
    engine.unload("dora")
