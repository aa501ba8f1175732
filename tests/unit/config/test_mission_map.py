"""The map of the mission's modules names places that exist, and leaves none of the mission's modules out."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
MAP = ROOT / "docs" / "decisions" / "0002-mission-map.md"
MODULES = [
    "data_loader",
    "model_trainer",
    "checkpoint_manager",
    "metrics",
    "model_evaluator",
    "benchmark_runner",
    "trained_model_client",
    "rag_system_client",
    "base_model_client",
    "comparison_analyzer",
    "base_config",
    "training_config",
    "evaluation_config",
    "comparison_config",
]


def test_every_place_exists() -> None:
    rows = [line.split("|") for line in MAP.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    places = {path for row in rows for path in re.findall(r"`([a-z_0-9]+/[a-z_0-9/.]*)`", row[2])}
    assert len(places) > 15
    assert [place for place in sorted(places) if not (ROOT / place).exists()] == []


def test_every_module_of_the_mission_is_named() -> None:
    text = MAP.read_text(encoding="utf-8")
    assert [name for name in MODULES if name not in text] == []
