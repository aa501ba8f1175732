"""`mt keys` and `mt projects`: who may do what, and how much. Needs a key with the scope `admin`."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, cast, get_args

import typer
from rich.text import Text

from model_training.cli.console import err, out, print_json, print_table, size, when
from model_training.client.client import Client
from model_training.contracts.keys import ApiKey, Project, ProjectCreate, ProjectUpdate, Quotas, Scope
from model_training.errors import UserError
from model_training.home import Home, default_home, write_private

keys = typer.Typer(help="Make, list, rotate and revoke API keys.", no_args_is_help=True)
projects = typer.Typer(help="Make, list and change projects.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
ProjectOption = Annotated[str | None, typer.Option("--project", help="Whose; your own by default.")]
ProjectId = Annotated[str, typer.Argument(help="A project's id, proj_…")]
Priority = Annotated[int | None, typer.Option(min=-1000, max=1000, help="The higher runs first.")]
Weight = Annotated[float | None, typer.Option(help="Share of the workers beside its equals.")]
OpenJobs = Annotated[int | None, typer.Option("--max-open-jobs", min=0, help="Unfinished jobs at most.")]
RunningJobs = Annotated[int | None, typer.Option("--max-running-jobs", min=0, help="Running jobs at most.")]
Storage = Annotated[int | None, typer.Option("--max-storage-bytes", min=0, help="Bytes of files at most.")]

SCOPES = get_args(Scope)
SELF = "self"
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[list[str] | None, typer.Option(help=f"{', '.join(SCOPES)}; may be repeated.")] = None,
    expires: Annotated[str | None, typer.Option(help="When it ends: 30d, 12h, 90m.")] = None,
    project: ProjectOption = None,
) -> None:
    """Make a key. It is printed once, alone on standard output, and kept nowhere."""
    scopes = scope or ["read"]
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown:
        raise UserError(f"scope {unknown[0]!r} is none.", hint=f"Choose among {', '.join(SCOPES)}.")
    with Client() as client:
        key = client.keys.create(
            name, cast("list[Scope]", scopes), expires_in_s=_seconds(expires), project=project
        )
    if key.key is None:
        raise UserError(
            f"The key {key.id} was made, but its secret was lost with a broken connection.",
            hint=f"Revoke it with `mt keys revoke {key.id}` and make another.",
        )
    until = f", until {when(key.expires_at)}" if key.expires_at else ""
    err.print(f"{key.id} for {key.project}: {', '.join(key.scopes)}{until}. It is shown this once:")
    out.print(Text(key.key), soft_wrap=True)


@keys.command("list")
def list_keys(project: ProjectOption = None, as_json: AsJson = False) -> None:
    """List keys without their secrets, newest first."""
    with Client() as client:
        found = client.keys.list(project=project).data
    if as_json:
        print_json(found)
        return
    print_table(
        ("key", "name", "scopes", "state"),
        ((key.id, key.name, ", ".join(key.scopes), _state(key)) for key in found),
        "There are no keys.",
    )


@keys.command("rotate")
def rotate_key(
    key_id: Annotated[str, typer.Argument(help="A key's id, key_…; `self` is the one in use.")] = SELF,
    overlap: Annotated[str, typer.Option(help="How long the old secret works: 24h, 30m, 0s.")] = "24h",
) -> None:
    """Give a key a new secret. It is printed once, unless it is this machine's own: that is put where `mt` finds it."""
    with Client() as client:
        key = client.keys.rotate(key_id, _seconds(overlap, "--overlap", least=0) or 0)
    if key.key is None:
        raise UserError(
            f"{key.id} was rotated, but its new secret was lost with a broken connection.",
            hint="Rotate it again before the overlap ends.",
        )
    err.print(f"{key.id} has a new secret. The old one works until {when(key.overlap_until)}.")
    home = Home(default_home())
    is_own = key_id == SELF and not (os.environ.get("MT_API_KEY") or os.environ.get("MT_GATEWAY_URL"))
    if is_own and home.api_key_file.exists():
        write_private(home.api_key_file, f"{key.key}\n")
        err.print(f"It is in {home.api_key_file}.", soft_wrap=True)
    else:
        out.print(Text(key.key), soft_wrap=True)


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(help="A key's id, key_…")]) -> None:
    """End a key for good."""
    with Client() as client:
        client.keys.revoke(key_id)
    out.print(f"{key_id} revoked")


@projects.command("create")
def create_project(
    name: Annotated[str, typer.Argument(help="What people call it.")],
    priority: Priority = None,
    weight: Weight = None,
    max_open_jobs: OpenJobs = None,
    max_running_jobs: RunningJobs = None,
    max_storage_bytes: Storage = None,
) -> None:
    """Make a project. Keys for it: `mt keys create NAME --project ID`."""
    quotas = Quotas(
        max_open_jobs=max_open_jobs, max_running_jobs=max_running_jobs, max_storage_bytes=max_storage_bytes
    )
    given = _given(priority=priority, weight=weight)
    with Client() as client:
        _show(client.projects.create(ProjectCreate(name=name, quotas=quotas, **given)))


@projects.command("list")
def list_projects(as_json: AsJson = False) -> None:
    """List projects, newest first."""
    with Client() as client:
        found = client.projects.list(limit=1000).data
    if as_json:
        print_json(found)
        return
    print_table(
        ("project", "name", "priority", "weight", "open", "running", "stored"),
        (
            (p.id, p.name, p.priority, f"{p.weight:g}", p.usage.open_jobs, p.usage.running_jobs,
             size(p.usage.storage_bytes))
            for p in found
        ),
        "There are no projects.",
    )  # fmt: skip


@projects.command("show")
def show_project(project_id: ProjectId, as_json: AsJson = False) -> None:
    """Show a project with what it uses and may use."""
    with Client() as client:
        project = client.projects.get(project_id)
    print_json(project) if as_json else _show(project)


@projects.command("set")
def set_project(
    project_id: ProjectId,
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    priority: Priority = None,
    weight: Weight = None,
    max_open_jobs: OpenJobs = None,
    max_running_jobs: RunningJobs = None,
    max_storage_bytes: Storage = None,
) -> None:
    """Change a project; what is not named stays."""
    with Client() as client:
        project = client.projects.get(project_id)
        quotas = _given(
            max_open_jobs=max_open_jobs,
            max_running_jobs=max_running_jobs,
            max_storage_bytes=max_storage_bytes,
        )
        given = _given(name=name, priority=priority, weight=weight)
        if quotas:
            given["quotas"] = project.quotas.model_copy(update=quotas)
        if not given:
            raise UserError(
                "Nothing to change was named.", hint="`mt projects set --help` lists what can be."
            )
        _show(client.projects.update(project, ProjectUpdate(**given)))


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _show(project: Project) -> None:
    out.print(
        f"[bold]{project.id}[/] {project.name} · priority {project.priority} · weight {project.weight:g}"
    )
    quotas, usage = project.quotas, project.usage

    def of(limit: int | None) -> str:
        return "" if limit is None else f" of {limit}"

    stored = size(usage.storage_bytes)
    most = f" of {size(quotas.max_storage_bytes)}" if quotas.max_storage_bytes is not None else ""
    out.print(
        f"{usage.open_jobs}{of(quotas.max_open_jobs)} jobs open, "
        f"{usage.running_jobs}{of(quotas.max_running_jobs)} running, {stored}{most} stored"
    )


def _state(key: ApiKey) -> str:
    if key.revoked_at:
        return f"revoked {when(key.revoked_at)}"
    return f"until {when(key.expires_at)}" if key.expires_at else "active"


def _seconds(text: str | None, option: str = "--expires", *, least: int = 1) -> int | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)([smhd])", text.strip())
    if found is None or int(found[1]) < least:
        raise UserError(f"{option} {text!r} is no length of time.", hint="Write it like 30d, 12h or 90m.")
    return int(found[1]) * UNITS_S[found[2]]
