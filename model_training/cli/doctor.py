"""`mt doctor`: what this machine offers, and what keeps generated programs from it."""

from __future__ import annotations

import json
import os
import platform as machine
import shutil
import subprocess
import sys
from typing import Annotated, Any

import typer

from model_training.cli.console import out, print_json, size
from model_training.errors import UserError
from model_training.home import default_home


def doctor(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Look at this machine. The exit code is 1 where generated programs would not be run."""
    sandbox = _sandbox()
    facts = {
        "python": f"{machine.python_version()} on {machine.system()} {machine.release()}, {machine.machine()}",
        "processors": str(
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        ),
        "disk": f"{size(_free_bytes())} free for {default_home()}",
        "user": "root" if os.geteuid() == 0 else f"an ordinary one (uid {os.geteuid()})",
    }
    if as_json:
        print_json({**facts, "sandbox": sandbox})
    else:
        for name, value in facts.items():
            out.print(f"{name:<11} {value}", soft_wrap=True)
        _show(sandbox)
    if not sandbox["is_enough"]:
        raise typer.Exit(1)


def _sandbox() -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, "-m", "services.evaluator.doctor"],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if run.returncode != 0:
        last = (run.stderr.strip().splitlines() or ["no output"])[-1]
        raise UserError(
            f"The sandbox could not be tried: {last}", hint="pip install 'model-training[evaluator]'"
        )
    return json.loads(run.stdout)


def _free_bytes() -> int:
    folder = default_home()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _show(sandbox: dict[str, Any]) -> None:
    abi = sandbox["landlock_abi"]
    out.print(f"kernel      Landlock {f'version {abi}' if abi else 'not there'}, seccomp "
              f"{'there' if sandbox['seccomp'] else 'not there'}")  # fmt: skip
    out.print(f"isolation   {sandbox['text']}", soft_wrap=True)
    out.print("Tried just now, from within an answer's process:")
    for name, state in sandbox["doors"].items():
        out.print(f"  {name:<36} {'[green]refused[/]' if state == 'closed' else '[bold red]POSSIBLE[/]'}")
    if not sandbox["is_enough"]:
        out.print(
            "[bold red]Generated programs are not run here.[/] Allow user namespaces, or a kernel with Landlock "
            "and seccomp. MT_GRADE_UNISOLATED=true runs them with limits alone.",
            soft_wrap=True,
        )
