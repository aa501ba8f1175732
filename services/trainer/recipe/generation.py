"""Answers that a model in training writes itself, compared with those of the validation rows. The loss is no substitute: it
is low long before an answer is right to the letter."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from model_training.contracts.evaluations import EvaluationItem
from services.trainer.recipe.encode import Example
from services.trainer.recipe.loss import IGNORED

ROWS_AT_ONCE = 8
MOST_TOKENS = 512
"""Of an answer; a model that has not learnt to stop would go on."""


MOST_SAMPLES = 5
MOST_CHARACTERS = 600
"""Of each text of a sample: samples are for people to look at."""


PassRate = Callable[[Sequence[tuple[EvaluationItem, str]]], float | None]
"""Which share of answers pass their items' checks; None where nobody can try them."""


@dataclass(frozen=True)
class Sample:
    """An answer beside the one that was wanted, for people."""

    question: str
    wanted: str
    answer: str


def _no_one(_: Sequence[Sample]) -> None:
    """Nobody looks."""


def untried(_: Sequence[tuple[EvaluationItem, str]]) -> float | None:
    """Nobody tries the answers."""


@torch.no_grad()
def generation_metrics(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    show: Callable[[Sequence[Sample]], None] = _no_one,
    pass_rate: PassRate = untried,
) -> dict[str, float]:
    """Greedy answers to the examples: `eval_exact_match`, the share that equals the row's answer but for outer white space,
    `eval_parses`, the share of parsing Python among the rows whose own answer is, and `eval_pass_rate`, the share that
    passes among the rows with a check, where somebody can try them. The first ones are shown."""
    references = [_text(tokenizer, _answer(example)) for example in examples]
    answers = generated(model, tokenizer, examples)
    first = zip(examples[:MOST_SAMPLES], references, answers, strict=False)
    show([_sample(tokenizer, example, wanted, answer) for example, wanted, answer in first])
    equal = [answer == reference for answer, reference in zip(answers, references, strict=True)]
    metrics = {"eval_exact_match": sum(equal) / max(1, len(equal))}
    code = [answer for answer, reference in zip(answers, references, strict=True) if _parses(reference)]
    if code:
        metrics["eval_parses"] = sum(map(_parses, code)) / len(code)
    checked = [(one.item, answer) for one, answer in zip(examples, answers, strict=True) if one.item]
    if checked and (rate := pass_rate(checked)) is not None:
        metrics["eval_pass_rate"] = rate
    return metrics


def in_words(metrics: Mapping[str, float]) -> str:
    """What was said of generated answers, to stand behind a validation loss; nothing where none were."""
    known = {"eval_exact_match": "exactly as wanted", "eval_pass_rate": "pass"}
    told = [f"{metrics[name]:.0%} {words}" for name, words in known.items() if name in metrics]
    return f"; of the answers {', '.join(told)}" if told else ""


@torch.no_grad()
def generated(model: Any, tokenizer: Any, examples: Sequence[Example]) -> list[str]:
    """The model's greedy answer to each example, without white space around it."""
    answers: list[str] = []
    for start in range(0, len(examples), ROWS_AT_ONCE):
        answers += _answers(model, tokenizer, examples[start : start + ROWS_AT_ONCE])
    return answers


def _sample(tokenizer: Any, example: Example, wanted: str, answer: str) -> Sample:
    question = _text(tokenizer, example.ids[: len(example.ids) - len(_answer(example))])
    return Sample(*(text[:MOST_CHARACTERS] for text in (question, wanted, answer)))


def _answers(model: Any, tokenizer: Any, examples: Sequence[Example]) -> list[str]:
    prompts = [example.ids[: len(example.ids) - len(_answer(example))] for example in examples]
    width = max(map(len, prompts))
    pad = tokenizer.pad_token_id or 0
    ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    settings = GenerationConfig(
        max_new_tokens=min(MOST_TOKENS, 16 + 2 * max(len(_answer(example)) for example in examples)),
        do_sample=False,
        eos_token_id=sorted({example.ids[-1] for example in examples}),
        pad_token_id=pad,
    )
    written = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
    return [_text(tokenizer, row) for row in written[:, width:].tolist()]


def _answer(example: Example) -> list[int]:
    """The learnt end of an example; the last answer of a conversation."""
    read = max((i for i, label in enumerate(example.labels) if label == IGNORED), default=-1)
    return example.ids[read + 1 :]


def _text(tokenizer: Any, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True).strip()


def _parses(text: str) -> bool:
    try:
        return bool(ast.parse(text).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
