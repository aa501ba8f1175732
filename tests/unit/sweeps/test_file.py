"""Sweeps as a person writes them: the guide's own examples, and complaints that name the file and the field."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from model_training.cli.sweeps import read
from model_training.contracts.sweep_search import trials_of
from model_training.contracts.sweeps import SweepCreate
from model_training.errors import UserError
from tests.conftest import ROOT


def test_the_guide_shows_sweeps_that_can_be_run(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "guide" / "sweeps.md").read_text(encoding="utf-8")
    grid, draws = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    file = tmp_path / "sweep.yaml"
    file.write_text(grid, encoding="utf-8")
    values = read(file)
    trials = trials_of(SweepCreate.model_validate(values))
    assert len(trials) == 6
    assert trials[0]["learning_rate"] == pytest.approx(1e-4)  # not the text "1e-4"
    head = {name: value for name, value in values.items() if name != "search"}
    file.write_text(yaml.safe_dump(head) + draws, encoding="utf-8")
    assert len(trials_of(SweepCreate.model_validate(read(file)))) == 12


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: gemma-3-270m\ntraining_file: x\n", "search: Field required"),
        ("model: m\ntraining_file: x\nsearch: {lora_r: []}\n", "search.lora_r"),
        ("model: m\ntraining_file: x\nsearch: {lora_r: [8]}\nfinalist: 2\n", "finalist"),
        ("model: [", "YAML"),
    ],
)
def test_a_file_that_is_no_sweep_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        read(file)
    assert words in error.value.message
    assert "sweep.yaml" in error.value.message
