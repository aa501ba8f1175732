"""A child process for tests of the runtime: does what its spec says, through the real protocol."""

from __future__ import annotations

import os
import resource
import signal
import time
from typing import Any

from libs.common.errors import JobFailure, JobStopped
from libs.common.jobs.child import ChildContext, run_child


def work(context: ChildContext) -> dict[str, Any]:
    """Do the steps that no attempt has stored yet; misbehave where told to."""
    spec = context.spec
    done = set(spec["done"])
    print("noise on standard output", flush=True)  # noqa: T201 (libraries do this, and it must not break the protocol)
    for step in range(spec["steps"]):
        if step in done:
            continue
        _misbehave(context, step)
        time.sleep(spec.get("sleep_s", 0.01))
        context.metrics(step, {"value": float(step), "diverged": float("nan")})
        context.progress(step + 1, spec["steps"], "counting")
        context.output("step", {"step": step, "fence": context.fence})
        if context.stop_requested():
            raise JobStopped
    context.event("counted", type="counted", data={"fence": context.fence})
    result = {"steps": spec["steps"], "started_at_step": len(done)}
    if spec.get("fault") == "hang_after_last_word":
        context.finish({"type": "result", "data": result})
        time.sleep(600)
    return result


def _misbehave(context: ChildContext, step: int) -> None:
    """The fault that the spec names, at the third step; some only in the first attempt."""
    fault = FAULTS.get(context.spec.get("fault", ""))
    if fault is not None and step == 2:
        fault(context)


def _die_always(context: ChildContext) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die(context: ChildContext) -> None:
    if context.fence == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def _die_with_heirs(context: ChildContext) -> None:
    if context.fence > 1:
        return
    for own_session in (False, True):
        if os.fork() == 0:  # both hold the pipes; one leaves the session, where no kill reaches it
            if own_session:
                os.setsid()
            time.sleep(5)
            os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


def _stop(context: ChildContext) -> None:
    if context.fence == 1:
        os.kill(os.getpid(), signal.SIGSTOP)


def _fail(context: ChildContext) -> None:
    raise JobFailure("bad_data", "Row 3 is bad.", blame="user", hint="Mend row 3.")


def _crash(context: ChildContext) -> None:
    raise RuntimeError("a bug")


def _odd_text(context: ChildContext) -> None:
    context.event("a null \x00 and half a pair \ud800", data={"\ud800": ["\x00", float("nan")]})


def _deaf(context: ChildContext) -> None:
    time.sleep(600)


def _fill_disk(context: ChildContext) -> None:
    # What a full quota looks like from inside: the kernel refuses to let the file grow (errno EFBIG).
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    with (context.workdir / "checkpoint").open("wb") as file:
        file.write(b"x" * 20_000)


def _eat_memory(context: ChildContext) -> None:
    held = [b"x" * 300_000_000]
    time.sleep(30 * len(held))


def _bad_output(context: ChildContext) -> None:
    context.output("unstorable", {})
    time.sleep(30)


FAULTS = {
    "die": _die,
    "die_always": _die_always,
    "die_with_heirs": _die_with_heirs,
    "stop": _stop,
    "fail": _fail,
    "crash": _crash,
    "odd_text": _odd_text,
    "deaf": _deaf,
    "fill_disk": _fill_disk,
    "eat_memory": _eat_memory,
    "bad_output": _bad_output,
}


if __name__ == "__main__":
    run_child(work)
