"""How to evaluate one model: which model, which suites, how questions are put, what it is held against."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, field_validator

from model_training.config.base_config import BaseConfig, Fault, refuse

SuiteName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
PUBLIC_SUITES = frozenset({"humaneval"})
"""Suites that come with their own items; all others are found in `evaluation_file` by the items' `suite`."""
MADE_SUITES = frozenset({"robustness", "consistency"})
"""Suites that are made of the other items of `evaluation_file`."""

OWN_METRICS = ("embedding_similarity", "reference_perplexity")
HUGGING_FACE_METRIC = r"evaluate:[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)?"


class EvaluationConfig(BaseConfig):
    """Settings of one evaluation."""

    kind: ClassVar[str] = "evaluation"
    also_known_as: ClassVar[dict[str, str]] = {
        "model_name": "model",
        "suites": "benchmark_suite",
        "benchmarks": "benchmark_suite",
        "num_fewshot": "shots",
        "max_new_tokens": "max_tokens",
    }

    model: str = Field(default="gemma-3-270m", min_length=1)
    """What to evaluate: a base (`gemma-3-270m`), a tuned id (`model_…`), or `rag:<index>@<model>`."""
    model_path: str | None = Field(default=None, min_length=1)
    """A folder with a tuned model; it is imported first and evaluated instead of `model`. A model's id does as well."""
    benchmark_suite: list[SuiteName] = Field(default=["code_generation", "qa_accuracy"], min_length=1)
    """Suites to run, each name once: `humaneval`, or names that the items of `evaluation_file` carry."""
    evaluation_file: str | None = Field(default="data/evaluation", min_length=1)
    """JSON Lines file with evaluation items, or a folder with such files. None: only suites with items of their own."""
    limit: int | None = Field(default=None, ge=1)
    """Use at most so many items of each suite, chosen by `seed`. None uses all."""
    shots: Literal["auto"] | int = "auto"
    """Solved examples in front of each question. `auto` shows some to a model that was never instructed."""
    examples_file: str | None = Field(default=None, min_length=1)
    """Training rows that the examples are taken from; never from the items. None: `data/training` where it exists."""
    max_tokens: int = Field(default=64, ge=1, le=4096)
    """Longest answer in tokens."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """Randomness of the answers; 0 takes the likeliest word each time."""
    samples: int = Field(default=1, ge=1, le=200)
    """Answers to each question, for pass@k and pass^k. More than one needs a temperature above 0."""
    metrics: list[str] = Field(default=[], max_length=20)
    """Scores beside the suites' own: `embedding_similarity`, `reference_perplexity`, `evaluate:<name>` (Hugging Face's)."""
    baseline: str | None = Field(default=None, min_length=1)
    """A model or an earlier evaluation (`eval_…`) to compare with, item by item."""
    largest_regression: float = Field(default=0.02, ge=0, le=1)
    """How far a suite's rate may fall below the baseline's before the evaluation says that it got worse."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Seed of the choice of items and examples."""
    output_dir: str = Field(default="runs/evaluation", min_length=1)
    """Where the results are written."""

    @field_validator("benchmark_suite")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        for name in value:
            if value.count(name) > 1:
                raise refuse(f"names {name} twice")
        return value

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, value: list[str]) -> list[str]:
        for name in value:
            if name not in OWN_METRICS and not re.fullmatch(HUGGING_FACE_METRIC, name):
                raise refuse(f"has {name!r}, which is none of {', '.join(OWN_METRICS)} and evaluate:<name>")
        return value

    @field_validator("shots")
    @classmethod
    def _few(cls, value: Literal["auto"] | int) -> Literal["auto"] | int:
        if isinstance(value, int) and not 0 <= value <= 64:
            raise refuse("must be from 0 to 64, or 'auto'")
        return value

    @property
    def evaluated_model(self) -> str:
        """What is evaluated: `model_path` when it is set, otherwise `model`."""
        return self.model_path or self.model

    def rules(self) -> Iterator[Fault]:
        """Suites without items of their own need a file, and several answers need chance."""
        if self.samples > 1 and self.temperature == 0:
            rule = "needs a temperature above 0, or all answers are equal"
            yield Fault("samples", rule, self.samples, "Set temperature to 0.8, for example.")
        own = [name for name in self.benchmark_suite if name not in PUBLIC_SUITES]
        if own and self.evaluation_file is None:
            rule = f"{own[0]} finds its items in evaluation_file, which is not set"
            yield Fault(
                "benchmark_suite", rule, self.benchmark_suite, "Set evaluation_file, or run humaneval only."
            )
