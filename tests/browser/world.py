"""What the stand-in gateway knows: models, indexes, files, jobs, a comparison of any size, alerts, readings, all made up.

Texts of people and models hold markup on purpose: pages must show it, not run it.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from model_training.contracts.alerts import Alert, Delivery, Silence
from model_training.contracts.comparisons import ArmSpec, Comparison, ComparisonReport
from model_training.contracts.evaluations import (
    Evaluation,
    EvaluationItem,
    ItemResult,
    PromptSpec,
    SuiteSummary,
    TextCheck,
)
from model_training.contracts.files import FileObject, FilePurpose
from model_training.contracts.indexes import Chunk, Index, Source
from model_training.contracts.jobs import Job, JobEvent, JobKind, JobProgress, JobState, MetricPoint
from model_training.contracts.models import ModelAlias, ModelObject
from model_training.contracts.monitoring import (
    CanaryRound,
    DriftSignal,
    Finding,
    GpuUsage,
    History,
    HistoryPoint,
    HistorySeries,
    HostUsage,
    JobUsage,
    LiveDrift,
    ProcessUsage,
    QueueUsage,
    Remaining,
    Resources,
    RunningJob,
)
from services.comparator.service.running import Pages, write_report
from tests.unit.comparator.demo_report import HOSTILE, demo_report

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
BASE, TUNED, INDEX = "gemma-3-270m", "model_01demo", "library"
FUNCTIONS = (
    "chunked",
    "windowed",
    "flatten",
    "partition",
    "unique_everseen",
    "groupby",
    "merge_with",
    "iterate",
)
ANSWER = (
    "Use more_itertools.chunked(iterable, n): it breaks an iterable into lists of length n.\n\n"
    ">>> list(chunked([1, 2, 3], 2))\n[[1, 2], [3]]"
)


@dataclass
class World:
    """Everything that can be asked for, and what was changed."""

    comparisons: dict[str, Comparison] = field(default_factory=dict[str, Comparison])
    folders: dict[str, Path] = field(default_factory=dict[str, Path])
    models: list[ModelObject] = field(default_factory=list[ModelObject])
    indexes: list[Index] = field(default_factory=list[Index])
    files: dict[str, tuple[FileObject, bytes]] = field(default_factory=dict[str, tuple[FileObject, bytes]])
    jobs: dict[str, Job] = field(default_factory=dict[str, Job])
    metrics: dict[str, list[MetricPoint]] = field(default_factory=dict[str, list[MetricPoint]])
    evaluations: dict[str, Evaluation] = field(default_factory=dict[str, Evaluation])
    items: dict[str, list[ItemResult]] = field(default_factory=dict[str, list[ItemResult]])
    chunks: list[Chunk] = field(default_factory=list[Chunk])
    found_from: int = 0
    """Position of the passages that a search finds."""
    alerts: dict[str, Alert] = field(default_factory=dict[str, Alert])
    silences: dict[str, Silence] = field(default_factory=dict[str, Silence])
    deliveries: list[Delivery] = field(default_factory=list[Delivery])
    canaries: list[CanaryRound] = field(default_factory=list[CanaryRound])
    aliases: list[ModelAlias] = field(default_factory=list[ModelAlias])
    drift: list[LiveDrift] = field(default_factory=list[LiveDrift])
    votes: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    suffix: str = HOSTILE
    """What people called their trainings."""
    events: list[JobEvent] = field(default_factory=list[JobEvent])
    """Of every job."""
    answers: dict[str, str] = field(default_factory=dict[str, str])
    """What models say; others give the usual answer."""


def empty_world() -> World:
    """A platform that nobody has used yet: the base that comes with it, and nothing else."""
    said = JobEvent(job_id="ftjob_02live", sequence=1, created_at=NOW, type="message", message=HOSTILE)
    return World(models=[ModelObject(id=BASE, created=_unix(NOW))], events=[said])


def full_world(folder: Path, *, items: int = 60) -> World:
    """A platform in use.

    Args:
        folder: where reports are written.
        items: items of each of the two suites in the comparison `cmp_01demo`.
    """
    world = empty_world()
    world.models.append(
        ModelObject(
            id=TUNED,
            created=_unix(NOW),
            root=BASE,
            job_id="ftjob_01demo",
            aliases=["champion"],
            metrics={"eval_loss": 0.961},
            lineage={"training_file": "file_train", "suffix": HOSTILE},
        )
    )
    world.indexes.append(
        Index(
            id="idx_01demo",
            name=INDEX,
            state=JobState.SUCCEEDED,
            created_at=NOW,
            chunks=48,
            embedder="all-minilm-l6-v2",
            dimension=384,
            search={"mode": "hybrid", "fusion": "dbsf"},  # type: ignore[arg-type]
        )
    )
    world.aliases.append(
        ModelAlias(
            alias="champion",
            model=TUNED,
            version=1,
            changed_by="default",
            reason="recommended by cmp_01demo",
            created_at=NOW,
        )
    )
    world.chunks = list(_chunks())
    _add_comparison(world, folder / "demo", "cmp_01demo", items)
    _add_evaluations(world)
    _add_files(world)
    _add_jobs(world)
    _add_alerts(world)
    return world


def _unix(when: datetime) -> int:
    return int(when.timestamp())


def _chunks() -> list[Chunk]:
    found: list[Chunk] = []
    for number in range(48):
        name = f"{FUNCTIONS[number % len(FUNCTIONS)]}_{number // len(FUNCTIONS)}"
        text = f"more_itertools.{name}(iterable, n)\nit breaks an iterable into lists of length n."
        found.append(
            Chunk(
                id=f"chunk-{number:03}",
                title=f"more_itertools.{name}",
                text=text if number != 5 else f"{text}\n{HOSTILE}",
                functions=[f"more_itertools.{name}"],
                source=Source(
                    package="more_itertools",
                    version="10.8.0",
                    path="more_itertools/more.py",
                    line_start=10 * number + 1,
                    kind="docstring",
                ),
            )
        )
    return found


def add_large(world: World, folder: Path, *, items: int = 10_000, points: int = 100_000) -> None:
    """A comparison `cmp_02many` of so many items (those of the small one, again and again), a curve of so many points."""
    _add_comparison(world, folder / "many", "cmp_02many", 60)
    path = world.folders["cmp_02many"] / "items.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with path.open("w", encoding="utf-8") as lines:
        for number in range(items):
            row = rows[number % len(rows)]
            answers = {arm: {**found, "item_id": f"item-{number}"} for arm, found in row["answers"].items()}
            lines.write(json.dumps({**row, "item_id": f"item-{number}", "answers": answers}) + "\n")
    world.jobs["ftjob_03long"] = world.jobs["ftjob_02live"].model_copy(update={"id": "ftjob_03long"})
    world.metrics["ftjob_03long"] = curve(points)


def _add_comparison(world: World, folder: Path, name: str, items: int) -> None:
    outcome = demo_report("winner", items=items)
    report: ComparisonReport = outcome.report.model_copy(update={"id": name, "created_at": NOW})
    blank = Pages(
        lambda report, items: "<!doctype html><title>Report</title>", lambda report, items: "# Report"
    )
    folder.mkdir(parents=True, exist_ok=True)
    found = type(outcome)(report, outcome.items, outcome.proposals)
    world.folders[name] = write_report(folder, found, blank)
    world.comparisons[name] = Comparison(
        id=name,
        state=JobState.SUCCEEDED,
        created_at=NOW,
        report=report,
        arms=[ArmSpec(name=arm.name, model=arm.model) for arm in report.arms],
        progress=JobProgress(fraction=1.0),
    )


def _add_evaluations(world: World) -> None:
    for number, (model, rate) in enumerate(
        [(BASE, 0.05), (BASE, 0.06), (TUNED, 0.31), (TUNED, 0.35), (TUNED, 0.33)]
    ):
        name, n = f"eval_0{number}", 120
        right = round(rate * n)
        world.evaluations[name] = Evaluation(
            id=name,
            state=JobState.SUCCEEDED,
            created_at=NOW - timedelta(days=9 - 2 * number),
            model=model,
            prompt=PromptSpec(),
            prompt_description="4 solved examples as earlier turns.",
            duration_s=74.0,
            isolation="user, pid, network and mount namespaces",
            progress=JobProgress(fraction=1.0),
            suites=[
                SuiteSummary(
                    suite="code_generation",
                    n=n,
                    correct=right,
                    pass_rate=right / n,
                    ci_low=max(0.0, right / n - 0.06),
                    ci_high=right / n + 0.08,
                    statuses={"passed": right, "wrong": n - right - 4, "error": 4},
                )
            ],
        )
        world.items[name] = [_item(position, position < right) for position in range(n)]
    world.evaluations["eval_run"] = Evaluation(
        id="eval_run",
        state=JobState.RUNNING,
        created_at=NOW,
        model=TUNED,
        prompt=PromptSpec(),
        progress=JobProgress(
            fraction=0.4, step=48, total=120, message="code_generation: 48 of 120", eta_s=44.0
        ),
    )


def _item(number: int, correct: bool) -> ItemResult:
    return ItemResult(
        item_id=f"code_generation-{number}",
        suite="code_generation",
        form="write_call",
        group=f"f{number}",
        question=f"Which call gives the value number {number}?",
        prompt=f"Question: number {number}?\nAnswer:",
        output=HOSTILE if number == 100 else f"list(chunked(range({number}), 2))",
        reference=f"list(chunked(range({number}), 3))",
        correct=correct,
        score=float(correct),
        status="passed" if correct else "wrong",
        reason="the value is as expected" if correct else "the value is [], expected [[0]]",
        latency_s=0.4,
        prompt_tokens=120,
        completion_tokens=18,
    )


def evaluation_rows() -> bytes:
    """A file of evaluation items."""
    rows = [
        EvaluationItem(
            id=f"qa-{i}",
            suite="qa_accuracy",
            form="what_does",
            question=f"What does {name} do?",
            answer=f"It does {name}.",
            group=name,
            check=TextCheck(),
        )
        for i, name in enumerate(FUNCTIONS)
    ]
    return "".join(row.model_dump_json() + "\n" for row in rows).encode()


def _add_files(world: World) -> None:
    for name, purpose, content in (
        ("evaluation.jsonl", FilePurpose.EVALUATION, evaluation_rows()),
        ("train.jsonl", FilePurpose.FINE_TUNE, b'{"question": "What is 1 + 1?", "answer": "2"}\n'),
        (f"{HOSTILE[:60]}.jsonl", FilePurpose.CHUNKS, b'{"id": "a", "title": "a", "text": "a"}\n'),
    ):
        add_file(world, name, purpose, content)


def add_file(world: World, name: str, purpose: FilePurpose, content: bytes) -> FileObject:
    """Store a file as an upload would."""
    made = FileObject(
        id=f"file_{len(world.files):04}",
        bytes=len(content),
        created_at=_unix(NOW),
        filename=name,
        purpose=purpose,
        sha256="0" * 64,
    )
    world.files[made.id] = (made, content)
    return made


def _add_jobs(world: World) -> None:
    spec = {"model": BASE, "training_file": "file_0001", "suffix": HOSTILE}
    for name, kind, state, fraction in (
        ("ftjob_01demo", JobKind.TRAIN, JobState.SUCCEEDED, 1.0),
        ("ftjob_02live", JobKind.TRAIN, JobState.RUNNING, 0.4),
        ("idx_01demo", JobKind.INDEX, JobState.SUCCEEDED, 1.0),
        ("eval_run", JobKind.EVALUATE, JobState.RUNNING, 0.4),
        ("cmp_01demo", JobKind.COMPARE, JobState.SUCCEEDED, 1.0),
    ):
        world.jobs[name] = Job(
            id=name,
            kind=kind,
            state=state,
            created_at=NOW,
            started_at=NOW,
            spec=spec if kind is JobKind.TRAIN else {},
            finished_at=NOW if state is JobState.SUCCEEDED else None,
            progress=JobProgress(
                fraction=fraction, step=int(300 * fraction), total=300, message="step", eta_s=120.0
            ),
        )
    world.metrics["ftjob_01demo"] = curve(200)
    world.metrics["ftjob_02live"] = curve(120)


def curve(steps: int) -> list[MetricPoint]:
    """A loss that falls, with noise."""
    draw = random.Random(3)
    return [
        MetricPoint(
            step=s,
            created_at=NOW + timedelta(seconds=s),
            values={
                "loss": 0.7 + 1.9 * math.exp(-3 * s / steps) + draw.gauss(0, 0.06),
                "learning_rate": 2e-4 * (1 - s / steps),
            },
        )
        for s in range(1, steps + 1)
    ]


def _add_alerts(world: World) -> None:
    for name, rule, severity, state, labels, summary in (
        (
            "alert_01",
            "CanaryChanged",
            "page",
            "firing",
            {"model": TUNED},
            f"something else answers behind the name {TUNED} {HOSTILE}",
        ),
        (
            "alert_02",
            "QueueOld",
            "ticket",
            "firing",
            {"kind": "train"},
            "a train job has waited 1,240 s for a worker",
        ),
        (
            "alert_03",
            "TrainingOverfitting",
            "info",
            "pending",
            {"job_id": "ftjob_02live"},
            "ftjob_02live overfits",
        ),
    ):
        world.alerts[name] = Alert(
            id=name,
            rule=rule,
            severity=severity,
            state=state,
            labels=labels,
            summary=summary,
            value=1.0,  # type: ignore[arg-type]
            runbook=f"docs/guide/runbooks.md#{rule.lower()}",
            started_at=NOW - timedelta(minutes=12),
            fired_at=NOW - timedelta(minutes=10),
        )
    world.deliveries.append(
        Delivery(
            id="del_01",
            channel="team",
            group="CanaryChanged",
            alerts=["alert_01"],
            title="CanaryChanged",
            state="sent",
            attempts=1,
            created_at=NOW - timedelta(minutes=10),
            sent_at=NOW - timedelta(minutes=10),
        )
    )
    world.canaries = [
        CanaryRound(
            id="canary_01", model=BASE, asked_at=NOW, distance_nats=0.0, accepted=True, answers=["a list"]
        ),
        CanaryRound(
            id="canary_02",
            model=TUNED,
            asked_at=NOW,
            distance_nats=0.31,
            changed=True,
            answers=[HOSTILE, "another"],
        ),
    ]
    collecting = LiveDrift(model=HOSTILE, samples=84, words="84 of 500 samples for a reference are in.")
    world.drift = [drift(has_drifted=True), collecting]


def drift(*, has_drifted: bool) -> LiveDrift:
    """The newest window of live answers of the tuned model."""
    far = 0.62 if has_drifted else 0.08
    return LiveDrift(
        model=TUNED,
        samples=2_300,
        accepted_at=NOW - timedelta(days=6),
        looked_at=NOW - timedelta(minutes=3),
        words="Drifted: question length." if has_drifted else "As accepted, by windows of 200.",
        signals=[
            DriftSignal(name=name, side=side, effect=effect, p=p, threshold=0.19, drifted=effect > 0.2)  # type: ignore[arg-type]
            for name, side, effect, p in (
                ("question_length", "input", far, 0.0005 if has_drifted else 0.4),
                ("retrieval_best", "input", 0.16, 0.031),
                ("answer_length", "output", 0.12, 0.11),
                ("answer_repetition", "output", 0.07, 0.48),
                ("answer_refusal", "output", 0.02, 1.0),
            )
        ],
    )


def resources() -> Resources:
    """A look at the machine."""
    return Resources(
        taken_at=NOW,
        host=HostUsage(
            cpu_percent=61.0,
            cpu_count=2,
            memory_used=9_400_000_000,
            memory_total=24_000_000_000,
            disk_used=41_000_000_000,
            disk_total=100_000_000_000,
            load_1m=2.4,
            network_received=10**9,
            network_sent=10**8,
        ),
        services=[
            ProcessUsage(
                name=name,
                pid=100 + i,
                cpu_percent=12.0 * i,
                memory=150_000_000 * (i + 1),
                processes=1,
                cpu_s=30.0,
            )
            for i, name in enumerate(("gateway", "inference", "rag", "trainer", "evaluator", "monitor"))
        ],
        gpus=[
            GpuUsage(
                index=0,
                name="NVIDIA L4",
                utilization_percent=83.0,
                memory_used=18_000_000_000,
                memory_total=24_000_000_000,
                temperature_c=71.0,
                power_w=68.0,
            )
        ],
        queues=[
            QueueUsage(kind=JobKind.TRAIN, queued=2, running=1, oldest_queued_s=1240.0),
            QueueUsage(kind=JobKind.EVALUATE, running=1),
        ],
        jobs=[
            RunningJob(
                id="ftjob_02live",
                kind=JobKind.TRAIN,
                started_at=NOW - timedelta(minutes=4),
                progress=JobProgress(fraction=0.4, step=120, total=300),
                remaining=Remaining(low=250, median=280, high=330),
                findings=[Finding(finding="plateau", message="The loss has not fallen since step 90.")],
                usage=JobUsage(
                    wall_s=240,
                    cpu_s=430,
                    memory_peak=5_600_000_000,
                    gpu_s=210,
                    gpu_memory_peak=11_000_000_000,
                    energy_j=14_000,
                    tokens=80_000,
                ),
            )
        ],
        models={"servable": 1},
    )


def history(metric: str, minutes: int = 180) -> History:
    """Three hours of a metric."""
    draw = random.Random(metric)
    points = [
        HistoryPoint(
            at=NOW - timedelta(minutes=minutes - m),
            mean=(v := 0.5 + 0.3 * math.sin(m / 25) + draw.gauss(0, 0.03)),
            low=v - 0.1,
            high=v + 0.1,
        )
        for m in range(minutes)
    ]
    return History(metric=metric, resolution_s=60, series=[HistorySeries(labels={}, points=points)])
