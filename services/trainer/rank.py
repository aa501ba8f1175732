"""One of several processes that train a job together; started by `accelerate launch`, see `launch`.

Process 0 is to the worker what a child is: its standard input and output are the socket that `launch` holds. The others know
the order from a file, say nothing, and leave a note if they fail alone.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from libs.common.errors import JobFailure, JobStopped
from libs.common.jobs.child import ChildContext, run_child
from libs.common.jobs.failures import failure_of
from services.trainer.child import prepare_process
from services.trainer.domain import TrainOrder
from services.trainer.grading import grading
from services.trainer.launch import FAULTS, ORDER, SHARDING, SOCKET
from services.trainer.settings import GradingSettings

STARTED = time.monotonic()
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Launched processes are in sessions of their own, where the worker does not look for them."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:
            os._exit(1)


def train(job: dict[str, Any], speaker: ChildContext | None) -> dict[str, Any]:
    """This process's part of the job; the result is process 0's."""
    order = TrainOrder.from_dict(job["spec"])
    prepare_process(order.config)
    from services.trainer.recipe.run import train_together

    grade = grading(GradingSettings()) if speaker is not None else None
    return train_together(
        job, order, speaker, is_sharded=os.environ[SHARDING] == "fsdp", started=STARTED, grade=grade
    )


def _lead() -> None:
    """Speak with the worker through the socket as if it were the pipe of a child."""
    line = socket.socket(socket.AF_UNIX)
    line.connect(os.environ[SOCKET])
    for descriptor in (0, 1):
        os.dup2(line.fileno(), descriptor)
    line.close()
    run_child(lambda context: train(_order(), context))


def _follow() -> None:
    """Train and be silent."""
    try:
        train(_order(), None)
    except JobStopped:
        pass
    except BaseException as error:
        failure = error if isinstance(error, JobFailure) else failure_of(error)
        traceback.print_exc()
        # Where all fail alike, process 0 says so; the note is read only if it could not.
        note = {"type": "failure", "error": failure.as_dict(), "retry": failure.retry}
        path = Path(os.environ[ORDER]).parent / FAULTS / f"{os.environ['RANK']}.json"
        path.write_text(json.dumps(note), encoding="utf-8")
        sys.stderr.flush()
        os._exit(1)
    sys.stderr.flush()
    os._exit(0)


def _order() -> dict[str, Any]:
    return json.loads(Path(os.environ[ORDER]).read_text(encoding="utf-8"))


if __name__ == "__main__":
    die_with_parent()
    if os.environ["RANK"] == "0":
        _lead()
    else:
        _follow()
