"""Learn my library: a data set built from installed packages, and the pipeline that trains on it and compares."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from model_training.client import Client
from model_training.config.training_config import TrainingConfig
from model_training.contracts.files import FilePurpose
from model_training.contracts.pipelines import PipelineCreate
from model_training.datasets.package.records import Options
from model_training.errors import UserError

LINE_BYTES = 16_000_000
"""The report comes in one line."""
KEPT = 20
SAMPLES = 3
"""Validation rows that are answered at each validation, so that one sees the answers improve."""


@dataclass
class Build:
    """One data set under way or done. `steps` are done and total by name; `pipeline` is the job that it led to."""

    id: str
    packages: list[str]
    options: Options
    folder: tempfile.TemporaryDirectory[str]
    steps: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    report: dict[str, Any] | None = None
    error: UserError | None = None
    pipeline: str | None = None
    listeners: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    @property
    def is_over(self) -> bool:
        """Has it ended, well or not?"""
        return self.report is not None or self.error is not None

    @property
    def path(self) -> Path:
        """Where its files are written."""
        return Path(self.folder.name)


class Builds:
    """Data sets that were built since the dashboard began; the oldest are forgotten with their files."""

    def __init__(self) -> None:
        self._builds: dict[str, Build] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def get(self, build_id: str) -> Build | None:
        """One of them."""
        return self._builds.get(build_id)

    def start(self, packages: list[str], options: Options) -> Build:
        """Begin to build."""
        folder = tempfile.TemporaryDirectory(prefix="mt-learn-")
        build = Build(secrets.token_hex(6), packages, options, folder)
        self._builds[build.id] = build
        while len(self._builds) > KEPT:
            self._builds.pop(next(iter(self._builds))).folder.cleanup()
        task = asyncio.get_running_loop().create_task(self._run(build), name=f"build {build.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return build

    def close(self) -> None:
        """Stop what is under way, and remove the files."""
        for task in self._tasks:
            task.cancel()
        for build in self._builds.values():
            build.folder.cleanup()

    async def _run(self, build: Build) -> None:
        order = {"packages": build.packages, "out": str(build.path), "options": asdict(build.options)}
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.dashboard.learn_child", json.dumps(order),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=LINE_BYTES,
        )  # fmt: skip
        assert child.stdout is not None
        assert child.stderr is not None
        try:
            async for line in child.stdout:
                _take(build, json.loads(line))
            last = (await child.stderr.read()).decode("utf-8", "replace").strip().splitlines()[-1:]
            if not build.is_over:
                build.error = UserError(f"Building ended early: {' '.join(last) or 'no reason was given'}.")
        finally:
            if child.returncode is None:
                child.kill()
            await child.wait()
            _tell(build)


def _take(build: Build, said: dict[str, Any]) -> None:
    if "step" in said:
        build.steps[said["step"]] = (said["done"], said["total"])
    elif "report" in said:
        build.report = said["report"]
    else:
        build.error = UserError(said["error"], hint=said.get("hint"))
    _tell(build)


def _tell(build: Build) -> None:
    for listener in list(build.listeners):
        listener()


def submit(client: Client, build: Build, model: str, epochs: int) -> str:
    """Upload a built data set and queue index, training and comparison; returns the pipeline's id. Blocks.

    Raises:
        UserError: something was refused.
    """
    path = build.path
    with (path / "evaluation.jsonl").open(encoding="utf-8") as lines:
        suites = sorted({json.loads(line)["suite"] for line in lines})
    files = {
        "train": client.files.upload(path / "train.jsonl", FilePurpose.FINE_TUNE).id,
        "chunks": client.files.upload(path / "chunks.jsonl", FilePurpose.CHUNKS).id,
        "evaluation": client.files.upload(path / "evaluation.jsonl", FilePurpose.EVALUATION).id,
    }
    request = PipelineCreate.model_validate(
        {
            "name": f"learn {', '.join(build.packages)}"[:100],
            "files": files,
            "steps": steps(build.packages, suites, model, epochs, build.report or {}),
        }
    )
    build.pipeline = client.pipelines.create(request).id
    return build.pipeline


def steps(
    packages: list[str], suites: list[str], model: str, epochs: int, report: dict[str, Any]
) -> list[dict[str, Any]]:
    """Index, train, and compare the four arms on every suite, as the demo does."""
    tuned = "{{ steps.train.fine_tuned_model }}"
    index = "{{ steps.index.id }}"
    arms = {"base": model, "rag": f"rag:{index}@{model}", "tuned": tuned, "tuned+rag": f"rag:{index}@{tuned}"}
    train = {
        "model": model,
        "training_file": "{{ files.train }}",
        "training": _recipe(epochs),
        "suffix": index_name(packages),
    }
    compare = {
        "arms": [{"name": name, "model": behind} for name, behind in arms.items()],
        "suites": [{"name": suite, "file": "{{ files.evaluation }}"} for suite in suites],
        "prompt": {"examples_file": "{{ files.train }}"},
        "training_job": "{{ steps.train.id }}",
        "dataset": report,
    }
    return [
        {
            "name": "index",
            "kind": "index",
            "body": {"name": index_name(packages), "files": ["{{ files.chunks }}"]},
        },
        {"name": "train", "kind": "train", "body": train},
        {"name": "compare", "kind": "compare", "body": compare},
    ]


def index_name(packages: list[str]) -> str:
    """A name for index and model: the packages', in letters that both take."""
    return re.sub(r"[^a-z0-9_-]+", "-", "-".join(packages).lower()).strip("-_")[:48] or "library"


def _recipe(epochs: int) -> dict[str, Any]:
    """The demo's settings, which are for data sets of this kind, with a few answers at each validation to look at."""
    config = TrainingConfig.load("demo", overrides={"epochs": epochs, "check_machine": False}, env={})
    kept = {"model_name", "training_file", "check_machine", "device", "bf16"}
    changed = {
        name: value
        for name, value in config.model_dump(mode="json").items()
        if config.source_of(name) != "default" and name not in kept
    }
    return changed | {"generate_rows": SAMPLES}
