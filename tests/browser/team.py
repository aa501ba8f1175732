"""The stand-in's world as a team has it that works well with the platform: what the guide's pictures show.

`world.full_world` writes markup wherever people and models write; here are names, alerts and answers of an ordinary day.
"""

from __future__ import annotations

import json
import math
import random
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from model_training.contracts.files import FilePurpose
from model_training.contracts.indexes import Chunk
from model_training.contracts.jobs import JobEvent, JobProgress, MetricPoint
from tests.browser.world import (
    BASE,
    HOSTILE,
    INDEX,
    NOW,
    TUNED,
    World,
    add_file,
    drift,
    evaluation_rows,
    full_world,
)

T = TypeVar("T", bound=BaseModel)
LIVE, STEPS, STEP = "ftjob_02live", 300, 120
PLAIN = "more_itertools.chunked(iterable, n)"
"""Stands where markup stood."""
ANSWERS = {
    BASE: "You can split a list with a slice:\n\n>>> a[:2], a[2:]\n([1, 2], [3])",
    f"rag:{INDEX}@{BASE}": "Use chunked: it breaks an iterable into lists of length n.",
    TUNED: "list(more_itertools.chunked([1, 2, 3], 2))",
    f"rag:{INDEX}@{TUNED}": "more_itertools.chunked(iterable, n): it breaks an iterable into lists of length n.\n\n"
    ">>> list(chunked([1, 2, 3], 2))\n[[1, 2], [3]]",
}
SAMPLES = (
    (40, "chunked(iterable)", "It is a function of the library."),
    (80, "chunked(iterable, n=2)", "Breaks an iterable into parts."),
    (120, "list(chunked(iterable, 2))", "Breaks an iterable into lists of length n."),
)
"""Step, and what was answered to each of the two questions then."""


def team_world(folder: Path) -> World:
    """A platform in use, without markup.

    Args:
        folder: where reports are written.
    """
    world = full_world(folder)
    world.suffix, world.answers = "itertools-helper", ANSWERS
    for things in (world.comparisons, world.jobs, world.evaluations, world.alerts):
        for name in things:
            things[name] = plain(things[name])  # type: ignore[assignment,type-var]
    for things in (world.models, world.chunks, world.canaries):
        things[:] = [plain(one) for one in things]  # type: ignore[misc,type-var]
    chunks = [_first(chunk) for chunk in world.chunks]
    world.chunks, world.found_from = chunks[-4:] + chunks[:-4], 3  # what is asked for comes first
    for found in world.items:
        world.items[found] = [plain(item) for item in world.items[found]]
    for name in world.folders:
        path = world.folders[name] / "items.jsonl"
        path.write_text(_plain(path.read_text(encoding="utf-8")), encoding="utf-8")
    _name(world)
    _train(world)
    return world


def plain(model: T) -> T:
    """The same without markup."""
    return type(model).model_validate_json(_plain(model.model_dump_json()))


def _plain(text: str) -> str:
    for written in (json.dumps(HOSTILE)[1:-1], json.dumps(HOSTILE, ensure_ascii=False)[1:-1]):
        text = text.replace(written, PLAIN)
    return text


def _first(chunk: Chunk) -> Chunk:
    """A passage under the function's own name, where its number is none but the first's."""
    names = {"title": chunk.title.removesuffix("_0"), "text": chunk.text.replace("_0(", "(")}
    return chunk.model_copy(update=names)


def _name(world: World) -> None:
    world.files.clear()
    question = (
        '{"question": "What does chunked do?", "answer": "It breaks an iterable into lists of length n."}\n'
    )
    for name, purpose, content in (
        ("itertools-evaluation.jsonl", FilePurpose.EVALUATION, evaluation_rows()),
        ("itertools-train.jsonl", FilePurpose.FINE_TUNE, (question * 420).encode()),
        ("itertools-passages.jsonl", FilePurpose.CHUNKS, b'{"id": "a", "title": "a", "text": "a"}\n' * 270),
    ):
        add_file(world, name, purpose, content)
    world.models[1] = world.models[1].model_copy(
        update={"lineage": {"training_file": "file_0001", "suffix": world.suffix}}
    )
    spec = {"model": BASE, "training_file": "file_0001", "suffix": world.suffix}
    for name, job in world.jobs.items():
        world.jobs[name] = job.model_copy(update={"spec": spec if job.spec else {}})
    said = f"{LIVE}: the validation loss rises while the training loss falls"
    changes = {
        "alert_01": f"Something else answers behind the name {TUNED}: 0.31 nats a token away",
        "alert_03": said,
    }
    for name, summary in changes.items():
        world.alerts[name] = world.alerts[name].model_copy(update={"summary": summary})
    world.canaries[1] = world.canaries[1].model_copy(
        update={"answers": ["list(chunked(range(5), 2))", "flatten(a)"]}
    )
    world.drift = [drift(has_drifted=True)]


def _train(world: World) -> None:
    """A training at its 120th of 300 steps, with all that one has to tell."""
    for name, job in world.jobs.items():
        if name == LIVE:
            progress = JobProgress(
                fraction=STEP / STEPS, step=STEP, total=STEPS, message=f"step {STEP} of {STEPS}", eta_s=280.0
            )
            world.jobs[name] = job.model_copy(update={"progress": progress})
    world.metrics["ftjob_01demo"], world.metrics[LIVE] = _curve(STEPS), _curve(STEP)
    said = (
        ("message", "420 rows, 380 to train on and 40 to validate; 3 duplicates left out.", {}),
        ("message", "Validation loss 2.6112 before training.", {}),
        *(
            ("samples", f"2 sample answers at step {step}.", {"step": step, "samples": _samples(code, text)})
            for step, code, text in SAMPLES
        ),
        ("checkpoint", f"Checkpoint at step {STEP}.", {"step": STEP}),
    )
    world.events = [
        JobEvent(
            job_id=LIVE,
            sequence=number,
            created_at=NOW + timedelta(seconds=20 * number),
            type=kind,
            message=words,
            data=data,
        )
        for number, (kind, words, data) in enumerate(said, start=1)
    ]


def _samples(code: str, text: str) -> list[dict[str, str]]:
    return [
        {
            "question": "Break an iterable into lists of length 2.",
            "wanted": "list(chunked(iterable, 2))",
            "answer": code,
        },
        {
            "question": "What does chunked do?",
            "wanted": "Break an iterable into lists of length n.",
            "answer": text,
        },
    ]


def _curve(steps: int) -> list[MetricPoint]:
    """A loss that falls to 0.7, validated every 20 steps; the rate of learning warms up and goes down in a cosine."""
    draw = random.Random(5)
    found: list[MetricPoint] = []
    for step in range(1, steps + 1):
        fallen = math.exp(-3.5 * step / STEPS)
        values = {
            "loss": 0.7 + 1.9 * fallen + draw.gauss(0, 0.05),
            "learning_rate": 2e-4 * min(step / 15, (1 + math.cos(math.pi * step / STEPS)) / 2),
            "tokens_per_s": 330.0 + draw.gauss(0, 6),
            "memory_bytes": 3.9e9 + 2e6 * step,
        }
        if step % 20 == 0:
            values["eval_loss"] = 0.93 + 1.6 * fallen
        found.append(MetricPoint(step=step, created_at=NOW + timedelta(seconds=step), values=values))
    return found
