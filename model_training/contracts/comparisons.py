"""Comparisons: arms over the same items, paired differences, a verdict; the shape of `report.json`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from model_training.contracts.base import Metadata, Name, Number, Reference, Reply, Seed, Wire
from model_training.contracts.evaluations import ItemResult, PromptSpec, SuiteSpec
from model_training.contracts.jobs import JobError, JobProgress, JobState


class ArmSpec(Wire):
    """One way to answer. `evaluation` reuses a finished evaluation; otherwise one is run."""

    name: Annotated[Name, Field(max_length=64)] = Field(examples=["base", "rag", "tuned", "tuned+rag"])
    model: Reference = Field(examples=["gemma-3-270m"])
    prompt: PromptSpec | None = None
    evaluation: Reference | None = None


class Prices(Wire):
    """What compute costs, in US dollars. The default is an hour of a two-core cloud machine."""

    machine_hour_usd: Annotated[Number, Field(ge=0, le=1e6)] = 0.10


class ComparisonCreate(Wire):
    """Compare arms on suites, or on free questions (`test_queries`), which are shown side by side."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [name], "properties": {name: {"minItems": 1}}}
                for name in ("suites", "test_queries")
            ]
        }
    )

    arms: list[ArmSpec] = Field(min_length=1, max_length=32)
    suites: list[SuiteSpec] = Field(default=[], max_length=100)
    test_queries: list[Annotated[str, Field(min_length=1, max_length=50_000)]] = Field(
        default=[], max_length=1000, examples=[["How do I split a list into pieces of three?"]]
    )
    prompt: PromptSpec = PromptSpec()
    prices: Prices = Prices()
    alpha: Annotated[Number, Field(gt=0, lt=0.5)] = 0.05
    smallest_useful_difference: Annotated[Number, Field(gt=0, lt=1)] = 0.05
    training_job: Reference | None = Field(
        default=None, description="Whose time and cost count for the tuned arms."
    )
    dataset: dict[str, Any] | None = Field(
        default=None, description="The data set's report, shown in the report."
    )
    seed: Seed = 0
    metadata: Metadata = {}


class ArmResult(Reply):
    """One arm's outcome over all items. Rates carry a 95% interval; latencies are in seconds, cost in US dollars."""

    name: str
    model: str
    evaluation: str | None = None
    n: int
    correct: int
    pass_rate: float
    ci_low: float
    ci_high: float
    suites: dict[str, dict[str, float]] = {}
    qa_exact_match: float | None = None
    qa_f1: float | None = None
    qa_bleu: float | None = None
    qa_rouge_l: float | None = None
    qa_chrf: float | None = None
    latency_p50_s: float
    latency_p95_s: float
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    machine_s: float | None = None
    """Seconds of the machine that the answers took; what `cost_usd` is made of."""
    effort: int = 0
    """What the arm takes to run, as a rank: base 0, retrieval 1, tuned 2, both 3."""


class PairResult(Reply):
    """The paired difference `b - a` of one metric over the same items; `a` is the simpler arm."""

    a: str
    b: str
    metric: str
    n: int
    difference: float
    ci_low: float
    ci_high: float
    p: float
    p_adjusted: float
    test: str
    only_a: int | None = None
    """Items that only `a` got right; None for scores."""
    only_b: int | None = None


class Verdict(Reply):
    """What to deploy, how sure that is, and what more evidence would take.

    `items_needed` counts items beyond those used; `items_available` those that the suites still hold.
    """

    recommended: str | None
    confidence: Literal["high", "moderate", "cannot_tell"]
    reason: str
    items_needed: int | None = None
    items_available: int
    notes: list[str] = []


class ComparisonReport(Reply):
    """`report.json`."""

    id: str
    created_at: datetime
    arms: list[ArmResult]
    pairs: list[PairResult]
    verdict: Verdict
    dataset: dict[str, Any] = {}
    training: dict[str, Any] = {}
    model: dict[str, Any] = {}
    prompts: dict[str, Any] = {}
    environment: dict[str, Any] = {}
    rules: dict[str, Any] = {}
    """What the verdict was made by: alpha, smallest useful difference, prices, seed, the primary metric."""


class SideBySide(Reply):
    """One item with every arm's answer."""

    item_id: str
    suite: str
    question: str
    reference: str
    answers: dict[str, ItemResult]


class Comparison(Reply):
    """A comparison. `id` is the id of the job that runs it."""

    id: str
    object: Literal["comparison"] = "comparison"
    state: JobState
    created_at: datetime
    arms: list[ArmSpec]
    report: ComparisonReport | None = None
    progress: JobProgress = JobProgress()
    error: JobError | None = None
