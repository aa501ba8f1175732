"""Evaluate a model: bring it in if it is a folder, upload the items, queue the job, follow it, keep every answer.

The grading is done by the platform's evaluator; this starts a platform on this machine where none runs. Also a program:
`python model_training/testing_service/main.py`, and `mt evaluate` with options.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from model_training.cli.console import out, print_table, run_script
from model_training.cli.progress import watch
from model_training.cli.session import connect
from model_training.client.client import Client
from model_training.client.data import REPOSITORY, data_files, upload_data
from model_training.client.errors import ApiError
from model_training.client.outputs import write_lines, write_text
from model_training.config.evaluation_config import MADE_SUITES, PUBLIC_SUITES, EvaluationConfig
from model_training.contracts.endpoints import EXTERNAL_PREFIX
from model_training.contracts.evaluations import (
    Evaluation,
    EvaluationCreate,
    ItemResult,
    PromptSpec,
    SuiteSpec,
    SuiteSummary,
)
from model_training.contracts.files import FilePurpose
from model_training.datasets.benchmarks import is_benchmark_file, read_benchmark
from model_training.errors import UserError


@dataclass(frozen=True)
class Regression:
    """A suite whose rate fell below the baseline's by more than the configuration allows."""

    suite: str
    rate: float
    baseline: float


@dataclass(frozen=True)
class EvaluationResult:
    """A finished evaluation. `metrics` holds `<suite>.pass_rate`, its interval and the suite's scores."""

    evaluation: Evaluation
    items: tuple[ItemResult, ...]
    metrics: dict[str, float]
    regressions: tuple[Regression, ...]
    summary_path: Path
    items_path: Path


def main(config: EvaluationConfig | None = None) -> EvaluationResult:
    """Evaluate as the configuration says and return what came out.

    Raises:
        UserError: model or items cannot be used, the platform cannot start, or the job failed.
    """
    config = config or EvaluationConfig.create_default()
    config.check()
    with connect() as client:
        model = resolve_model(client, config.evaluated_model)
        evaluation = run(client, config, model)
        items = tuple(client.evaluations.items(evaluation.id))
        regressions = _regressions(client, config, evaluation) if config.baseline else ()
    result = _keep(config, evaluation, items, regressions)
    _print(result)
    return result


def resolve_model(client: Client, named: str, field: str = "model_path") -> str:
    """The platform's name for what a person named: a folder is imported, anything else must be a model.

    Raises:
        UserError: it is neither.
    """
    folder = Path(named).expanduser()
    if folder.is_dir():
        return client.models.import_adapter(folder).id
    if named.startswith(("rag:", EXTERNAL_PREFIX)):
        return named
    try:
        if "/" not in named:
            return client.models.get(named).id
    except ApiError as error:
        if error.status != 404:
            raise
    known = (
        ", ".join(model.id for model in client.models.list().data[:5])
        or "none yet; train one with `mt train`"
    )
    raise UserError(
        f"{field} = {named!r} is neither a folder on this machine nor a model of the platform.",
        hint=f"Name a folder with an adapter, or one of these models: {known}.",
    )


def run(client: Client, config: EvaluationConfig, model: str) -> Evaluation:
    """Queue one evaluation and follow it to its end."""
    request = EvaluationCreate(
        model=model,
        suites=suites_of(client, config.benchmark_suite, config.evaluation_file, config.limit),
        prompt=prompt_of(client, config.shots, config.examples_file, config.max_tokens).model_copy(
            update={"temperature": config.temperature}
        ),
        samples=config.samples,
        metrics=config.metrics,
        seed=config.seed,
    )
    queued = client.evaluations.create(request)
    watch(client, queued.id, title=f"evaluate {model}")
    return client.evaluations.get(queued.id)


def suites_of(client: Client, names: list[str], file: str | None, limit: int | None) -> list[SuiteSpec]:
    """The suites by name, with their items uploaded.

    Raises:
        UserError: the file has no item of a suite.
    """
    own = [name for name in names if name not in PUBLIC_SUITES]
    uploaded: str | None = None
    if own and file is not None and is_benchmark_file(Path(file)):
        uploaded = _upload_benchmark(client, Path(file), [name for name in own if name not in MADE_SUITES])
    elif own and file is not None:
        present = suites_in(file)
        for name in own:
            if name not in present and name not in MADE_SUITES:
                raise UserError(
                    f"benchmark_suite names {name!r}, and {file} has no item of it.",
                    hint=f"It has {', '.join(sorted(present)) or 'no items'}; {', '.join(PUBLIC_SUITES)} needs no file.",
                )
        uploaded = upload_data(client, file, FilePurpose.EVALUATION, field="evaluation_file").id
    return [SuiteSpec(name=n, file=uploaded if n in own else None, limit=limit) for n in names]


def _upload_benchmark(client: Client, path: Path, suites: list[str]) -> str:
    """Upload tasks of HumanEval's or MBPP's form as items of the one suite that is asked for.

    Raises:
        UserError: several suites are asked for, or a row is faulty.
    """
    if len(suites) != 1:
        raise UserError(
            f"{path} holds tasks of one benchmark, and benchmark_suite names {len(suites)} suites for them.",
            hint="Name one, `mbpp` for example, beside those that bring their own items.",
        )
    items = read_benchmark(path, suites[0])
    with tempfile.TemporaryDirectory(prefix="mt-upload-") as directory:
        written = write_lines(Path(directory) / f"{path.stem}.jsonl", items)
        return upload_data(client, written, FilePurpose.EVALUATION, field="evaluation_file").id


def suites_in(file: str) -> set[str]:
    """The suites that the items of a file, or of a folder's files, belong to. Faulty rows are the upload's business."""
    found: set[str] = set()
    for path in data_files(file, "evaluation_file"):
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    found.add(str(json.loads(line)["suite"]))
                except (ValueError, KeyError, TypeError):
                    continue
    return found


def prompt_of(client: Client, shots: str | int, examples: str | None, max_tokens: int) -> PromptSpec:
    """How questions are put, with the rows that examples are taken from uploaded."""
    usual = "data/training"
    if examples is None and (Path(usual).is_dir() or (REPOSITORY / usual).is_dir()):
        examples = usual
    file = None
    if examples is not None and shots != 0:
        file = upload_data(client, examples, FilePurpose.FINE_TUNE, field="examples_file").id
    return PromptSpec(
        shots="auto" if isinstance(shots, str) else shots, examples_file=file, max_tokens=max_tokens
    )


def metrics_of(suites: list[SuiteSummary]) -> dict[str, float]:
    """The suites' figures under flat names."""
    flat: dict[str, float] = {}
    for suite in suites:
        flat[f"{suite.suite}.pass_rate"] = suite.pass_rate
        flat[f"{suite.suite}.ci_low"], flat[f"{suite.suite}.ci_high"] = suite.ci_low, suite.ci_high
        flat |= {f"{suite.suite}.{name}": value for name, value in suite.scores.items()}
    return flat


def _regressions(client: Client, config: EvaluationConfig, evaluation: Evaluation) -> tuple[Regression, ...]:
    assert config.baseline is not None
    if config.baseline.startswith("eval_"):
        baseline = client.evaluations.get(config.baseline)
    else:
        baseline = run(client, config, resolve_model(client, config.baseline, "baseline"))
    before = {suite.suite: suite.pass_rate for suite in baseline.suites}
    return tuple(
        Regression(suite.suite, suite.pass_rate, before[suite.suite])
        for suite in evaluation.suites
        if suite.suite in before and before[suite.suite] - suite.pass_rate > config.largest_regression
    )


def _keep(
    config: EvaluationConfig,
    evaluation: Evaluation,
    items: tuple[ItemResult, ...],
    regressions: tuple[Regression, ...],
) -> EvaluationResult:
    directory = Path(config.output_dir)
    return EvaluationResult(
        evaluation=evaluation,
        items=items,
        metrics=metrics_of(evaluation.suites),
        regressions=regressions,
        summary_path=write_text(directory / "summary.json", evaluation.model_dump_json(indent=2)),
        items_path=write_lines(directory / "items.jsonl", items),
    )


def _print(result: EvaluationResult) -> None:
    print_table(
        ("suite", "items", "passed", "rate", "95% interval"),
        (
            (s.suite, s.n, s.correct, f"{s.pass_rate:.1%}", f"{s.ci_low:.1%} to {s.ci_high:.1%}")
            for s in result.evaluation.suites
        ),
        "No suite had an item.",
    )
    cost = result.evaluation.cost
    if cost is not None and cost.usd_per_item is not None:
        right = f", ${1000 * cost.usd_per_right:.2g} per 1,000 right ones" if cost.usd_per_right else ""
        cached = f"; {cached} answers came from the cache" if (cached := cost.cached) else ""
        out.print(
            f"{cost.machine_s:.0f} s of machine time, {cost.prompt_tokens:,} tokens read and "
            f"{cost.completion_tokens:,} written: ${1000 * cost.usd_per_item:.2g} per 1,000 answers{right}{cached}.",
            soft_wrap=True,
        )
    for fall in result.regressions:
        out.print(f"[red]worse[/]: {fall.suite} {fall.rate:.1%}, the baseline has {fall.baseline:.1%}")
    out.print(f"Every prompt, answer, score and reason: {result.items_path}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(run_script(main))
