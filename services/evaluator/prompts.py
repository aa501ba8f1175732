"""Turns items into questions: which solved examples stand in front, and in what form a model is asked.

A model that was never instructed sees examples as earlier turns of the conversation; an instructed or tuned one sees none.
An example never comes from the group of the item that is asked. The choice depends on the seed and the files alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from model_training.config.catalogue import find_model
from model_training.contracts.evaluations import (
    CallCheck,
    EvaluationItem,
    PromptSpec,
    TextCheck,
    UnitTestCheck,
)
from model_training.datasets.rows import TrainingRow

AUTO_SHOTS = 4
"""Examples for a model that was never instructed, with `shots="auto"`."""
_SHORT = 100
"""Characters of question and answer together below which an example is never too long."""
MIN_FUNCTION_TOKENS = 256
"""A whole function needs more room than an expression; unit-test items get at least this many tokens."""
COMPLETION_STOPS = ("\ndef ", "\nclass ", "\nif __name__", "\nprint(", "\nassert ", "\n@", "\n```", "\n#")


@dataclass(frozen=True)
class ModelTraits:
    """What decides how a model is asked."""

    base: str
    is_tuned: bool
    is_retrieval: bool
    right_passages: bool = False
    """Whether retrieval is told which function an item is about."""

    @property
    def is_instructed(self) -> bool:
        """Whether the base follows instructions by itself. A model that is not in the catalogue is taken to do so."""
        entry = find_model(self.base)
        return entry is None or entry.instructed


@dataclass(frozen=True)
class Question:
    """One request to a model: `messages` for a chat, or `prompt` for a plain completion."""

    messages: tuple[tuple[str, str], ...] = ()
    prompt: str | None = None
    max_tokens: int = 64
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    seed: int = 0
    about: str | None = None
    """A function: passages about anything else are not retrieved."""

    @property
    def text(self) -> str:
        """The request as people read it; the model's own template may write the turns differently."""
        return (
            self.prompt
            if self.prompt is not None
            else "\n\n".join(f"{role}: {text}" for role, text in self.messages)
        )


def shots_for(spec: PromptSpec, traits: ModelTraits, *, has_examples: bool) -> int:
    """How many examples a model is shown."""
    if spec.shots != "auto":
        return spec.shots
    return AUTO_SHOTS if has_examples and not traits.is_tuned and not traits.is_instructed else 0


class PromptBuilder:
    """Builds the question of each item."""

    def __init__(
        self, spec: PromptSpec, traits: ModelTraits, examples: Sequence[TrainingRow], *, seed: int = 0
    ) -> None:
        self._spec, self._traits = spec, traits
        self.shots = shots_for(spec, traits, has_examples=bool(examples))
        self._examples = _ordered(examples, seed) if self.shots else []
        self._by_form: dict[tuple[str, str], list[TrainingRow]] = {}

    def build(self, item: EvaluationItem) -> Question:
        """The question of one item."""
        is_function = isinstance(item.check, UnitTestCheck)
        tokens = max(self._spec.max_tokens, MIN_FUNCTION_TOKENS) if is_function else self._spec.max_tokens
        if is_function and not self._traits.is_instructed and not self._traits.is_retrieval:
            assert isinstance(item.check, UnitTestCheck)
            begun = item.check.completion if item.check.completion is not None else item.check.prompt
            return Question(prompt=begun, max_tokens=tokens, stop=tuple(item.check.stop) or COMPLETION_STOPS)
        turns = [
            turn
            for row in self.examples_for(item)
            for turn in (("user", row.question), ("assistant", row.answer))
        ]
        return Question(
            messages=(*turns, ("user", item.question)),
            max_tokens=tokens,
            temperature=self._spec.temperature,
            about=item.group if self._traits.right_passages else None,
        )

    def examples_for(self, item: EvaluationItem) -> list[TrainingRow]:
        """The examples in front of one item: of its own form first, each about another function, none about its own."""
        chosen: list[TrainingRow] = []
        groups = {item.group}
        for row in self._candidates(item):
            if len(chosen) == self.shots:
                break
            if row.group in groups or row.question.strip() == item.question.strip():
                continue
            chosen.append(row)
            groups |= {row.group} if row.group else set()
        return chosen[::-1]  # the nearest in form stands last, right before the question

    def _candidates(self, item: EvaluationItem) -> list[TrainingRow]:
        kind = "qa" if isinstance(item.check, TextCheck) else "code"
        key = (item.form, kind)
        if key not in self._by_form:
            self._by_form[key] = sorted(
                self._examples, key=lambda row: (row.form != item.form, row.kind != kind)
            )
        return self._by_form[key]

    def describe(self, items: Sequence[EvaluationItem]) -> str:
        """What was asked in which form, with the whole prompt of the first item of each suite and form of check."""
        first: dict[tuple[str, str], EvaluationItem] = {}
        for item in items:
            first.setdefault((item.suite, item.check.type), item)
        parts = [self._rules()]
        for (suite, _), item in first.items():
            question = self.build(item)
            way = "continued as plain text" if question.prompt is not None else "asked as a conversation"
            parts.append(
                f"--- {suite}, {way}, at most {question.max_tokens} tokens; item {item.id}:\n{question.text}"
            )
        return "\n\n".join(parts)

    def _rules(self) -> str:
        if self.shots:
            how = f"{self.shots} solved examples as earlier turns, of the same form first, never about the function asked"
        elif self._traits.is_tuned:
            how = "No examples: the model was tuned on questions of this form"
        elif self._traits.is_instructed:
            how = "No examples: the model follows instructions"
        else:
            how = "No examples, though the model was never instructed: name an examples_file to show some"
        which = "passages about the very function asked" if self._traits.right_passages else "passages"
        retrieval = (
            f"; {which} from the index are put into the last message" if self._traits.is_retrieval else ""
        )
        return f"{how}{retrieval}. Temperature {self._spec.temperature:g}."


def _ordered(examples: Sequence[TrainingRow], seed: int) -> list[TrainingRow]:
    """A fixed shuffle of each form's shorter third: every example costs prompt tokens at each item."""
    usable = [row for row in examples if not row.context]
    lengths: dict[str, list[int]] = {}
    for row in usable:
        lengths.setdefault(row.form, []).append(_length(row))
    third = {form: sorted(sizes)[(len(sizes) - 1) // 3] for form, sizes in lengths.items()}
    short = [row for row in usable if _length(row) <= max(third[row.form], _SHORT)]
    return sorted(
        short, key=lambda row: hashlib.sha256(f"{seed}\0{row.id}\0{row.question}".encode()).digest()
    )


def _length(row: TrainingRow) -> int:
    return len(row.question) + len(row.answer)


def needs_package(items: Sequence[EvaluationItem]) -> list[str]:
    """Packages that the items' answers call, sorted."""
    return sorted({item.check.package for item in items if isinstance(item.check, CallCheck)})
