"""Evaluations: items, how each is checked, and what came out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from model_training.contracts.base import WHOLE, Flag, Metadata, Name, Number, Reference, Reply, Seed, Wire
from model_training.contracts.indexes import Source
from model_training.contracts.jobs import JobError, JobProgress, JobState
from model_training.contracts.prices import Prices


def _named(schema: dict[str, Any]) -> None:
    """A check must say its type on the wire, where nothing else tells one kind from another."""
    schema["required"] = [*schema.get("required", []), "type"]


class CallCheck(Wire):
    """The answer is one Python expression; it passes if it calls the library and its value equals `expected`.

    `expected` is a Python literal as text (`ast.literal_eval` reads it). It never enters the process that runs the answer.
    """

    model_config = ConfigDict(json_schema_extra=_named)

    type: Literal["call"] = "call"
    package: str = Field(description="Import name of the library, for example `more_itertools`.")
    imports: list[str] = Field(default=[], description="Import statements that are in force for the answer.")
    setup: list[str] = Field(
        default=[], description="Statements run before the answer, for example `data = [1, 2]`."
    )
    expected: str
    must_call: str | None = Field(default=None, description="Any function of the package when absent.")


class UnitTestCheck(Wire):
    """The answer completes `prompt` to a function; trusted code calls it and asserts (HumanEval's form).

    `test` either defines `check(candidate)` or calls the function by its name (MBPP's form).
    """

    model_config = ConfigDict(json_schema_extra=_named)

    type: Literal["unit_tests"] = "unit_tests"
    prompt: str
    entry_point: str
    test: str
    completion: str | None = Field(
        default=None, description="What a model that continues text is given instead of `prompt`."
    )
    stop: list[str] = Field(
        default=[], max_length=16, description="Where such a model's text ends; the usual places when empty."
    )


class TextCheck(Wire):
    """The answer is text, compared with the reference. `exact` compares normalised text; `f1` scores shared tokens."""

    model_config = ConfigDict(json_schema_extra=_named)

    type: Literal["text"] = "text"
    metric: Literal["exact", "f1"] = "f1"
    accept: list[str] = Field(default=[], description="Other answers that are as good as the reference.")


Check = Annotated[CallCheck | UnitTestCheck | TextCheck, Field(discriminator="type")]


class EvaluationItem(Wire):
    """One question with its reference answer and how an answer is checked."""

    id: str = Field(min_length=1, max_length=200)
    suite: str = Field(examples=["code_generation", "qa_accuracy"])
    form: str = Field(description="Kind of question: write_call, which_function, what_does, …")
    question: str = Field(min_length=1, max_length=50_000)
    answer: str = Field(description="A reference answer; for executable items one that passes.")
    group: str = Field(description="Items of one group (a function) are not independent of each other.")
    check: Check
    source: Source = Source()
    variant: str | None = Field(
        default=None, description="How its question was changed, for an item made of another."
    )
    of: str | None = Field(default=None, description="The item that this one was made of.")


class SuiteSpec(Wire):
    """A suite by name and, for your own items, their file.

    `humaneval` comes with its items, `robustness` and `consistency` change or repeat the items of a file (or HumanEval's,
    without one). Any other name is that of the file's items.
    """

    name: Name = Field(examples=["code_generation"])
    of: str | None = Field(
        default=None,
        description="Which of the file's items `robustness` and `consistency` take; all when absent.",
    )
    file: Reference | None = Field(default=None, examples=["file_01jabc"])
    limit: Annotated[int, Field(ge=1, le=1_000_000), WHOLE] | None = None


class PromptSpec(Wire):
    """How questions are put. `shots="auto"` shows examples to a model that was never instructed, and none to others."""

    shots: Literal["auto"] | Annotated[int, Field(ge=0, le=64), WHOLE] = "auto"
    examples_file: Reference | None = Field(
        default=None, description="Training file that examples are taken from."
    )
    max_tokens: Annotated[int, Field(ge=1, le=4096), WHOLE] = 64
    temperature: Annotated[Number, Field(ge=0, le=2)] = 0.0


Passages = Literal["searched", "right"]
"""What a model behind an index is shown: what the search finds, or only passages about the function that is asked about."""


class Part(Wire):
    """One of several parts of the items, to be asked at different times. Items of one group lie in the same part."""

    number: Annotated[int, Field(ge=1, le=100), WHOLE]
    of: Annotated[int, Field(ge=1, le=100), WHOLE]


Metric = Annotated[
    str,
    StringConstraints(
        max_length=100,
        pattern=r"^(embedding_similarity|reference_perplexity|evaluate:[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)?)$",
    ),
]
"""A score beside the suite's own: how near in meaning an answer is to its reference, how likely the model finds the
reference itself, or a metric of Hugging Face's `evaluate` by its name."""


class EvaluationCreate(Wire):
    """Evaluate one model: a base, a tuned id, or `rag:<index>@<model>`."""

    model: Reference = Field(examples=["gemma-3-270m", "rag:docs@gemma-3-270m"])
    suites: list[SuiteSpec] = Field(min_length=1, max_length=100)
    prompt: PromptSpec = PromptSpec()
    samples: Annotated[int, Field(ge=1, le=200), WHOLE] = Field(
        default=1, description="Answers to each question, for pass@k and pass^k; needs a temperature above 0."
    )
    passages: Passages = Field(
        default="searched",
        description="`right` searches among the passages about the function asked alone: what perfect retrieval is worth.",
    )
    metrics: list[Metric] = Field(
        default=[],
        max_length=20,
        description="Scores beside the suites' own; they cost time and decide nothing.",
        examples=[["embedding_similarity", "reference_perplexity", "evaluate:my_metric"]],
    )
    part: Part | None = Field(default=None, description="Ask a part of the items only.")
    fresh: Flag = Field(
        default=False,
        description="Ask every question anew, though its answer is kept: to measure time and cost.",
    )
    prices: Prices | None = Field(
        default=None, description="What answers cost; an endpoint's own, else an hour of a small machine."
    )
    seed: Seed = 0
    metadata: Metadata = {}


class ItemResult(Reply):
    """What became of one item. `status` tells wrong answers from answers that could not be graded."""

    item_id: str
    suite: str
    form: str
    group: str
    question: str
    prompt: str
    output: str
    extracted: str | None = None
    reference: str
    correct: bool
    score: float
    scores: dict[str, float] = {}
    status: Literal[
        "passed",
        "wrong",
        "no_answer",
        "error",
        "crashed",
        "timeout",
        "out_of_memory",
        "forbidden",
        "not_called",
        "not_graded",
    ]
    reason: str
    latency_s: float
    prompt_tokens: int
    completion_tokens: int
    sources: list[dict[str, Any]] = []
    source: Source = Source()
    sample: int = 0
    variant: str | None = None
    of: str | None = None
    cached: bool = Field(
        default=False, description="The answer was given before; its latency is that of then."
    )


class ScoreInterval(Reply):
    """A 95% interval."""

    low: float
    high: float


class SuiteSummary(Reply):
    """One suite's outcome; the interval is Wilson's at 95% for rates and a bootstrap for scores.

    With several answers to a question `scores` holds `pass@k` and `pass^k`; `robustness` and `consistency` add theirs.
    """

    suite: str
    n: int
    correct: int
    pass_rate: float
    ci_low: float
    ci_high: float
    scores: dict[str, float] = {}
    intervals: dict[str, ScoreInterval] = {}
    statuses: dict[str, int] = {}
    extraction_failed: int = Field(
        default=0, description="Answers whose form, not their content, was at fault."
    )


class EvaluationCost(Reply):
    """What the answers took, and what that costs. Answers from the cache took nothing and count in `items` alone."""

    items: int
    cached: int = 0
    machine_s: float
    prompt_tokens: int
    completion_tokens: int
    usd: float
    usd_per_item: float | None = None
    usd_per_right: float | None = None
    """Of answers that were not cached; None where none is right."""


class Evaluation(Reply):
    """An evaluation. `id` is the id of the job that runs it."""

    id: str
    object: Literal["evaluation"] = "evaluation"
    state: JobState
    created_at: datetime
    model: str
    suites: list[SuiteSummary] = []
    prompt: PromptSpec
    prompt_description: str | None = None
    isolation: str | None = None
    duration_s: float | None = None
    cost: EvaluationCost | None = None
    progress: JobProgress = JobProgress()
    error: JobError | None = None


class GradeItem(Wire):
    """One output to grade."""

    item: EvaluationItem
    output: str = Field(max_length=200_000)


class GradeRequest(Wire):
    """Grade outputs that came from anywhere."""

    items: list[GradeItem] = Field(max_length=1000)


class ItemGrade(Reply):
    """What became of one output. `extraction_failed` says that its form, not its content, was at fault."""

    item_id: str
    correct: bool
    score: float
    scores: dict[str, float] = {}
    status: Literal[
        "passed",
        "wrong",
        "no_answer",
        "error",
        "crashed",
        "timeout",
        "out_of_memory",
        "forbidden",
        "not_called",
    ]
    reason: str
    extracted: str | None = None
    extraction_failed: bool = False


class GradeReply(Reply):
    """Grades in the order of the request, and what kept the answers apart from the host."""

    data: list[ItemGrade]
    isolation: str
