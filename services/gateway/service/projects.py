"""Projects: whom resources belong to, how much they may have, and in what order their jobs run."""

from __future__ import annotations

from sqlalchemy.orm import Session

from libs.common.db.tables import ProjectRow
from libs.common.errors import Conflict, NotFound
from libs.common.ids import new_id
from model_training.contracts.base import Page
from model_training.contracts.keys import Project, ProjectCreate, ProjectUpdate, ProjectUsage, Quotas
from services.gateway import repository
from services.gateway.domain import Principal
from services.gateway.service.versions import require_match

COUNTED = 1_000_000


def create(session: Session, request: ProjectCreate) -> Project:
    """Make a project.

    Raises:
        Conflict: the name is taken.
    """
    _require_free(session, request.name)
    row = ProjectRow(
        id=new_id("proj"),
        name=request.name,
        priority=request.priority,
        weight=request.weight,
        quotas=request.quotas.model_dump(exclude_none=True),
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return describe(session, row)


def get(session: Session, principal: Principal, project_id: str) -> Project:
    """One project with what it uses.

    Raises:
        NotFound: there is none of that id that the key may see.
    """
    row = repository.project(session, project_id)
    if row is None or not (principal.is_admin or row.id == principal.project_id):
        raise _missing(project_id)
    return describe(session, row)


def list_page(session: Session, principal: Principal, after: str | None, limit: int) -> Page[Project]:
    """All projects for an admin, the key's own for others; newest first."""
    only = None if principal.is_admin else principal.project_id
    rows, more = repository.projects(session, only, after, limit)
    return Page.of([describe(session, row) for row in rows], more)


def update(session: Session, project_id: str, request: ProjectUpdate, if_match: str | None) -> Project:
    """Change what the request names.

    Raises:
        NotFound: there is none of that id.
        VersionRequired, StaleVersion: the change is not based on the present version.
        Conflict: the new name is taken.
    """
    row = repository.locked_project(session, project_id)
    if row is None:
        raise _missing(project_id)
    require_match(if_match, row.version, f"project {project_id}")
    if request.name is not None and request.name != row.name:
        _require_free(session, request.name)
        row.name = request.name
    if request.priority is not None:
        row.priority = request.priority
    if request.weight is not None:
        row.weight = request.weight
    if request.quotas is not None:
        row.quotas = request.quotas.model_dump(exclude_none=True)
    row.version += 1
    repository.tell_of_change(session)
    session.flush()
    return describe(session, row)


def _missing(project_id: str) -> NotFound:
    return NotFound(f"There is no project {project_id!r}.", param="id", hint="GET /v1/projects lists them.")


def _require_free(session: Session, name: str) -> None:
    repository.lock_name(session, f"project/{name}")
    other = repository.project_named(session, name)
    if other is not None:
        raise Conflict(
            f"Project {other.id} has the name {name!r}.", param="name", hint="Choose another name."
        )


def describe(session: Session, row: ProjectRow) -> Project:
    """A project as the API shows it."""
    usage = ProjectUsage(
        open_jobs=repository.open_jobs(session, row.id, None, COUNTED),
        running_jobs=repository.running_jobs(session, row.id),
        storage_bytes=repository.stored_bytes(session, row.id),
    )
    return Project(
        id=row.id,
        name=row.name,
        priority=row.priority,
        weight=row.weight,
        quotas=Quotas.model_validate(row.quotas),
        usage=usage,
        version=row.version,
        created_at=row.created_at,
    )
