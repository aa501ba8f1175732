"""Waits until every container of a Compose project is healthy, or done: `python3 deploy/compose/wait.py [PROJECT]`.

Prints how long each took from its start; `--json` prints one object. Ends with 1 when a container gives up or the time is
over. The standard library and the `docker` command only.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime
from typing import Any

LIMIT_S = 1800
PAUSE_S = 1.0
LABEL = "com.docker.compose"


def containers(project: str) -> list[dict[str, Any]]:
    """What Docker says of each container of the project."""
    listed = _docker("ps", "-aq", "--filter", f"label={LABEL}.project={project}").split()
    return json.loads(_docker("inspect", *listed)) if listed else []


def seconds(container: dict[str, Any]) -> float | None:
    """How long it took to be healthy, or to end well; None while it is not.

    Raises:
        RuntimeError: it ended badly and is not started again.
    """
    state = container["State"]
    started = _moment(state["StartedAt"])
    if state["Status"] == "exited":
        if state["ExitCode"] == 0:
            return _moment(state["FinishedAt"]) - started
        if container["HostConfig"]["RestartPolicy"]["Name"] in ("", "no"):
            raise RuntimeError(f"exited with {state['ExitCode']}")
        return None
    if state["Status"] != "running" or "Health" not in state:
        return None if state["Status"] != "running" else 0.0
    good = [check for check in state["Health"]["Log"] if check["ExitCode"] == 0]
    return _moment(good[0]["End"]) - started if state["Health"]["Status"] == "healthy" and good else None


def wait(project: str, limit_s: float = LIMIT_S) -> dict[str, float]:
    """Service -> seconds, once all are there.

    Raises:
        RuntimeError: one ended badly, none exists, or the time is over; the services are named.
    """
    deadline = time.monotonic() + limit_s
    took: dict[str, float] = {}
    while True:
        found = containers(project)
        if not found:
            raise RuntimeError(f"There is no container of the project {project}.")
        missing: list[str] = []
        for one in found:
            name = one["Config"]["Labels"][f"{LABEL}.service"]
            try:
                done = seconds(one)
            except RuntimeError as error:
                raise RuntimeError(f"{name} {error}; `docker logs {one['Id'][:12]}` says why.") from error
            if done is None:
                missing.append(name)
            else:
                took.setdefault(name, round(done, 1))
        if not missing:
            return took
        if time.monotonic() > deadline:
            raise RuntimeError(f"Not healthy after {limit_s:.0f} s: {', '.join(sorted(missing))}.")
        time.sleep(PAUSE_S)


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout


def _moment(text: str) -> float:
    """Docker writes nanoseconds, and a zone of `Z` or an offset."""
    head, _, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    zone = rest[len(digits) :].strip() if digits else ""
    if not digits and head.endswith("Z"):
        head, zone = head[:-1], "Z"
    return datetime.fromisoformat(f"{head}.{digits[:6] or '0':0<6}{zone.replace('Z', '+00:00')}").timestamp()


def main(arguments: list[str]) -> int:
    """Wait and tell."""
    names = [word for word in arguments if not word.startswith("-")]
    try:
        took = wait(names[0] if names else "model-training")
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if "--json" in arguments:
        sys.stdout.write(json.dumps(took, indent=1, sort_keys=True) + "\n")
        return 0
    for name, value in sorted(took.items(), key=lambda pair: pair[1]):
        sys.stdout.write(f"{name:16} {value:6.1f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
