"""The audit log: whatever a request changes in the database is noted in the transaction that changes it.

`install` listens to the gateway's sessions, so that no operation can forget it. Jobs are noted where they are created
(`libs.common.jobs.transitions`), by the statement that creates them. What another service changes on a request's behalf is
noted with `note`, once it has answered.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import event, inspect
from sqlalchemy.orm import Session
from starlette.types import Scope

from libs.common.db.engine import Database
from libs.common.db.tables import (
    ApiKeyRow,
    AuditRow,
    Base,
    ConfigVersionRow,
    EndpointRow,
    FileRow,
    JobRow,
    ModelAliasRow,
    ModelRow,
    ProjectRow,
)
from libs.common.ids import new_id
from model_training.contracts.audit import AuditEntry
from model_training.contracts.base import Page
from services.gateway import repository_access
from services.gateway.domain import Principal


@dataclass(frozen=True)
class _Kind:
    """How a table's changes are noted: under which name, and which fields (none of them secret) are shown."""

    name: str
    fields: tuple[str, ...]
    key: tuple[str, ...] = ("id",)


KINDS: Mapping[type[Base], _Kind] = {
    ApiKeyRow: _Kind(
        "api_key", ("name", "project_id", "scopes", "expires_at", "revoked_at", "overlap_until")
    ),
    ProjectRow: _Kind("project", ("name", "priority", "weight", "quotas")),
    FileRow: _Kind("file", ("filename", "purpose", "bytes", "sha256")),
    ModelRow: _Kind("model", ("base", "artifact")),
    EndpointRow: _Kind("endpoint", ("name", "url", "model")),
    ModelAliasRow: _Kind("alias", ("model", "version", "restores", "reason"), ("project_id", "alias")),
    ConfigVersionRow: _Kind("config", ("version", "values", "reason"), ("section",)),
    JobRow: _Kind("job", ("state", "cancel_requested", "pause_requested")),
}


@dataclass(frozen=True)
class _Request:
    who: Principal
    scope: Scope

    @property
    def operation(self) -> str:
        route = getattr(self.scope.get("route"), "path", "")
        return f"{self.scope['method']} {route}".strip()


_request: ContextVar[_Request | None] = ContextVar("audited_request", default=None)


@contextmanager
def on_behalf_of(who: Principal, scope: Scope) -> Generator[None]:
    """Everything that the block changes is this principal's doing, on this request."""
    token = _request.set(_Request(who, scope))
    try:
        yield
    finally:
        _request.reset(token)


def install(database: Database) -> None:
    """Have every change that a session of this database makes noted in its transaction."""
    event.listen(database.sessions, "before_flush", _collect)
    event.listen(database.sessions, "before_commit", _write)


def note(database: Database, action: str, target: str, data: Mapping[str, Any] | None = None) -> None:
    """Note what another service has changed on this request's behalf."""
    request = _request.get()
    if request is not None:
        with database.session() as session:
            session.add(_entry(request, action, target, dict(data or {})))


def list_page(
    session: Session, after: str | None, limit: int, where: Mapping[str, str | None]
) -> Page[AuditEntry]:
    """Entries, newest first. `where`: fields of the entry and what they must be; None is any."""
    rows, more = repository_access.audit_page(session, after, limit, where)
    names = repository_access.key_names(session, {row.actor for row in rows})
    return Page.of([_describe(row, names.get(row.actor)) for row in rows], more)


_NOTED = "audit"
"""Where a session keeps what it has changed so far: by action and target, one line for each in the end."""


def _collect(session: Session, *_: Any) -> None:
    if _request.get() is None:
        return
    noted: dict[tuple[str, str], dict[str, Any]] = session.info.setdefault(_NOTED, {})
    for verb, rows in (("created", session.new), ("changed", session.dirty), ("deleted", session.deleted)):
        for row in rows:
            kind = KINDS.get(type(row))
            if kind is None or (verb == "changed" and not session.is_modified(row)):
                continue
            target = "/".join(str(getattr(row, name)) for name in kind.key)
            data = noted.setdefault((f"{kind.name}.{verb}", target), {})
            for name, value in (_changes(row, kind) if verb == "changed" else _values(row, kind)).items():
                # A field that changes twice in a transaction was what it was before the first time.
                data[name] = [data[name][0], value[1]] if verb == "changed" and name in data else value


def _write(session: Session) -> None:
    request = _request.get()
    if request is None:
        return
    session.flush()  # what is changed and not written yet is noted by that
    noted: dict[tuple[str, str], dict[str, Any]] = session.info.pop(_NOTED, {})
    session.add_all(
        _entry(request, action, target, data)
        for (action, target), data in noted.items()
        if data or "changed" not in action
    )


def _entry(request: _Request, action: str, target: str, data: dict[str, Any]) -> AuditRow:
    return AuditRow(
        id=new_id("aud"),
        project_id=request.who.project_id,
        actor=request.who.name,
        action=action,
        target=target,
        operation=request.operation,
        request_id=structlog.contextvars.get_contextvars().get("request_id"),
        data=data,
    )


def _values(row: Any, kind: _Kind) -> dict[str, Any]:
    found = {name: _plain(getattr(row, name)) for name in kind.fields}
    return {name: value for name, value in found.items() if value not in (None, "", {}, [])}


def _changes(row: Any, kind: _Kind) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for name in kind.fields:
        history = inspect(row).attrs[name].history
        if history.has_changes():
            changed[name] = [_first(history.deleted), _first(history.added)]
    return changed


def _first(values: Sequence[Any] | None) -> Any:
    return _plain(values[0]) if values else None


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _describe(row: AuditRow, name: str | None) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        at=row.at,
        project=row.project_id,
        actor=row.actor,
        actor_name=name,
        action=row.action,
        target=row.target,
        operation=row.operation,
        request_id=row.request_id,
        data=row.data,
    )
