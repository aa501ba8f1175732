"""A child process for tests of the runtime: does what its spec says, through the real protocol."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from libs.common.errors import JobFailure, JobStopped
from libs.common.jobs.child import ChildContext, run_child


def work(context: ChildContext) -> dict[str, Any]:
    """Count to `steps`, remembering across attempts how far it came; misbehave once where told to."""
    spec = context.spec
    mark = context.workdir / "step"
    start = int(mark.read_text(encoding="utf-8")) if mark.exists() else 0
    print("noise on standard output", flush=True)  # noqa: T201 (libraries do this, and it must not break the protocol)
    for step in range(start, spec["steps"]):
        _misbehave(context, step)
        time.sleep(spec.get("sleep_s", 0.01))
        mark.write_text(str(step + 1), encoding="utf-8")
        context.metrics(step, {"value": float(step)})
        context.progress(step + 1, spec["steps"], "counting")
        context.output("step", {"step": step})
        if context.stop_requested():
            raise JobStopped
    context.event("counted", data={"from": start})
    return {"steps": spec["steps"], "started_at_step": start}


def _misbehave(context: ChildContext, step: int) -> None:
    match context.spec.get("fault"):
        case "die" if step == 2 and context.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        case "die_always" if step == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        case "fail" if step == 2:
            raise JobFailure("bad_data", "Row 3 is bad.", blame="user", hint="Mend row 3.")
        case "crash" if step == 2:
            raise RuntimeError("a bug")
        case "deaf" if step == 2:
            while True:
                time.sleep(1)
        case _:
            pass


if __name__ == "__main__":
    run_child(work)
