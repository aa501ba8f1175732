"""`mt up`, `mt status`, `mt down`, `mt logs`: the platform on this machine."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from model_training.cli.console import duration, err, out, print_json
from model_training.errors import UserError
from model_training.home import Home, default_home

if TYPE_CHECKING:
    from model_training.embedded.platform import Platform
    from model_training.embedded.state import PlatformState

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="Data directory; default MT_HOME or ~/.local/share/model-training."),
]
FOLLOW_S = 0.3
NOT_RUNNING = 3


def up(
    home: HomeOption = None,
    port_base: Annotated[
        int, typer.Option(help="Port of the gateway; the services take the next six.")
    ] = 8000,
    foreground: Annotated[
        bool,
        typer.Option("--foreground/--detach", help="Stay here until Ctrl-C, or return when it is ready."),
    ] = False,
    model: Annotated[str, typer.Option(help="Base model to prepare on first use.")] = "gemma-3-270m",
) -> None:
    """Start the platform: PostgreSQL, Valkey and all services."""
    platform = _platform(home, port_base, model)
    running = platform.state
    if running is not None:
        out.print(f"The platform is {running.phase} already at {running.gateway_url} (pid {running.pid}).")
        return
    if foreground:
        _stay(platform)
        return
    from model_training.cli.platform_view import StartView

    began = time.monotonic()
    with StartView() as view:
        state = platform.start(view.show)
    _print_ready(state, time.monotonic() - began, out)
    out.print("It runs in the background; `mt down` ends it.")


def down(home: HomeOption = None) -> None:
    """Stop the platform and everything it started."""
    if _platform(home).stop():
        out.print("The platform is stopped.")
    else:
        out.print("No platform runs.")


def status(
    home: HomeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what runs. The exit code is 0 when the platform is ready."""
    from model_training.cli.platform_view import services_table
    from model_training.embedded.state import age_s, load

    platform = _platform(home)
    state = platform.state
    if as_json and state is not None:
        print_json(state)
    elif state is not None:
        out.print(
            f"{state.phase} at {state.gateway_url} · up {duration(age_s(state.started_at))} · {state.home}",
            soft_wrap=True,
        )
        out.print(services_table(state))
    else:
        last = load(platform.home)
        if as_json:
            print_json({"phase": "stopped", "error": last.error if last else None})
        else:
            out.print(f"No platform runs in {platform.home.root}.{_last_words(last)}", soft_wrap=True)
    if state is None or state.phase != "ready":
        raise typer.Exit(NOT_RUNNING)


def logs(
    service: Annotated[
        str, typer.Argument(help="A service, or postgres, valkey, migrations, model, supervisor.")
    ],
    home: HomeOption = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 50,
) -> None:
    """Print the log of one process."""
    where = Home((home or default_home()).expanduser().absolute())
    path = where.log(service)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in where.logs.glob("*.log"))) or "none yet"
        raise UserError(f"There is no log of {service!r} in {where.logs}.", hint=f"There are: {known}.")
    with path.open(encoding="utf-8", errors="replace") as log:
        for line in deque(log, maxlen=lines):
            out.out(line, end="")
        while follow:
            line = log.readline()
            if line:
                out.out(line, end="")
            else:
                time.sleep(FOLLOW_S)


def _platform(home: Path | None, port_base: int = 8000, model: str = "gemma-3-270m") -> Platform:
    try:
        from model_training.embedded.platform import Platform
    except ImportError as error:
        raise UserError(
            f"The parts that run a platform are not installed ({error.name} is missing).",
            hint="pip install 'model-training[embedded]'",
        ) from error
    return Platform(home, port_base=port_base, model=model)


def _stay(platform: Platform) -> None:
    from model_training.cli.platform_view import StartView

    announced = False

    def show(state: PlatformState) -> None:
        nonlocal announced
        view.show(state)
        if state.phase == "ready" and not announced and state.ready_at is not None:
            announced = True
            _print_ready(state, state.ready_at - state.started_at, err)
            err.print("Ctrl-C ends it.")

    with StartView() as view:
        platform.run(show)
    out.print("The platform is stopped.")


def _print_ready(state: PlatformState, seconds: float, where: Console) -> None:
    where.print(
        Text.assemble(("Ready", "bold green"), f" in {seconds:.1f} s at {state.gateway_url}"), soft_wrap=True
    )
    dashboard = next((service for service in state.services if service.name == "dashboard"), None)
    if dashboard is not None and dashboard.port is not None:
        where.print(Text(f"Dashboard: http://127.0.0.1:{dashboard.port}"), soft_wrap=True)
    home = Home(Path(state.home))
    where.print(f"API key: {home.api_key_file}\nData:    {state.home}\nLogs:    {home.logs}", soft_wrap=True)


def _last_words(last: PlatformState | None) -> str:
    if last is None or last.phase == "stopped":
        return ""
    if last.error:
        return f" The last start failed: {last.error}"
    return " The last one ended without a word (it was killed, or the machine restarted)."
