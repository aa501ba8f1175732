"""`mt demo`: from installed packages to a verdict, through the platform's own services.

Builds a data set, starts the platform if none runs, and submits everything else over REST like any other client.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.table import Table

from model_training.cli import dataset, verdict
from model_training.cli.console import duration, err, out, size
from model_training.cli.progress import watch
from model_training.client import Client
from model_training.config.training_config import TrainingConfig
from model_training.contracts.comparisons import ArmSpec, ComparisonCreate, ComparisonReport, ReportFormat
from model_training.contracts.evaluations import PromptSpec, SuiteSpec
from model_training.contracts.files import FilePurpose
from model_training.contracts.fine_tuning import FineTuningJob
from model_training.datasets.package.records import Options
from model_training.errors import UserError

if TYPE_CHECKING:
    from model_training.embedded.memory import PeakMemory

MODEL = "gemma-3-270m"
PACKAGES = ["more_itertools", "toolz", "boltons"]
INDEX = "demo"
FORMATS = get_args(ReportFormat)


@dataclass
class Diary:
    """What each step took, in seconds, in order."""

    steps: dict[str, float] = field(default_factory=dict[str, float])

    @contextmanager
    def step(self, name: str) -> Generator[None]:
        """Announce a step, and time it."""
        err.rule(f"[bold]{name}", align="left", style="dim")
        started = time.monotonic()
        yield
        self.steps[name] = time.monotonic() - started


@dataclass(frozen=True)
class Uploads:
    """Ids of the data set's files on the platform, and the suites that the evaluation file holds."""

    train: str
    chunks: str
    evaluation: str
    suites: list[str]


def demo(
    packages: Annotated[list[str] | None, typer.Argument(help="Installed packages to ask about.")] = None,
    out_dir: Annotated[Path, typer.Option("--out", help="Where data set and report go.")] = Path("runs/demo"),
    home: Annotated[Path | None, typer.Option(help="Data directory of the platform.")] = None,
    rows: Annotated[int | None, typer.Option(min=20, help="Training rows at most.")] = None,
    items: Annotated[int | None, typer.Option(min=5, help="Evaluation items of each suite at most.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training rows.")] = None,
    oracle: Annotated[
        bool, typer.Option("--oracle", help="Also: retrieval that is given the right passages, as a bound.")
    ] = False,
) -> None:
    """Fine-tune, retrieve, both, or neither? A verdict for questions about Python packages."""
    try:
        from model_training.embedded.memory import PeakMemory
    except ImportError as error:
        raise UserError(
            f"The parts that run a platform are not installed ({error.name} is missing).",
            hint="pip install 'model-training[embedded]'",
        ) from error
    diary, memory = Diary(), PeakMemory()
    with memory:
        with diary.step("Data set"):
            data = _build(packages or PACKAGES, out_dir / "dataset", rows, items)
        with _platform(home, diary, memory) as client:
            report = _run(client, out_dir, data, diary, epochs, oracle=oracle)
    (out_dir / "demo.json").write_text(
        json.dumps({"seconds": diary.steps, "peak_memory_bytes": memory.peak_bytes}, indent=1),
        encoding="utf-8",
    )
    verdict.show(report, out)
    out.print(_costs(diary, memory.peak_bytes))
    out.print(
        f"\nReport: [bold]{out_dir / 'report.html'}[/] (also .md, .json, .csv, and .jsonl: questions to train on next)",
        soft_wrap=True,
    )
    out.print("Ask the tuned model yourself: [bold]mt up[/], then [bold]mt chat[/].")


def _build(packages: list[str], directory: Path, rows: int | None, items: int | None) -> dict[str, Any]:
    given = {"rows": rows, "tasks": items, "questions": items}
    options = Options(**{name: value for name, value in given.items() if value is not None})
    return dataset.build(packages, directory, options).as_json()


@contextmanager
def _platform(home: Path | None, diary: Diary, memory: PeakMemory) -> Generator[Client]:
    """A client of the platform; one that was started for the demo is stopped after it."""
    from model_training.cli.platform_view import StartView
    from model_training.embedded.platform import Platform

    platform = Platform(home)
    with diary.step("Platform"):
        found = platform.state is not None
        with StartView() as view:
            state = platform.ensure_running(view.show)
        memory.include(state.pid)
    try:
        with Client(home=platform.home.root, base_url=state.gateway_url) as client:
            yield client
    finally:
        if not found:
            platform.stop()


def _run(
    client: Client, out_dir: Path, data: dict[str, Any], diary: Diary, epochs: int | None, *, oracle: bool
) -> ComparisonReport:
    with diary.step("Index"):
        uploads = _upload(client, out_dir / "dataset")
        index = client.indexes.create(INDEX, [uploads.chunks])
        watch(client, index.id, err, title="Index")
    with diary.step("Fine-tuning"):
        tuned = _train(client, uploads, epochs)
    with diary.step("Evaluation and comparison"):
        comparison = client.comparisons.create(_comparison(uploads, index.id, tuned, data, oracle=oracle))
        watch(client, comparison.id, err, title="Compare")
        for fmt in FORMATS:
            (out_dir / f"report.{fmt}").write_bytes(client.comparisons.report(comparison.id, fmt))
    return ComparisonReport.model_validate_json((out_dir / "report.json").read_bytes())


def _upload(client: Client, directory: Path) -> Uploads:
    evaluation = directory / "evaluation.jsonl"
    with evaluation.open(encoding="utf-8") as lines:
        suites = sorted({json.loads(line)["suite"] for line in lines})
    return Uploads(
        train=client.files.upload(directory / "train.jsonl", FilePurpose.FINE_TUNE).id,
        chunks=client.files.upload(directory / "chunks.jsonl", FilePurpose.CHUNKS).id,
        evaluation=client.files.upload(evaluation, FilePurpose.EVALUATION).id,
        suites=suites,
    )


def _train(client: Client, uploads: Uploads, epochs: int | None) -> FineTuningJob:
    config = TrainingConfig.load("demo", overrides={} if epochs is None else {"epochs": epochs})
    changed = {
        name: value
        for name, value in config.model_dump(mode="json").items()
        if config.source_of(name) != "default" and name not in ("model_name", "training_file")
    }
    job = client.fine_tuning.create(model=MODEL, training_file=uploads.train, training=changed, suffix="demo")
    watch(client, job.id, err, title="Train")
    done = client.fine_tuning.get(job.id)
    if done.fine_tuned_model is None:
        raise UserError(f"Training job {job.id} made no model.", hint=f"`mt jobs show {job.id}` says more.")
    return done


def _comparison(
    uploads: Uploads, index: str, tuned: FineTuningJob, data: dict[str, Any], *, oracle: bool
) -> ComparisonCreate:
    model = str(tuned.fine_tuned_model)
    searching = f"rag:{index}@{MODEL}"
    bounds = [ArmSpec(name="oracle", model=searching, passages="right")] if oracle else []
    return ComparisonCreate(
        arms=[
            ArmSpec(name="base", model=MODEL),
            ArmSpec(name="rag", model=searching),
            ArmSpec(name="tuned", model=model),
            ArmSpec(name="tuned+rag", model=f"rag:{index}@{model}"),
            *bounds,
        ],
        suites=[SuiteSpec(name=suite, file=uploads.evaluation) for suite in uploads.suites],
        prompt=PromptSpec(examples_file=uploads.train),
        training_job=tuned.id,
        dataset=data,
    )


def _costs(diary: Diary, peak_bytes: int) -> Table:
    table = Table(title="\nWall time", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("step")
    table.add_column("time", justify="right")
    for name, seconds in diary.steps.items():
        table.add_row(name, duration(seconds))
    table.add_row("[bold]total", f"[bold]{duration(sum(diary.steps.values()))}")
    table.add_row("peak memory", size(peak_bytes))
    return table
