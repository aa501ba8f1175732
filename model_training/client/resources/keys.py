"""API keys, what was done with them, and their projects. All of it needs the scope `admin`, but for reading projects."""

from __future__ import annotations

from model_training.client.transport import Transport
from model_training.contracts.audit import AuditEntry
from model_training.contracts.base import Deleted, Page
from model_training.contracts.keys import (
    ApiKey,
    ApiKeyCreate,
    ApiKeyRotate,
    NewApiKey,
    Project,
    ProjectCreate,
    ProjectUpdate,
    Scope,
)


class Keys:
    """`/v1/api_keys`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        name: str,
        scopes: list[Scope],
        *,
        expires_in_s: int | None = None,
        project: str | None = None,
    ) -> NewApiKey:
        """Make a key. Its secret is in this answer and nowhere else."""
        body = ApiKeyCreate(name=name, scopes=scopes, expires_in_s=expires_in_s, project=project)
        return self._transport.create(NewApiKey, "/v1/api_keys", body)

    def list(self, *, project: str | None = None, after: str | None = None, limit: int = 100) -> Page[ApiKey]:
        """One page, newest first, without secrets."""
        params = {"project": project, "after": after, "limit": limit}
        return self._transport.get(Page[ApiKey], "/v1/api_keys", params)

    def rotate(self, key_id: str, overlap_s: int) -> NewApiKey:
        """Give a key a new secret; the old one works for `overlap_s` seconds more. `self` is the key that asks."""
        body = ApiKeyRotate(overlap_s=overlap_s)
        return self._transport.create(NewApiKey, f"/v1/api_keys/{key_id}/rotate", body)

    def revoke(self, key_id: str) -> Deleted:
        """End a key for good; it stays in the list."""
        return self._transport.delete(Deleted, f"/v1/api_keys/{key_id}")


class Audit:
    """`/v1/audit`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, after: str | None = None, limit: int = 100, **where: str | None) -> Page[AuditEntry]:
        """One page, newest first. `where`: actor, action, target or project, and what it must be."""
        params = {"after": after, "limit": limit, **where}
        return self._transport.get(Page[AuditEntry], "/v1/audit", params)


class Projects:
    """`/v1/projects`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, request: ProjectCreate) -> Project:
        """Make a project."""
        return self._transport.create(Project, "/v1/projects", request)

    def get(self, project_id: str) -> Project:
        """One project with what it uses."""
        return self._transport.get(Project, f"/v1/projects/{project_id}")

    def list(self, *, after: str | None = None, limit: int = 20) -> Page[Project]:
        """One page, newest first."""
        return self._transport.get(Page[Project], "/v1/projects", {"after": after, "limit": limit})

    def update(self, project: Project, change: ProjectUpdate) -> Project:
        """Change what is set in `change`, unless the project has changed since it was read."""
        path = f"/v1/projects/{project.id}"
        return self._transport.change(Project, path, change, project.version, method="PATCH")
