"""Reads one configuration file, YAML or JSON, into values with their line numbers. Follows no `extends`.

A file holds the fields of one configuration, and may hold three words of its own: `kind` (whose fields these are), `extends`
(what it builds on) and `overlays` (values for one environment). Every fault is one sentence with the line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from model_training.config.errors import ConfigError
from model_training.config.sources import Source, SourceKind
from model_training.config.suggest import did_you_mean

ENVIRONMENTS = ("dev", "staging", "production")
SUFFIXES = (".yaml", ".yml", ".json")
MAX_BYTES = 1_000_000
_OWN_WORDS = ("kind", "extends", "overlays")


@dataclass(frozen=True)
class Layer:
    """Values from one place, each with its source."""

    values: Mapping[str, Any]
    sources: Mapping[str, Source]


@dataclass(frozen=True)
class ConfigFile:
    """One file as it was written. `label` is how messages call it, for example `file run.yaml`."""

    label: str
    kind: str | None
    extends: tuple[str, ...]
    layer: Layer
    overlays: Mapping[str, Layer]


def read_config_file(path: Path) -> ConfigFile:
    """The file at `path`, `.yaml`, `.yml` or `.json`.

    Raises ConfigError when it cannot be read, is not UTF-8, is not valid, or has an unknown word of its own.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"{path} is no configuration file that can be read.", hint=f"Name it {' or '.join(SUFFIXES)}."
        )
    return parse_config(_read_text(path), name=str(path), is_json=path.suffix.lower() == ".json")


def parse_config(text: str, *, name: str, is_json: bool = False, source: SourceKind = "file") -> ConfigFile:
    """The configuration that `text` holds; `name` is a path or a preset's name, for messages.

    Raises ConfigError as `read_config_file` does.
    """
    root = _compose(text, name, lenient=is_json)
    data = _load_json(text, name) if is_json else _construct(root, name)
    lines = _key_lines(root)
    return ConfigFile(
        label=f"{source} {name}",
        kind=_word(data, "kind", name),
        extends=_extends(data.get("extends"), name),
        layer=_layer({k: v for k, v in data.items() if k not in _OWN_WORDS}, lines, Source(source, name)),
        overlays=_overlays(data.get("overlays"), lines, name, source),
    )


def _read_text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"There is no configuration file {path}.", hint="Check the path.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path} is {len(raw):,} bytes long; a configuration has at most {MAX_BYTES:,}.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{path}, line {line}: byte 0x{raw[error.start]:02x} is not UTF-8.",
            hint="Save the file as UTF-8.",
        ) from None


def _load_json(text: str, name: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        for key in keys:
            if keys.count(key) > 1:
                raise ConfigError(f"{name}: {key!r} is written twice.", hint="Keep one of them.")
        return dict(pairs)

    try:
        data = json.loads(text, object_pairs_hook=unique) if text.strip() else {}
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{name}, line {error.lineno}, column {error.colno}: not valid JSON ({error.msg})."
        ) from None
    except RecursionError:
        raise ConfigError(f"{name} is nested too deeply for a configuration.") from None
    return _mapping(data, name)


def _compose(text: str, name: str, *, lenient: bool) -> yaml.Node | None:
    """The tree of nodes, which knows its lines. JSON is read by this only for the lines, so it may fail there."""
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        if lenient:
            return None
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{name}{place}: not valid YAML ({error.problem or error.context}).") from None
    except (yaml.YAMLError, RecursionError) as error:
        if lenient:
            return None
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise ConfigError(f"{name}: not valid YAML ({reason}).") from None


def _construct(root: yaml.Node | None, name: str) -> dict[str, Any]:
    if root is None:
        return {}
    _refuse_duplicates(root, name)
    loader = yaml.SafeLoader("")
    try:
        return _mapping(loader.construct_document(root), name)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else root.start_mark.line + 1
        raise ConfigError(f"{name}, line {line}: not valid YAML ({error.problem}).") from None
    except ValueError as error:
        raise ConfigError(f"{name}: a value cannot be read ({error}).") from None
    finally:
        loader.dispose()


def _refuse_duplicates(node: yaml.Node, name: str) -> None:
    """YAML would keep the last of two equal keys without a word; the other one would be lost."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
        if isinstance(key, yaml.ScalarNode) and key.value in seen:
            line = key.start_mark.line + 1
            raise ConfigError(
                f"{name}, line {line}: {key.value!r} is written twice.", hint="Keep one of them."
            )
        if isinstance(key, yaml.ScalarNode):
            seen.add(key.value)
        _refuse_duplicates(value, name)


def _key_lines(node: yaml.Node | None) -> dict[str, int]:
    """Line of every key of the root and, as `overlays.<environment>.<key>`, of every overlay."""
    lines: dict[str, int] = {}
    for path, key in _walk(node, "", depth=3):
        lines[path] = key.start_mark.line + 1
    return lines


def _walk(node: yaml.Node | None, prefix: str, depth: int) -> list[tuple[str, yaml.Node]]:
    if depth == 0 or not isinstance(node, yaml.MappingNode):
        return []
    found: list[tuple[str, yaml.Node]] = []
    for key, value in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
        path = f"{prefix}{key.value}"
        found += [(path, key), *_walk(value, f"{path}.", depth - 1)]
    return found


def _mapping(data: Any, name: str) -> dict[str, Any]:
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(
            f"{name} holds a {type(data).__name__}, not fields with values.",
            hint="Write lines such as `epochs: 2`.",
        )
    fields = cast("dict[Any, Any]", data)
    for key in fields:
        if not isinstance(key, str):
            raise ConfigError(f"{name}: {key!r} is no field name.", hint="Field names are words.")
    return fields


def _layer(values: Mapping[str, Any], lines: Mapping[str, int], source: Source, prefix: str = "") -> Layer:
    sources = {key: Source(source.kind, source.name, lines.get(f"{prefix}{key}")) for key in values}
    return Layer(dict(values), sources)


def _word(data: Mapping[str, Any], key: str, name: str) -> str | None:
    value = data.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{name}: {key} = {value!r} must be a word.")
    return value


def _extends(value: Any, name: str) -> tuple[str, ...]:
    items: list[Any] = (
        cast("list[Any]", value) if isinstance(value, list) else [] if value is None else [value]
    )
    for item in items:
        if not isinstance(item, str) or not item:
            raise ConfigError(
                f"{name}: extends = {value!r} must be a path or a preset's name, or a list of them.",
                hint="For example `extends: cpu-small` or `extends: ../base.yaml`.",
            )
    return tuple(items)


def _overlays(value: Any, lines: Mapping[str, int], name: str, source: SourceKind) -> dict[str, Layer]:
    found: dict[str, Layer] = {}
    if value is not None and not isinstance(value, dict):
        raise ConfigError(
            f"{name}: overlays = {value!r} must name environments, each with its fields.",
            hint=f"Environments: {', '.join(ENVIRONMENTS)}.",
        )
    for environment, fields in cast("dict[Any, Any]", value or {}).items():
        check_environment(str(environment), where=f"{name}: overlays")
        origin = Source("overlay", f"{environment} of {source} {name}")
        values = _mapping(fields, f"{name}, overlay {environment}")
        found[environment] = _layer(values, lines, origin, prefix=f"overlays.{environment}.")
    return found


def check_environment(environment: str, *, where: str = "MT_ENV") -> str:
    """The name, when it is an environment that overlays can be written for.

    Raises ConfigError otherwise.
    """
    if environment not in ENVIRONMENTS:
        raise ConfigError(
            f"{where}: there is no environment {environment!r}.", hint=did_you_mean(environment, ENVIRONMENTS)
        )
    return environment
