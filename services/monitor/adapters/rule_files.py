"""Reads the shipped rules and the file with one's own: rules, channels, manners."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from services.monitor.domain.notices import Channel, Manners
from services.monitor.domain.rules import InvalidRule, Rule, merge, read_rules

SHIPPED = Path(__file__).parent.parent / "rules.yaml"
_VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")


@dataclass(frozen=True)
class AlertConfig:
    """What fires, and who is told how."""

    rules: tuple[Rule, ...]
    channels: tuple[Channel, ...] = ()
    manners: Manners = field(default_factory=Manners)


def shipped_rules() -> list[Rule]:
    """The rules that come with the platform."""
    return read_rules(_load(SHIPPED), SHIPPED.name)


def load(
    path: Path | None, urls: tuple[str, ...] = (), environment: Mapping[str, str] = os.environ
) -> AlertConfig:
    """The shipped rules with what a file changes; a file that is not there changes nothing.

    `${NAME}` in a channel's URL is the environment's, so that no password stands in the file.

    Raises:
        InvalidRule: the file cannot be read or says something that cannot be.
    """
    data: Any = _load(path) if path is not None and path.exists() else {}
    if not isinstance(data, dict):
        raise InvalidRule(f"{path}: write a mapping with `rules`, `without`, `channels` and `manners`.")
    if unknown := sorted(data.keys() - {"rules", "without", "channels", "manners"}):
        raise InvalidRule(
            f"{path}: {unknown[0]!r} is unknown; there are rules, without, channels and manners."
        )
    rules = merge(shipped_rules(), read_rules(data, str(path)), data.get("without") or ())
    try:
        channels = [Channel.model_validate(one) for one in data.get("channels") or ()]
        manners = Manners.model_validate(data.get("manners") or {})
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise InvalidRule(f"{path}: {place}: {fault['msg']} ({fault['input']!r})") from error
    channels = [channel.model_copy(update={"urls": _filled(channel, environment)}) for channel in channels]
    if urls:
        channels.append(Channel(name="environment", urls=urls))
    if len({channel.name for channel in channels}) < len(channels):
        raise InvalidRule(f"{path}: two channels have the same name.")
    return AlertConfig(tuple(rules), tuple(channels), manners)


def _filled(channel: Channel, environment: Mapping[str, str]) -> tuple[str, ...]:
    def value(found: re.Match[str]) -> str:
        if found[1] not in environment:
            raise InvalidRule(f"channel {channel.name}: the environment has no {found[1]}; set it.")
        return environment[found[1]]

    return tuple(_VARIABLE.sub(value, url) for url in channel.urls)


def _load(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidRule(f"{path} cannot be read: {error}") from error
