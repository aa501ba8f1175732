"""Comparisons: arms over the same items, paired differences, a verdict; the shape of `report.json`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from model_training.contracts.base import WHOLE, Flag, Metadata, Name, Number, Reference, Reply, Seed, Wire
from model_training.contracts.evaluations import ItemResult, Passages, PromptSpec, SuiteSpec
from model_training.contracts.jobs import JobError, JobProgress, JobState
from model_training.contracts.judges import JudgeReport, JudgeSpec
from model_training.contracts.prices import Dollars, Prices

Share = Annotated[Number, Field(ge=0, le=1)]


class ArmSpec(Wire):
    """One way to answer. `evaluation` reuses a finished evaluation; otherwise one is run.

    With `passages: right` it is a bound: it shows what perfect retrieval would reach, and is never recommended.
    """

    name: Annotated[Name, Field(max_length=64)] = Field(examples=["base", "rag", "tuned", "tuned+rag"])
    model: Reference = Field(
        examples=["gemma-3-270m"], description="Also `external:<name>`, an endpoint of somebody else."
    )
    prompt: PromptSpec | None = None
    evaluation: Reference | None = None
    passages: Passages = "searched"
    prices: Prices | None = Field(
        default=None, description="Where they are not the comparison's; an endpoint's own if it has some."
    )


class Profile(Wire):
    """What a use of the answers values: utility of an answer = right - wrong - waiting - what it cost to give.

    Training and indexing are paid again at each change of the library, and spread over the month's questions.
    """

    name: Annotated[Name, Field(max_length=64)] = Field(examples=["ide_assistant"])
    description: str = Field(default="", max_length=500)
    right_answer_usd: Dollars = Field(default=0.05, description="What a right answer is worth.")
    wrong_answer_usd: Dollars = Field(default=0.02, description="What a wrong answer costs.")
    waiting_hour_usd: Dollars = Field(default=0.0, description="What an hour of waiting for answers costs.")
    questions_per_month: Annotated[Number, Field(gt=0, le=1e12)] = 10_000
    changes_per_month: Annotated[Number, Field(ge=0, le=1e6)] | None = Field(
        default=None,
        description="How often the library changes, and training and index are renewed. "
        "As observed on the index's versions when absent; 1 where those do not tell.",
    )
    training_renewed: Share = Field(
        default=1.0, description="Share of the training paid again at each change."
    )
    indexing_renewed: Share | None = Field(
        default=None,
        description="Share of the indexing paid again at each change; only changed passages are. "
        "As observed when absent; 1 where nothing was.",
    )
    max_latency_p95_s: Annotated[Number, Field(gt=0, le=1e6)] | None = Field(
        default=None, description="An arm that is slower is no choice."
    )


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
    profiles: list[Profile] = Field(
        default=[], max_length=20, description="Uses of your own, beside the four that are always shown."
    )
    alpha: Annotated[Number, Field(gt=0, lt=0.5)] = 0.05
    smallest_useful_difference: Annotated[Number, Field(gt=0, lt=1)] = 0.05
    blocks: Annotated[int, Field(ge=1, le=20), WHOLE] = Field(
        default=1,
        description="Parts that the items are asked in, every arm in each part and in random order, "
        "so that drift of the machine hits all arms alike.",
    )
    stop_early: Flag = Field(
        default=False,
        description="Look after each of the `blocks`, and stop once the verdict is settled; the error stays alpha.",
    )
    budget_usd: Dollars | None = Field(
        default=None, description="Start no further block once the answers have cost so much."
    )
    judge: JudgeSpec | None = Field(
        default=None, description="A model that compares the answers' quality, beside the verdict."
    )
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
    fixed_cost_usd: float = 0.0
    """What training and indexing cost, once per version of the library."""
    cost_per_correct_usd: float | None = None
    """Cost of the answers by right answers; None where none is right."""
    evaluations: list[str] = []
    """All of them, where the items were asked in blocks."""


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


class Bound(Reply):
    """An arm that was given the right passages, beside the one that has to search for them."""

    arm: ArmResult
    of: str | None = None
    """The arm of the same model that searches, if there is one; `pair` is the bound less that arm."""
    pair: PairResult | None = None
    not_found: int | None = None
    """Items that the bound gets right and the searching arm wrong."""
    not_used: int | None = None
    """Items that are wrong though the right passage was there."""
    words: str


class RetrievalQuality(Reply):
    """How often an arm that searches was given a passage about the function asked, and what it made of it."""

    arm: str
    n: int
    """All items; where an arm was given the right passages, those that the index has such passages for."""
    found: int
    recall: float
    recall_low: float
    recall_high: float
    mrr: float
    """Mean reciprocal rank of the first right passage among those given; 0 where there is none."""
    mrr_low: float
    mrr_high: float
    right_when_found: float | None = None
    """Share of right answers where a right passage was given; None where it never was."""
    right_when_not_found: float | None = None
    passages: float
    """Given on average."""


class Look(Reply):
    """What was seen when a part of the items was in."""

    block: int
    of: int
    items: int
    level: float
    """The p-value, before adjustment for several pairs, that counts as real at this look."""
    recommended: str | None = None
    confidence: str
    cost_usd: float
    stopped: Literal["decided", "budget", "end"] | None = None
    """Why no further items were asked; None: the next block was."""


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


class BreakEven(Reply):
    """After how many questions the dearer-to-set-up arm `b` has paid for itself against `a`, with a 95% set.

    The saving per question may have either sign, so the set may hold "never" and "from the first question".
    """

    a: str
    b: str
    extra_fixed_usd: float
    saving_usd: float
    """Per question, the wrong answers' price included; negative where `b` loses."""
    saving_low: float | None
    """None: the items bound it on neither side."""
    saving_high: float | None
    questions: float | None
    """None: by the measured saving, never."""
    low: float | None
    """The fewest questions that the evidence allows; None: none, however many."""
    high: float | None
    """The most; None: there is no upper end, so "never" cannot be ruled out."""
    words: str


class MissingArm(Reply):
    """An arm that could not be asked, and why."""

    arm: str
    of: Literal["items", "questions"] = "items"
    """What it is missing from: the graded items, or the free questions alone."""
    reason: str
    hint: str | None = None


class UpkeepCost(Reply):
    """US dollars a month, training renewed whole at each change, with the interval of the rate of changes."""

    month: float
    low: float
    high: float


class Upkeep(Reply):
    """How often an index's passages changed while it was kept, and what that makes of an arm's upkeep.

    Versions of one day are one change, and a version whose passages are all the same is none.
    """

    index: str
    versions: int
    changes: int
    days: float
    """Since the first version."""
    per_month: float
    low: float
    """95% interval of `per_month`, for changes that come at random."""
    high: float
    renewed: float | None = None
    """What a change's indexing took, as a share of building it whole; None: no change was seen."""
    told: bool
    """Whether that is enough to reckon with."""
    usd: dict[str, UpkeepCost] = {}
    """By arm that uses this index, or whose model was trained."""
    words: str


class DimensionValue(Reply):
    """One arm's figure with its 95% interval; None where it is not known, or where nothing bounds it."""

    arm: str
    value: float | None = None
    low: float | None = None
    high: float | None = None


class Dimension(Reply):
    """One figure that the arms are compared in. The verdict stands on the first, the share of right answers."""

    dimension: Literal["accuracy", "performance", "quality", "consistency", "cost_effectiveness"]
    name: str
    definition: str
    unit: Literal["share", "score", "seconds", "tokens_per_second", "usd"]
    more_is_better: bool
    n: int
    """Answers of each arm that it was measured on."""
    arms: list[DimensionValue]


class KindResult(Reply):
    """One kind of question, or one source of questions: how often each arm is right there, and which it favours."""

    by: Literal["form", "package"]
    name: str
    n: int
    rates: dict[str, float]
    favours: str | None = None
    """The arm that the verdict's rules choose there, p-values adjusted over all kinds; None: not told."""
    words: str


class ProfileResult(Reply):
    """One use: what an answer of each arm is worth there, and which arm that makes the choice."""

    profile: Profile
    recommended: str | None
    utility_usd: dict[str, float]
    """By arm: dollars per 1,000 questions."""
    lead_low: float | None = None
    lead_high: float | None = None
    """95% interval of the lead over the next best, dollars per 1,000 questions."""
    renewal: str = ""
    """Where the rate of changes comes from."""
    stability: float | None = None
    """Share of 500 draws of the values, each up to about a factor of four off, in which the choice is the same."""
    excluded: dict[str, str] = {}
    words: str
    flips: list[str] = []
    """What would have to be assumed for another choice."""


class Finding(Reply):
    """Items that failed for one reason, and what to do about it."""

    kind: Literal[
        "not_found", "not_used", "lost", "form", "function", "suspect_reference", "cut_short", "unsolved"
    ]
    title: str
    count: int
    of: int
    items: list[str]
    """Ids of the first twenty."""
    advice: str


class Deployment(Reply):
    """How to put the recommended arm, or the simplest one until more is known, to work here."""

    arm: str
    model: str
    """What to name as `model` in a request."""
    steps: list[str]
    latency_p50_s: float
    latency_p95_s: float
    routes: dict[str, str] = {}
    """By kind of question: an arm that is proven better there."""
    watch: dict[str, float] = {}
    """Thresholds: below or above them, look again."""
    look_again: list[str] = []


ReportFormat = Literal["html", "md", "json", "csv", "jsonl"]
"""The report for people, a pull request and programs; its items for a spreadsheet; the questions to train on next."""


class ComparisonReport(Reply):
    """`report.json`."""

    id: str
    created_at: datetime
    arms: list[ArmResult]
    pairs: list[PairResult]
    verdict: Verdict
    missing: list[MissingArm] = []
    """Arms that failed; the verdict is about the others, and its confidence is moderate at most."""
    dataset: dict[str, Any] = {}
    training: dict[str, Any] = {}
    model: dict[str, Any] = {}
    prompts: dict[str, Any] = {}
    environment: dict[str, Any] = {}
    rules: dict[str, Any] = {}
    """What the verdict was made by: alpha, smallest useful difference, prices, seed, the primary metric."""
    break_even: list[BreakEven] = []
    upkeep: list[Upkeep] = []
    dimensions: list[Dimension] = []
    """Every dimension with its definition, an interval for each arm and, where nothing was measured, what would."""
    kinds: list[KindResult] = []
    profiles: list[ProfileResult] = []
    pareto: list[str] = []
    """Arms that no other arm beats in rate, 95th percentile of time and cost at once."""
    findings: list[Finding] = []
    deployment: Deployment | None = None
    bounds: list[Bound] = []
    retrieval: list[RetrievalQuality] = []
    looks: list[Look] = []
    """When the growing data were looked at; empty where that was not asked for."""
    judge: JudgeReport | None = None
    """What a model thinks of the answers' quality; it decides nothing."""
    leaked: list[str] = []
    """Items whose question was found in a passage that retrieval returned: then there is no verdict."""


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
    request: ComparisonCreate | None = None
    """What was asked for; the same request compares again."""
    report: ComparisonReport | None = None
    progress: JobProgress = JobProgress()
    error: JobError | None = None
