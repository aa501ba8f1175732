"""Compare base, retrieval, the tuned model and both: build the index, queue the comparison, follow it, keep the report.

The work is done by the platform's comparator; this starts a platform on this machine where none runs. Also a program:
`python model_training/comparison_service/main.py`, and `mt compare` with options.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import yaml
from pydantic import ValidationError
from rich.markup import escape
from rich.text import Text

from model_training.cli.console import err, out, print_table, run_script
from model_training.cli.progress import watch
from model_training.cli.session import connect
from model_training.client.client import Client
from model_training.client.data import data_files, upload_data
from model_training.client.outputs import write_bytes
from model_training.comparison_service.changes import changes
from model_training.config.comparison_config import ComparisonConfig
from model_training.contracts.comparisons import (
    ArmSpec,
    Comparison,
    ComparisonCreate,
    ComparisonReport,
    Prices,
    Profile,
    ReportFormat,
    SideBySide,
    Verdict,
)
from model_training.contracts.files import FilePurpose
from model_training.contracts.jobs import JobState
from model_training.contracts.judges import JudgeSpec
from model_training.contracts.models import ModelObject
from model_training.errors import UserError
from model_training.testing_service.main import prompt_of, resolve_model, suites_in, suites_of

SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class ComparisonResult:
    """A finished comparison with its report in three forms and every answer side by side."""

    comparison: Comparison
    report: ComparisonReport
    answers: tuple[SideBySide, ...]
    report_html: Path
    report_md: Path
    report_json: Path

    @property
    def verdict(self) -> Verdict:
        """What to deploy, and how sure that is."""
        return self.report.verdict

    @property
    def report_path(self) -> Path:
        """The report for people."""
        return self.report_html


def main(config: ComparisonConfig | None = None) -> ComparisonResult:
    """Compare as the configuration says and return what came out.

    Raises:
        UserError: data or model cannot be used, the platform cannot start, or a job failed.
    """
    config = config or ComparisonConfig.create_default()
    config.check()
    with connect() as client:
        request = prepare(client, config)
        queued = client.comparisons.create(request)
        watch(client, queued.id, title=f"compare {len(request.arms)} arms")
        result = collect(client, queued.id, Path(config.output_dir))
    _print(result)
    return result


def reproduce(comparison_id: str, config: ComparisonConfig) -> ComparisonResult:
    """Ask for a comparison again, exactly as it was asked for, and print what came out otherwise.

    Evaluations that the first run was given are run anew where the suites are known: a copy would reproduce itself.

    Raises:
        UserError: there is no finished comparison of that id, or the new one failed.
    """
    with connect() as client:
        first = client.comparisons.get(comparison_id)
        if first.request is None or first.report is None:
            raise UserError(
                f"{comparison_id} has no report to compare with; its state is {first.state.value}.",
                hint=f"mt jobs watch {comparison_id} follows it.",
            )
        queued = client.comparisons.create(_anew(first.request, comparison_id))
        watch(client, queued.id, title=f"repeat {comparison_id}")
        result = collect(client, queued.id, Path(config.output_dir))
        before = list(client.comparisons.items(comparison_id))
    for sentence in changes(first.report, result.report, before, result.answers):
        out.print(escape(sentence), soft_wrap=True)
    out.print(f"Report: {result.report_path}", soft_wrap=True)
    return result


def _anew(request: ComparisonCreate, of: str) -> ComparisonCreate:
    arms = (
        [arm.model_copy(update={"evaluation": None}) for arm in request.arms]
        if request.suites
        else request.arms
    )
    return request.model_copy(update={"arms": arms, "metadata": {**request.metadata, "repeats": of}})


def prepare(client: Client, config: ComparisonConfig) -> ComparisonCreate:
    """Everything that the comparison needs: index, models, items; the request that names them."""
    tuned = _tuned(client, config) if any("tuned" in arm for arm in config.arms) else None
    searches = any("rag" in arm or "oracle" in arm for arm in config.arms)
    index = _index(client, config) if searches else None
    names = config.benchmark_suite
    if not names and not config.test_queries and config.evaluation_file is not None:
        names = sorted(suites_in(config.evaluation_file))
    return ComparisonCreate(
        arms=make_arms(config, tuned, index),
        suites=suites_of(client, names, config.evaluation_file, config.limit),
        test_queries=config.test_queries,
        prompt=prompt_of(client, config.shots, config.examples_file, config.max_tokens),
        blocks=config.blocks,
        stop_early=config.stop_early,
        budget_usd=config.budget_usd,
        prices=Prices(
            machine_hour_usd=config.machine_hour_usd,
            electricity_kwh_usd=config.electricity_kwh_usd,
            machine_watts=config.machine_watts,
            wrong_answer_usd=config.wrong_answer_usd,
        ),
        profiles=[read_profile(path) for path in config.profiles],
        judge=JudgeSpec(model=config.judge, items=config.judge_items) if config.judge else None,
        alpha=config.alpha,
        smallest_useful_difference=config.smallest_useful_difference,
        training_job=config.training_job or (tuned.job_id if tuned else None),
        seed=config.seed,
    )


def collect(client: Client, comparison_id: str, directory: Path) -> ComparisonResult:
    """The result of a comparison that is done, with its report written into a directory."""
    comparison = client.comparisons.get(comparison_id)
    paths = {
        fmt: write_bytes(directory / f"report.{fmt}", client.comparisons.report(comparison_id, fmt))
        for fmt in get_args(ReportFormat)
    }
    return ComparisonResult(
        comparison=comparison,
        report=ComparisonReport.model_validate_json(paths["json"].read_bytes()),
        answers=tuple(client.comparisons.items(comparison_id)),
        report_html=paths["html"],
        report_md=paths["md"],
        report_json=paths["json"],
    )


def read_profile(path: str) -> Profile:
    """A use of the answers, from a YAML file like those in `services/comparator/profiles`.

    Raises:
        UserError: the file cannot be read, or a field of it is unknown or wrong.
    """
    try:
        return Profile.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"profiles: {path} cannot be read: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise UserError(f"profiles: {path} is no YAML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise UserError(
            f"profiles: {path}, {field}: {first['msg']}.", hint=f"Fields: {', '.join(Profile.model_fields)}."
        ) from error


def _tuned(client: Client, config: ComparisonConfig) -> ModelObject | None:
    if config.trained_model is not None:
        return client.models.get(resolve_model(client, config.trained_model, "trained_model"))
    newest = client.models.newest_tuned(config.base_model)
    if newest is None:
        err.print(
            f"No tuned model of {config.base_model} yet: the tuned arms are left out. `mt train` makes one."
        )
    return newest


def _index(client: Client, config: ComparisonConfig) -> str:
    """The name of an index over the chunks; one that was built from the same content is used again."""
    if config.index is not None:
        return config.index
    content = hashlib.sha256()
    for path in data_files(config.chunks_path, "chunks_path"):
        content.update(path.read_bytes())
    name = f"chunks-{content.hexdigest()[:16]}"
    ready = [
        i for i in client.indexes.list(limit=100).data if i.name == name and i.state == JobState.SUCCEEDED
    ]
    if not ready:
        file = upload_data(client, config.chunks_path, FilePurpose.CHUNKS, field="chunks_path")
        watch(client, client.indexes.create(name, [file.id]).id, title="index")
    return name


def make_arms(config: ComparisonConfig, tuned: ModelObject | None, index: str | None) -> list[ArmSpec]:
    """The arms that can be had.

    Raises:
        UserError: none can.
    """
    models = {"base": config.base_model, "tuned": tuned.id if tuned else None}
    arms: list[ArmSpec] = []
    for arm in config.arms:
        model = models["tuned" if "tuned" in arm else "base"]
        if model is not None:
            is_bound = "oracle" in arm
            name = f"rag:{index}@{model}" if is_bound or "rag" in arm else model
            arms.append(ArmSpec(name=arm, model=name, passages="right" if is_bound else "searched"))
    arms += [ArmSpec(name=f"external:{name}", model=f"external:{name}") for name in config.endpoints]
    if not arms:
        raise UserError(
            f"arms = {config.arms}: all of them need a tuned model of {config.base_model}, and there is none.",
            hint="Train one with `mt train`, or set trained_model.",
        )
    return arms


def _print(result: ComparisonResult) -> None:
    if any(arm.n for arm in result.report.arms):
        _print_arms(result)
    for item in () if result.verdict.items_available else result.answers:
        _print_answers(item)
    for bound in result.report.bounds:
        out.print(escape(bound.words), soft_wrap=True)
    if result.report.judge is not None:
        out.print(escape(result.report.judge.words), soft_wrap=True)
    verdict = result.verdict
    chosen = f"[bold]{verdict.recommended}[/] ({verdict.confidence}): " if verdict.recommended else ""
    out.print(f"{chosen}{escape(verdict.reason)}", soft_wrap=True)
    out.print(f"Report: {result.report_path}", soft_wrap=True)


def _print_answers(item: SideBySide) -> None:
    """One free question with every arm's answer; all of it is in the report."""
    out.print(Text(item.question, style="bold"), soft_wrap=True)
    for arm, answer in item.answers.items():
        text = " ".join(answer.output.split())
        shown = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
        out.print(Text.assemble((f"  {arm}: ", "cyan"), shown or "(no answer)"), soft_wrap=True)


def _print_arms(result: ComparisonResult) -> None:
    print_table(
        ("arm", "items", "passed", "rate", "95% interval", "median answer"),
        (
            (
                a.name,
                a.n,
                a.correct,
                f"{a.pass_rate:.1%}",
                f"{a.ci_low:.1%} to {a.ci_high:.1%}",
                f"{a.latency_p50_s:.2f} s",
            )
            for a in result.report.arms
        ),
        "No arm answered.",
    )


if __name__ == "__main__":
    sys.exit(run_script(main))
