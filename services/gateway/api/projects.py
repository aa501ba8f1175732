"""`/v1/projects`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from model_training.contracts.base import Page
from model_training.contracts.keys import Project, ProjectCreate, ProjectUpdate
from services.gateway.api.dependencies import Admin, After, IdempotencyKey, IfMatch, Limit, Parts, Reader
from services.gateway.api.openapi import ETAG
from services.gateway.service import idempotency, projects
from services.gateway.service.quotas import uncounted
from services.gateway.service.versions import etag

router = APIRouter(prefix="/v1/projects", tags=["projects"])
ProjectId = Annotated[
    str, Path(description="A project's id.", min_length=1, max_length=200, examples=["proj_default"])
]


@router.post("", summary="Make a project", response_model=Project)
def create(
    gateway: Parts, who: Admin, request: ProjectCreate, idempotency_key: IdempotencyKey = None
) -> dict[str, Any]:
    """Make a project with its quotas, and with its priority and weight among the others. Make a key for it next."""
    with gateway.database.session() as session:
        return idempotency.once(
            session,
            who,
            idempotency_key,
            "/v1/projects",
            request.model_dump(mode="json"),
            lambda: projects.create(session, request),
        )


@router.get("", summary="List projects")
def list_projects(gateway: Parts, who: Reader, after: After = None, limit: Limit = 20) -> Page[Project]:
    """All projects for an admin, your own for others, newest first, each with what it uses."""
    with gateway.database.session() as session:
        return projects.list_page(session, who, after, limit)


@router.get("/{project_id}", summary="Retrieve a project", responses={200: {"headers": ETAG}})
def get(gateway: Parts, who: Reader, project_id: ProjectId, response: Response) -> Project:
    """Quotas, priority, weight and what is used of them. The ETag is what a change must name in `If-Match`."""
    with gateway.database.session() as session:
        project = projects.get(session, who, project_id)
    response.headers["ETag"] = etag(project.version)
    return project


@router.patch("/{project_id}", summary="Change a project")
def update(
    gateway: Parts,
    who: Admin,
    project_id: ProjectId,
    request: ProjectUpdate,
    response: Response,
    if_match: IfMatch = None,
) -> Project:
    """Change name, priority, weight or quotas; what is not named stays. Running jobs go on, queued ones feel it."""
    with gateway.database.session() as session:
        project = projects.update(session, project_id, request, if_match)
    uncounted.forget()
    response.headers["ETag"] = etag(project.version)
    return project
