"""How several processes share a training: whose rows, which command, what the machines are told."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from services.trainer import node
from services.trainer.launch import Shape, command, meeting_file, read_shape, true_reason
from services.trainer.recipe.team import ALONE, Team
from services.trainer.settings import TrainerSettings

NEEDED = {"database_url": "x", "broker_url": "x", "internal_token": "t" * 40}


@pytest.mark.parametrize("size", [2, 3, 8])
@pytest.mark.parametrize("rows", [0, 1, 5, 64])
def test_every_row_is_computed_once_and_loads_are_like(size: int, rows: int) -> None:
    draw = random.Random(rows)
    lengths = [draw.randint(8, 512) for _ in range(rows)]
    shares = [Team(rank, size).share(lengths) for rank in range(size)]
    assert sorted(row for share in shares for row in share) == list(range(rows))
    loads = [sum(lengths[row] for row in share) for share in shares]
    # Longest first is at most 4/3 of the best division (Graham 1969), which is at least the mean and the longest row.
    assert max(loads) <= 4 / 3 * max([sum(lengths) / size, *lengths, 0]) + 512 * (rows < 2 * size)


def test_alone_everything_is_computed_here_and_nobody_is_asked() -> None:
    assert ALONE.share([3, 1, 2]) == [0, 1, 2]
    assert ALONE.leads
    with ALONE.leader_first():
        ALONE.wait()


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_the_command_counts_processes_of_all_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    words = command(Shape(4, nodes=2, node_rank=1, leader="node-0.training:29400", run="a"))
    assert option(words, "--num_processes") == "8"
    assert option(words, "--num_machines") == "2"
    assert option(words, "--machine_rank") == "1"
    assert option(words, "--main_process_ip") == "node-0.training"
    assert option(words, "--main_process_port") == "29400"
    assert option(words, "--num_cpu_threads_per_process") == "2"
    assert option(words, "--max_restarts") == "0"
    assert "--multi_gpu" in words
    assert words[-2:] == ["-m", "services.trainer.rank"]


def test_sharding_is_asked_for_in_place_of_copies() -> None:
    words = command(Shape(2, "fsdp"))
    assert "--use_fsdp" in words
    assert "--multi_gpu" not in words
    assert option(words, "--fsdp_state_dict_type") == "FULL_STATE_DICT"


def test_one_process_is_the_default_and_none_means_one_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not read_shape(TrainerSettings(**NEEDED)).is_several  # pyright: ignore[reportArgumentType]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2,5")
    assert read_shape(TrainerSettings(**NEEDED, trainer_processes=0)).processes == 3  # pyright: ignore[reportArgumentType]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert read_shape(TrainerSettings(**NEEDED, trainer_processes=0)).processes == 1  # pyright: ignore[reportArgumentType]


def test_machines_must_know_where_they_meet() -> None:
    with pytest.raises(ValueError, match="MT_TRAINER_LEADER"):
        read_shape(TrainerSettings(**NEEDED, trainer_nodes=2))  # pyright: ignore[reportArgumentType]


def test_the_reason_is_that_of_the_process_that_failed_first(tmp_path: Path) -> None:
    gone = {
        "type": "failure",
        "error": {"code": "internal_error", "message": "Connection closed by peer"},
        "retry": False,
    }
    full = {"type": "failure", "error": {"code": "out_of_memory", "message": "no room"}, "retry": False}
    bad = {
        "type": "failure",
        "error": {"code": "pattern_unmatched", "message": "no such layer"},
        "retry": False,
    }
    assert true_reason(tmp_path, gone) == gone
    (tmp_path / "1.json").write_text(json.dumps(gone), encoding="utf-8")
    (tmp_path / "2.json").write_text(json.dumps(full), encoding="utf-8")
    assert true_reason(tmp_path, gone) == full
    assert true_reason(tmp_path, bad) == bad


def test_what_kubeflow_sets_is_understood() -> None:
    told = node.told(
        {
            "PET_NNODES": "2",
            "PET_NODE_RANK": "1",
            "PET_NPROC_PER_NODE": "auto",
            "PET_MASTER_ADDR": "training-node-0-0.training",
            "PET_MASTER_PORT": "29500",
        }
    )
    assert told == {
        "MT_TRAINER_NODES": "2",
        "MT_TRAINER_NODE_RANK": "1",
        "MT_TRAINER_PROCESSES": "0",
        "MT_TRAINER_LEADER": "training-node-0-0.training:29500",
    }
    assert node.told({"PET_NNODES": "2", "MT_TRAINER_NODES": "3"}) == {}


def test_a_run_cannot_name_a_place_elsewhere(tmp_path: Path) -> None:
    assert meeting_file(tmp_path, "../../etc/x").parent == tmp_path / "teams"
