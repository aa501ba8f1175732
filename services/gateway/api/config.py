"""`/v1/config`: configuration at run time."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from model_training.contracts.base import Page
from model_training.contracts.config import ConfigChange, ConfigRestore, ConfigSection, ConfigVersion
from services.gateway.api.dependencies import Admin, AfterVersion, IfMatch, Limit, Parts, Reader
from services.gateway.api.openapi import ETAG
from services.gateway.service import config
from services.gateway.service.versions import etag

router = APIRouter(prefix="/v1/config", tags=["config"])
SectionName = Annotated[
    str, Path(description="A section's name.", min_length=1, max_length=100, examples=["limits"])
]


@router.get("", summary="List the configuration")
def list_sections(gateway: Parts, who: Reader) -> Page[ConfigSection]:
    """Every section that can be changed while the platform runs."""
    with gateway.database.session() as session:
        return config.list_sections(session, gateway.config)


@router.get("/{section}", summary="Retrieve a section", responses={200: {"headers": ETAG}})
def get(gateway: Parts, who: Reader, section: SectionName, response: Response) -> ConfigSection:
    """Every value with its origin, and what it would be without the change at run time. The ETag is for `If-Match`."""
    with gateway.database.session() as session:
        found = config.get(session, gateway.config, section)
    response.headers["ETag"] = etag(found.version)
    return found


@router.patch("/{section}", summary="Change a section")
def change(
    gateway: Parts,
    who: Admin,
    section: SectionName,
    request: ConfigChange,
    response: Response,
    if_match: IfMatch = None,
) -> ConfigSection:
    """Set values with a reason. Every process takes them up within two seconds; null takes a value back."""
    with gateway.database.session() as session:
        found = config.change(session, who, gateway.config, section, request, if_match)
    gateway.config.forget()
    response.headers["ETag"] = etag(found.version)
    return found


@router.get("/{section}/history", summary="List a section's changes")
def history(
    gateway: Parts, who: Reader, section: SectionName, after: AfterVersion = None, limit: Limit = 20
) -> Page[ConfigVersion]:
    """Who changed what, when and why, newest first."""
    with gateway.database.session() as session:
        return config.history(session, section, after, limit)


@router.post("/{section}/restore", summary="Restore a section")
def restore(
    gateway: Parts,
    who: Admin,
    section: SectionName,
    request: ConfigRestore,
    response: Response,
    if_match: IfMatch = None,
) -> ConfigSection:
    """Set what was set in an earlier version. It becomes a new version; nothing is taken out of the history."""
    with gateway.database.session() as session:
        found = config.restore(session, who, gateway.config, section, request, if_match)
    gateway.config.forget()
    response.headers["ETag"] = etag(found.version)
    return found
