"""Several processes train one job: launched by `accelerate launch`, they are to the worker what one child is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from libs.common.jobs.process import ChildProcess
from libs.common.testing.tiny_gemma import write_tiny_gemma
from services.trainer.domain import TrainOrder
from services.trainer.launch import Shape, meeting_file
from services.trainer.recipe import run
from services.trainer.recipe.checkpoints import MARKER
from tests.conftest import ROOT, Stores, free_ports, scratch_database
from tests.unit.trainer.conftest import FAST, ROWS, FakeContext, write_data

pytestmark = pytest.mark.slow  # each launch imports torch three times

PATIENCE_S = 240
Messages = list[dict[str, Any]]


class Recorder(FakeContext):
    """Keeps what is said as a child would send it."""

    @property
    def said(self) -> Messages:
        points: Messages = [
            {"type": "metrics", "step": step, "values": values} for step, values in self.points.items()
        ]
        outputs: Messages = [{"type": "output", "name": name, "data": data} for name, data in self.outputs]
        return [*points, *outputs, *({"type": "event", "message": text} for _, text in self.events)]


class Bench:
    """Runs orders in children, with as many processes as asked for."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._patch = patch
        self._model = write_tiny_gemma(folder / "gemma", layers=3)
        self._file = write_data(folder / "train.jsonl", ROWS)
        needed = {
            "MT_HOME": str(folder),
            "MT_DATABASE_URL": "x",
            "MT_BROKER_URL": "x",
            "MT_INTERNAL_TOKEN": "t" * 40,
        }
        for name, value in {**needed, "OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}.items():
            patch.setenv(name, value)

    def order(self, **config: Any) -> TrainOrder:
        """A short training on a tiny Gemma."""
        return TrainOrder(
            model="gemma-3-270m",
            model_path=str(self._model),
            template="qa",
            licence="Gemma Terms of Use",
            training=self._file,
            validation=None,
            config={**FAST, "batch_size": 8, "epochs": 2, "device": "cpu", **config},
            suffix=None,
            seed=0,
        )

    def start(self, name: str, processes: int, fence: int = 1, **config: Any) -> ChildProcess:
        """A child with an order; `name` is its folder."""
        self._patch.setenv("MT_TRAINER_PROCESSES", str(processes))
        job = {"job_id": "ftjob_team", "attempt": 1, "fence": fence, "spec": self.order(**config).to_dict()}
        place = {"workdir": str(self.folder / name), "until": time.monotonic() + 10 * PATIENCE_S}
        return ChildProcess("services.trainer.child", job | place, self.folder / f"{name}.log")

    def log(self, name: str) -> str:
        """What the processes of a job wrote."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        yield Bench(tmp_path_factory.mktemp("team"), patch)


def listen(child: ChildProcess, until: Callable[[Messages], bool] = lambda _: False) -> Messages:
    """What a child says, to its end or until enough was said."""
    heard: Messages = []
    deadline = time.monotonic() + PATIENCE_S
    while not child.ended() and not until(heard):
        assert time.monotonic() < deadline, f"the child says nothing more after {heard[-1:]}"
        heard += child.receive(1.0)
    return heard


def finish(child: ChildProcess) -> Messages:
    heard = listen(child)
    child.close()
    return heard


def losses(heard: Messages) -> dict[int, tuple[float, float]]:
    points = [(one["step"], one["values"]) for one in heard if one["type"] == "metrics"]
    return {step: (values["loss"], values["grad_norm"]) for step, values in points if "loss" in values}


def adapter(heard: Messages) -> dict[str, torch.Tensor]:
    return load_file(Path(heard[-1]["data"]["directory"]) / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def alone(bench: Bench) -> Messages:
    """The same job in this very process."""
    context = Recorder(bench.folder / "alone")
    context.workdir.mkdir()
    result = run.train(context, bench.order())  # pyright: ignore[reportArgumentType]
    return [*context.said, {"type": "result", "data": result}]


@pytest.fixture(scope="module")
def together(bench: Bench) -> Messages:
    return finish(bench.start("together", 2))


def test_two_processes_learn_what_one_does(alone: Messages, together: Messages, bench: Bench) -> None:
    assert together[-1]["type"] == "result", bench.log("together")[-3000:]
    one, two = losses(alone), losses(together)
    assert one.keys() == two.keys()
    for step, (loss, norm) in one.items():
        assert two[step][0] == pytest.approx(loss, rel=1e-4), f"loss at step {step}"
        assert two[step][1] == pytest.approx(norm, rel=1e-3), f"gradient at step {step}"
    left, right = adapter(alone), adapter(together)
    for name, value in left.items():
        torch.testing.assert_close(right[name], value, rtol=0, atol=2e-4, msg=name)
    assert together[-1]["data"]["data"] == alone[-1]["data"]["data"], (
        "the worst rows are known to all processes"
    )


def test_they_speak_with_one_voice(alone: Messages, together: Messages) -> None:
    def texts(said: Messages) -> list[str]:
        return [
            one["message"].split(" threads;")[0].rpartition(",")[0] for one in said if one["type"] == "event"
        ]

    assert texts(together) == texts(alone)
    for kind in ("output", "result"):
        assert sum(one["type"] == kind for one in together) == sum(one["type"] == kind for one in alone)
    steps = [(one["step"], *sorted(one["values"])) for one in together if one["type"] == "metrics"]
    assert len({*steps}) == len(steps), "nothing is said twice"
    assert together[-1]["data"]["trained_tokens"] == alone[-1]["data"]["trained_tokens"]


def test_checkpoints_are_whole_and_written_once(together: Messages) -> None:
    sealed = [
        Path(one["data"]["path"])
        for one in together
        if one["type"] == "output" and one["name"] == "checkpoint"
    ]
    kept = [path for path in sealed if path.is_dir()]
    assert kept
    for path in kept:
        marker = json.loads((path / MARKER).read_text(encoding="utf-8"))
        assert {"rng_state_0.pth", "rng_state_1.pth", "adapter_model.safetensors"} <= marker["files"].keys()
    assert len({*sealed}) == len(sealed)


def test_a_pause_stops_all_and_another_number_of_processes_goes_on(bench: Bench, alone: Messages) -> None:
    child = bench.start("paused", 2)
    heard = listen(child, lambda said: bool(losses(said)))
    child.send({"type": "stop", "reason": "pause"})
    heard += finish(child)
    assert heard[-1] == {"type": "stopped"}, bench.log("paused")[-3000:]
    later = finish(bench.start("paused", 1, fence=2))
    whole = losses(heard) | losses(later)
    for step, (loss, _) in losses(alone).items():
        assert whole[step][0] == pytest.approx(loss, rel=1e-4)


def test_nobody_outlives_the_child(bench: Bench) -> None:
    child = bench.start("killed", 2, epochs=200)
    listen(child, lambda said: bool(losses(said)))
    family = psutil.Process(child.pid).children(recursive=True)
    assert sum("services.trainer.rank" in " ".join(one.cmdline()) for one in family) >= 2
    child.kill()
    _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
    assert alive == []
    child.close()


def test_a_worker_that_is_gone_ends_them(bench: Bench) -> None:
    child = bench.start("orphaned", 2, epochs=200)
    listen(child, lambda said: bool(losses(said)))
    family = psutil.Process(child.pid).children(recursive=True)
    assert child._process.stdin is not None
    child._process.stdin.close()
    _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
    assert alive == []
    child.close()


def test_a_fault_of_all_is_told_once(bench: Bench) -> None:
    heard = finish(bench.start("faulty", 2, rank_pattern={"no_such_layer": 8}))
    assert [one["type"] for one in heard].count("failure") == 1
    assert heard[-1]["error"]["code"] == "pattern_unmatched"


def test_two_machines_train_as_one(
    bench: Bench, alone: Messages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    leader = f"127.0.0.1:{free_ports(1)}"
    monkeypatch.setenv("MT_TRAINER_NODES", "2")
    monkeypatch.setenv("MT_TRAINER_LEADER", leader)
    monkeypatch.setenv("MT_TRAINER_RUN", "one-of-its-own")
    child = bench.start("machines", 1)
    order = meeting_file(bench.folder, "one-of-its-own")
    deadline = time.monotonic() + PATIENCE_S
    while not order.is_file():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    script = (
        "import sys; from pathlib import Path; from services.trainer.launch import Shape, run_beside; "
        f"shape = {Shape(1, nodes=2, node_rank=1, leader=leader, run='x')!r}; "
        f"sys.exit(run_beside(shape, Path({str(order)!r}).read_bytes()))"
    )
    with (tmp_path / "beside.log").open("wb") as log:
        beside = subprocess.Popen([sys.executable, "-c", script], stdout=log, stderr=log, cwd=ROOT)
        try:
            heard = finish(child)
            assert heard[-1]["type"] == "result", bench.log("machines")[-3000:]
            assert beside.wait(timeout=PATIENCE_S) == 0, (tmp_path / "beside.log").read_text(
                encoding="utf-8"
            )[-3000:]
        finally:
            beside.kill()
            beside.wait()
    assert not order.exists()
    for step, (loss, _) in losses(alone).items():
        assert losses(heard)[step][0] == pytest.approx(loss, rel=1e-4)


def test_machines_that_find_no_job_end(stores: Stores, tmp_path: Path) -> None:
    with scratch_database(stores.settings.database_url) as url:
        machines = {
            **os.environ,
            **stores.environment,
            "MT_DATABASE_URL": url,
            "MT_HOME": str(tmp_path),
            "MT_TRAINER_RUN": "idle",
            # As Kubeflow's trainer says it.
            "PET_NNODES": "2",
            "PET_NPROC_PER_NODE": "1",
            "PET_MASTER_ADDR": "127.0.0.1",
        }
        command = [sys.executable, "-m", "services.trainer.node"]
        started = [
            subprocess.Popen(command, cwd=ROOT, env={**machines, "PET_NODE_RANK": rank})
            for rank in ("1", "0")
        ]
        try:
            assert [machine.wait(timeout=PATIENCE_S) for machine in started] == [0, 0]
        finally:
            for machine in started:
                machine.kill()
                machine.wait()
