"""Puts the layers of a configuration in order: what a file extends, the file, its overlay, environment variables, overrides.

Later layers win. This module knows nothing of fields and their rules.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_training.config.errors import ConfigError
from model_training.config.files import ConfigFile, Layer, check_environment, read_config_file
from model_training.config.presets import preset_names, read_preset
from model_training.config.sources import OVERRIDE, Source

ENVIRONMENT_VARIABLE = "MT_ENV"
DEFAULT_ENVIRONMENT = "dev"


def file_layers(source: str | os.PathLike[str] | None, environment: str, kind: str) -> list[Layer]:
    """Layers of a file or preset: everything that it extends first, then itself; each file's overlay right behind it.

    Raises ConfigError for a circle, a missing file, or a file of another kind.
    """
    if source is None:
        return []
    stack = _resolve(os.fspath(source), Path(), ())
    for file in stack:
        if file.kind not in (None, kind):
            raise ConfigError(
                f"{file.label} is of kind {file.kind!r}, not {kind!r}.", hint="Name another file."
            )
    layers: list[Layer] = []
    for file in stack:
        layers.append(file.layer)
        if environment in file.overlays:
            layers.append(file.overlays[environment])
    return layers


def current_environment(environment: str | None, env: Mapping[str, str]) -> str:
    """The environment asked for, else `MT_ENV`, else `dev`.

    Raises ConfigError for a name that is none.
    """
    if environment is not None:
        return check_environment(environment, where="environment")
    return check_environment(env.get(ENVIRONMENT_VARIABLE) or DEFAULT_ENVIRONMENT)


def variable_prefix(kind: str) -> str:
    """What names of environment variables for a kind of configuration begin with: `MT_TRAINING__`."""
    return f"MT_{kind.upper()}__"


def environment_layer(kind: str, env: Mapping[str, str]) -> Layer:
    """The texts of `MT_<KIND>__<FIELD>` variables, by field name in lower case; they are not parsed here."""
    prefix = variable_prefix(kind)
    names = {name.removeprefix(prefix).lower(): name for name in sorted(env) if name.startswith(prefix)}
    values = {field: env[name] for field, name in names.items()}
    return Layer(values, {field: Source("environment", name) for field, name in names.items()})


def override_layer(overrides: Mapping[str, Any] | None) -> Layer:
    """Explicit values, which win over all others."""
    values = dict(overrides or {})
    return Layer(values, dict.fromkeys(values, OVERRIDE))


def _resolve(reference: str, folder: Path, chain: tuple[str, ...]) -> list[ConfigFile]:
    """The file of `reference` behind all files that it extends; `chain` holds those that led here."""
    identity, path = _locate(reference, folder)
    if identity in chain:
        circle = " extends ".join([*chain[chain.index(identity) :], identity])
        raise ConfigError(f"The configuration goes in a circle: {circle}.", hint="Take one `extends` out.")
    file = read_preset(reference) if path is None else read_config_file(path)
    below = path.parent if path is not None else Path()
    extended = [f for parent in file.extends for f in _resolve(parent, below, (*chain, identity))]
    return [*extended, file]


def _locate(reference: str, folder: Path) -> tuple[str, Path | None]:
    """What `reference` means: a preset (no path), or a file, relative to the folder of the file that names it."""
    path = folder / reference
    looks_like_file = path.suffix.lower() in (".yaml", ".yml", ".json") or len(Path(reference).parts) > 1
    if reference in preset_names() or not looks_like_file:
        return f"preset {reference}", None
    return str(path.resolve()), path
