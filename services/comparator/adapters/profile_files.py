"""The profiles that come with the comparator, one YAML file each."""

from __future__ import annotations

from importlib.resources import files

import yaml

from model_training.contracts.comparisons import Profile


def shipped_profiles() -> list[Profile]:
    """Every profile of `services/comparator/profiles`, by name."""
    folder = files("services.comparator") / "profiles"
    found = [path for path in folder.iterdir() if path.name.endswith(".yaml")]
    profiles = [Profile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8"))) for path in found]
    return sorted(profiles, key=lambda profile: profile.name)
