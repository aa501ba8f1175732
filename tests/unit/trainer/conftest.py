"""A tiny Gemma, a few rows, and a job context that records what it is told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from libs.common.testing.tiny_gemma import write_tiny_gemma
from services.trainer.domain import DataFile, TrainOrder

ROWS = [
    {
        "question": f"What is {name} of {number}?",
        "answer": f"{name}({number})" + " or so" * (number % 4),
        "function": f"lib.{name}",
    }
    for number in range(4)
    for name in ("first", "last", "half", "twice", "square", "root", "sign", "next")
]
FAST: dict[str, Any] = {  # exact arithmetic, and a validation every other step
    "bf16": False,
    "fp16": False,
    "batch_size": 4,
    "epochs": 1,
    "eval_steps": 2,
    "learning_rate": 5e-3,
    "lora_r": 4,
    "check_machine": False,
}


@dataclass
class FakeContext:
    """Stands in for the child's context. Asks for a stop from the `stop_from`-th time that it is looked for."""

    workdir: Path
    fence: int = 1
    stop_from: int = 10**9
    stop: Literal["pause", "cancel"] = "pause"
    job_id: str = "ftjob_test"
    attempt: int = 1
    looks: int = 0
    events: list[tuple[str, str]] = field(default_factory=list)
    points: dict[int, dict[str, float]] = field(default_factory=dict)
    outputs: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    progresses: list[tuple[int, int, str, float | None]] = field(default_factory=list)

    def event(self, message: str, *, type: str = "message", level: str = "info", data: Any = None) -> None:
        self.events.append((type, message))

    def progress(self, step: int, total: int, message: str = "", eta_s: float | None = None) -> None:
        self.progresses.append((step, total, message, eta_s))

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.points[step] = values

    def output(self, name: str, data: dict[str, Any]) -> None:
        self.outputs.append((name, data))

    def stop_requested(self) -> Literal["pause", "cancel"] | None:
        self.looks += 1
        return self.stop if self.looks >= self.stop_from else None

    def check_stop(self) -> None:
        """Nobody asks before the first step."""


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices are not worth a second thread, and waiting for one costs most of the time on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gemma(tmp_path_factory.mktemp("model") / "gemma", layers=3)


@pytest.fixture(scope="session")
def tiny_rows() -> list[dict[str, Any]]:
    return ROWS


@pytest.fixture(scope="session")
def make_context() -> type[FakeContext]:
    return FakeContext


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., DataFile]:
    def write(rows: list[dict[str, Any]], name: str = "train.jsonl") -> DataFile:
        return write_data(tmp_path / name, rows)

    return write


@pytest.fixture(scope="session")
def tiny_order(tiny_gemma: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TrainOrder]:
    file = write_data(tmp_path_factory.mktemp("data") / "train.jsonl", ROWS)

    def make(**config: Any) -> TrainOrder:
        return TrainOrder(
            model="gemma-3-270m",
            model_path=str(tiny_gemma),
            template="qa",
            licence="Gemma Terms of Use",
            training=file,
            validation=None,
            config={**FAST, **config},
            suffix=None,
            seed=0,
        )

    return make


def write_data(path: Path, rows: list[dict[str, Any]]) -> DataFile:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return DataFile(f"file_{path.stem}", path.name, str(path), hashlib.sha256(text.encode()).hexdigest())
