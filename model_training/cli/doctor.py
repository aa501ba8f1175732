"""`mt doctor`: what this machine offers, and what keeps generated programs from it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.text import Text

from model_training.cli.console import out, print_json
from model_training.cli.platform import HomeOption
from model_training.errors import UserError
from model_training.home import Home, default_home
from model_training.operations.checks import Check, all_checks

MARKS = {"ok": ("", "green"), "note": (" (note)", "yellow"), "bad": (" (bad)", "bold red")}


def doctor(
    home: HomeOption = None,
    port_base: Annotated[
        int, typer.Option(help="Port of the gateway, whose neighbours are looked at.")
    ] = 8000,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Look at this machine. The exit code is 1 where the platform would not work or generated programs would not be run."""
    checks = all_checks(Home((home or default_home()).expanduser().absolute()), port_base)
    sandbox = run_sandbox()
    is_well = sandbox["is_enough"] and all(check.state != "bad" for check in checks)
    if as_json:
        print_json({
            **{check.name: check.text for check in checks},
            "checks": [asdict(check) for check in checks],
            "sandbox": sandbox,
            "is_well": is_well,
        })  # fmt: skip
    else:
        for check in checks:
            _print(check)
        _show(sandbox)
    if not is_well:
        raise typer.Exit(1)


def run_sandbox() -> dict[str, Any]:
    """What keeps answers apart from this host, tried in a process of its own.

    Raises:
        UserError: the evaluator's parts are not installed.
    """
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


def _print(check: Check) -> None:
    mark, style = MARKS[check.state]
    out.print(Text.assemble(f"{check.name:<11} ", check.text, (mark, style)), soft_wrap=True)
    if check.hint:
        out.print(Text(f"{'':<11} {check.hint}", style="cyan"), soft_wrap=True)


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
