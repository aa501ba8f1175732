"""Configuration at run time: reading it with origins, changing it with a version and a reason, going back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from libs.common.db.tables import ConfigVersionRow
from libs.common.errors import InvalidInput, NotFound
from libs.common.runtime_config import SECTIONS, RuntimeConfig, Section, build, newest
from model_training.contracts.base import Page
from model_training.contracts.config import (
    ConfigChange,
    ConfigRestore,
    ConfigSection,
    ConfigValue,
    ConfigVersion,
)
from services.gateway import repository
from services.gateway.domain import Principal
from services.gateway.service.versions import require_match


def list_sections(session: Session, config: RuntimeConfig) -> Page[ConfigSection]:
    """Every section."""
    return Page(data=[get(session, config, name) for name in SECTIONS])


def get(session: Session, config: RuntimeConfig, section: str) -> ConfigSection:
    """A section with the origin of each value.

    Raises:
        NotFound: there is none of that name.
    """
    kind = _kind(section)
    row = newest(session, section)
    return _describe(kind, config, row)


def change(
    session: Session,
    principal: Principal,
    config: RuntimeConfig,
    section: str,
    request: ConfigChange,
    if_match: str | None,
) -> ConfigSection:
    """Set values of a section; null takes a value back.

    Raises:
        NotFound: there is no such section.
        InvalidInput: a name is unknown or a value breaks a rule.
        VersionRequired, StaleVersion: the change is not based on the present version.
    """
    kind = _kind(section)
    row = _locked(session, section, if_match)
    values = {**(row.values if row else {}), **request.values}
    values = {name: value for name, value in values.items() if value is not None}
    return _write(session, principal, config, kind, values, request.reason, row)


def restore(
    session: Session,
    principal: Principal,
    config: RuntimeConfig,
    section: str,
    request: ConfigRestore,
    if_match: str | None,
) -> ConfigSection:
    """Set what was set in an earlier version, as a new version.

    Raises:
        NotFound: there is no such section or version.
        InvalidInput: what was legal then is not any more.
        VersionRequired, StaleVersion: the change is not based on the present version.
    """
    kind = _kind(section)
    row = _locked(session, section, if_match)
    values: Mapping[str, Any] = {}
    if request.version != 0:
        earlier = repository.config_version(session, section, request.version)
        if earlier is None:
            raise NotFound(
                f"Section {section} has no version {request.version}.",
                param="version",
                hint=f"GET /v1/config/{section}/history lists them.",
            )
        values = earlier.values
    return _write(session, principal, config, kind, values, request.reason, row)


def history(session: Session, section: str, before: int | None, limit: int) -> Page[ConfigVersion]:
    """Changes of a section, newest first."""
    _kind(section)
    rows = repository.config_history(session, section, before, limit + 1)
    data = [
        ConfigVersion(
            section=row.section,
            version=row.version,
            values=row.values,
            changed_by=row.changed_by,
            reason=row.reason,
            created_at=row.created_at,
        )
        for row in rows[:limit]
    ]
    return Page(
        data=data,
        first_id=str(data[0].version) if data else None,
        last_id=str(data[-1].version) if data else None,
        has_more=len(rows) > limit,
    )


def _kind(section: str) -> type[Section]:
    kind = SECTIONS.get(section)
    if kind is None:
        raise NotFound(
            f"There is no section {section!r}.", param="section", hint=f"Sections: {', '.join(SECTIONS)}."
        )
    return kind


def _locked(session: Session, section: str, if_match: str | None) -> ConfigVersionRow | None:
    repository.lock_name(session, f"config/{section}")
    row = newest(session, section)
    require_match(if_match, row.version if row else 0, f"section {section}")
    return row


def _write(
    session: Session,
    principal: Principal,
    config: RuntimeConfig,
    kind: type[Section],
    values: Mapping[str, Any],
    reason: str,
    last: ConfigVersionRow | None,
) -> ConfigSection:
    for name in values:
        if name not in kind.model_fields:
            raise InvalidInput(
                f"Section {kind.section} has no value {name!r}.",
                param=f"values.{name}",
                hint=f"It has: {', '.join(kind.model_fields)}.",
            )
    base = {name: setting.value for name, setting in config.inherited(kind.section).items()}
    try:
        build(kind, base | dict(values))
    except ValueError as error:
        name = str(error).partition(":")[0].partition(".")[2]
        raise InvalidInput(f"{error}.", param=f"values.{name}") from error
    row = ConfigVersionRow(
        section=kind.section,
        version=(last.version if last else 0) + 1,
        values=dict(values),
        changed_by=principal.name,
        reason=reason,
    )
    session.add(row)
    repository.tell_of_change(session)
    session.flush()
    session.refresh(row)
    return _describe(kind, config, row)


def _describe(kind: type[Section], config: RuntimeConfig, row: ConfigVersionRow | None) -> ConfigSection:
    changed = row.values if row else {}
    values: dict[str, ConfigValue] = {}
    for name, setting in config.inherited(kind.section).items():
        values[name] = ConfigValue(
            value=changed.get(name, setting.value),
            origin="runtime" if name in changed else setting.origin,
            inherited=setting.value,
            description=kind.model_fields[name].description or "",
        )
    return ConfigSection(
        section=kind.section,
        version=row.version if row else 0,
        values=values,
        changed_at=row.created_at if row else None,
        changed_by=row.changed_by if row else None,
        reason=row.reason if row else None,
    )
