"""How to compare ways to answer: the arms, the questions, what compute costs, and what counts as a difference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, field_validator

from model_training.config.base_config import BaseConfig, Fault, refuse
from model_training.config.catalogue import find_model, unknown_model_hint
from model_training.config.evaluation_config import PUBLIC_SUITES, SuiteName

ArmName = Literal["base", "rag", "tuned", "tuned+rag", "oracle", "tuned+oracle"]
Query = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=50_000)]


class ComparisonConfig(BaseConfig):
    """Settings of one comparison."""

    kind: ClassVar[str] = "comparison"
    also_known_as: ClassVar[dict[str, str]] = {
        "queries": "test_queries",
        "questions": "test_queries",
        "model": "base_model",
        "model_name": "base_model",
        "model_path": "trained_model",
        "suites": "benchmark_suite",
        "chunks": "chunks_path",
    }

    test_queries: list[Query] = Field(default=[])
    """Free questions that every arm answers, shown side by side. They have no reference and decide nothing."""
    benchmark_suite: list[SuiteName] = Field(default=[])
    """Suites that the verdict stands on: `humaneval`, or names that the items of `evaluation_file` carry. May be empty
    when there are `test_queries`; with neither, the suites of `evaluation_file` are used."""
    evaluation_file: str | None = Field(default="data/evaluation", min_length=1)
    """JSON Lines file with evaluation items, or a folder with such files."""
    limit: int | None = Field(default=None, ge=1)
    """Use at most so many items of each suite, chosen by `seed`. None uses all."""
    arms: list[ArmName] = Field(default=["base", "rag", "tuned", "tuned+rag"], min_length=1)
    """Ways to answer: the base alone, the base with retrieval, the tuned model, the tuned model with retrieval. `oracle` and
    `tuned+oracle` are given the right passages, to show what better search could reach; they are never recommended."""
    endpoints: list[str] = Field(default=[], max_length=20)
    """Endpoints of others that answer too, by the name that `mt endpoints add` gave them."""
    blocks: int = Field(default=1, ge=1, le=20)
    """Parts that the items are asked in, every arm in each, in random order: drift of the machine hits all arms alike."""
    stop_early: bool = False
    """Look after each block, and stop once the verdict is settled. The risk of an error stays `alpha`."""
    budget_usd: float | None = Field(default=None, ge=0)
    """Start no further block once the answers have cost so much."""
    judge: str | None = Field(default=None, min_length=1)
    """A model that says which answers are clearer, more complete and more useful: a served one, or `external:NAME`. It is
    shown beside the verdict and decides nothing."""
    judge_items: int = Field(default=50, ge=1, le=1000)
    """Items that the judge sees; with four arms each takes up to twelve calls."""
    base_model: str = "gemma-3-270m"
    """The base of all arms: a name of the catalogue or its hub id."""
    trained_model: str | None = Field(default=None, min_length=1)
    """The tuned model: an id (`model_…`) or a folder, which is imported. None: the newest one of `base_model`; where there
    is none, the tuned arms are left out and the report says so."""
    training_job: str | None = Field(default=None, min_length=1)
    """The job (`ftjob_…`) whose time and cost count for the tuned arms. None: the job of `trained_model`."""
    chunks_path: str = Field(default="data/chunks", min_length=1)
    """Passages for retrieval: a JSON Lines file, or a folder with such files."""
    index: str | None = Field(default=None, min_length=1)
    """An index that exists already, by name or id; then `chunks_path` is not read."""
    shots: Literal["auto"] | int = "auto"
    """Solved examples in front of each question. `auto` shows some to a model that was never instructed."""
    examples_file: str | None = Field(default=None, min_length=1)
    """Training rows that the examples are taken from; never from the items. None: `data/training` where it exists."""
    max_tokens: int = Field(default=64, ge=1, le=4096)
    """Longest answer in tokens."""
    machine_hour_usd: float = Field(default=0.10, ge=0, le=10_000)
    """What an hour of the machine costs in US dollars; the default is a small two-core cloud machine."""
    electricity_kwh_usd: float = Field(default=0.0, ge=0, le=1e6)
    """What a kilowatt-hour costs, for a machine of your own; counts with `machine_watts`."""
    machine_watts: float = Field(default=0.0, ge=0, le=1e6)
    """What the machine draws while it answers."""
    wrong_answer_usd: float = Field(default=0.0, ge=0, le=1e6)
    """What a wrong answer costs you in US dollars; 0 leaves quality out of the break-even."""
    profiles: list[str] = Field(default=[], max_length=20)
    """YAML files with uses of your own, shown beside `ide_assistant`, `docs_qa`, `batch_codegen` and `on_prem_small_gpu`:
    what right and wrong answers, waiting and renewal cost there."""
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """Risk of calling a difference real that is none, over all pairs of arms together."""
    smallest_useful_difference: float = Field(default=0.05, gt=0, lt=1)
    """Difference in rate below which the cheaper arm is recommended."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Seed of the choice of items and examples and of the resampling."""
    output_dir: str = Field(default="runs/comparison", min_length=1)
    """Where `report.html`, `report.md` and `report.json` are written."""

    @field_validator("base_model")
    @classmethod
    def _known_model(cls, value: str) -> str:
        entry = find_model(value)
        if entry is None:
            raise refuse("is not in the catalogue", unknown_model_hint(value))
        return entry.name

    @field_validator("arms", "benchmark_suite", "test_queries", "endpoints")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        for name in value:
            if value.count(name) > 1:
                raise refuse(f"names {name!r} twice")
        return value

    @field_validator("shots")
    @classmethod
    def _few(cls, value: Literal["auto"] | int) -> Literal["auto"] | int:
        if isinstance(value, int) and not 0 <= value <= 64:
            raise refuse("must be from 0 to 64, or 'auto'")
        return value

    def rules(self) -> Iterator[Fault]:
        """There must be something to ask, and a tuned model needs an arm that uses it."""
        own = [name for name in self.benchmark_suite if name not in PUBLIC_SUITES]
        if self.evaluation_file is None and own:
            rule = f"{own[0]} finds its items in evaluation_file, which is not set"
            yield Fault(
                "benchmark_suite", rule, self.benchmark_suite, "Set evaluation_file, or run humaneval only."
            )
        if self.evaluation_file is None and not self.benchmark_suite and not self.test_queries:
            rule = (
                "is not set, and there are neither test_queries nor a benchmark_suite: nothing would be asked"
            )
            yield Fault("evaluation_file", rule, None, "Set one of the three.")
        if (self.stop_early or self.budget_usd is not None) and self.blocks == 1:
            yield Fault(
                "blocks", "to stop early, the items must come in several blocks", 1, "Set blocks = 4."
            )
        if all("oracle" in arm for arm in self.arms) and not self.endpoints:
            rule = "all of them are given the right passages, so none can be recommended"
            yield Fault("arms", rule, self.arms, "Add 'rag'.")
        if self.trained_model is not None and not any("tuned" in arm for arm in self.arms):
            yield Fault("trained_model", "no arm uses it", self.trained_model, "Add 'tuned' to arms.")
