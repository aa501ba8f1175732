"""The presets that come with the package, by name. A preset is a configuration file like any other."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from model_training.config.errors import ConfigError
from model_training.config.files import ConfigFile, parse_config
from model_training.config.suggest import did_you_mean


@lru_cache(maxsize=1)
def preset_names() -> tuple[str, ...]:
    """Names of all presets, sorted."""
    folder = files("model_training.config").joinpath("presets")
    return tuple(
        sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))
    )


@lru_cache(maxsize=64)
def read_preset(name: str) -> ConfigFile:
    """The preset called `name`.

    Raises ConfigError when there is none of that name.
    """
    if name not in preset_names():
        hint = did_you_mean(name, preset_names(), noun="Presets")
        raise ConfigError(
            f"There is no preset {name!r}.", hint=f"{hint} A file needs its ending: .yaml, .yml or .json."
        )
    path = files("model_training.config").joinpath("presets", f"{name}.yaml")
    return parse_config(path.read_text(encoding="utf-8"), name=name, source="preset")


def preset_summary(name: str) -> str:
    """The first comment line of a preset, which says what it is for."""
    path = files("model_training.config").joinpath("presets", f"{name}.yaml")
    first = path.read_text(encoding="utf-8").splitlines()[0]
    return first.removeprefix("#").strip()
