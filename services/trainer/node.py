"""One machine of several that train a job together: `python -m services.trainer.node`, the same on each.

Machine 0 is a worker that claims one job and exits; its child hands the order to the others, through the data directory that
they share. Which machine this is says `MT_TRAINER_NODE_RANK`, or what Kubeflow's trainer sets (`PET_…`).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping

from libs.common.telemetry import configure_logging
from services.trainer import main as worker
from services.trainer.launch import meeting_file, read_shape, run_beside
from services.trainer.settings import TrainerSettings

LOOK_S = 0.5
_KUBEFLOW = {
    "MT_TRAINER_NODES": "PET_NNODES",
    "MT_TRAINER_NODE_RANK": "PET_NODE_RANK",
    "MT_TRAINER_PROCESSES": "PET_NPROC_PER_NODE",
}


def told(environment: Mapping[str, str]) -> dict[str, str]:
    """Our variables, from Kubeflow's where ours are not set."""
    found = {ours: environment[theirs] for ours, theirs in _KUBEFLOW.items() if theirs in environment}
    if not found.get("MT_TRAINER_PROCESSES", "0").isdigit():
        found["MT_TRAINER_PROCESSES"] = "0"  # "auto", "gpu": one a GPU
    if "PET_MASTER_ADDR" in environment:
        port = environment.get("PET_MASTER_PORT", "29400")
        found["MT_TRAINER_LEADER"] = f"{environment['PET_MASTER_ADDR']}:{port}"
    return {name: value for name, value in found.items() if name not in environment}


def main() -> int:
    """Lead or follow; returns the exit code."""
    os.environ.update(told(os.environ), MT_CLAIM_ONE="true")
    settings = TrainerSettings()  # pyright: ignore[reportCallIssue] (values come from the environment)
    configure_logging("trainer", settings.log_level)
    shape = read_shape(settings)
    order = meeting_file(settings.home, shape.run)
    over = order.with_suffix(".over")
    if settings.trainer_node_rank == 0:
        over.parent.mkdir(parents=True, exist_ok=True)
        try:
            worker.main()
        finally:
            over.touch()
        return 0
    while not order.is_file():
        if over.exists():
            return 0  # there was no job to claim
        time.sleep(LOOK_S)
    return run_beside(shape, order.read_bytes())


if __name__ == "__main__":
    sys.exit(main())
