"""The form stands for the whole configuration: each field once, read as the configuration takes it."""

from __future__ import annotations

from typing import Any

import pytest

from model_training.config.training_config import TrainingConfig
from services.dashboard import training_fields
from services.dashboard.training_fields import GROUPS, NOT_OURS, SENT_APART, changed, fields, read


def test_every_field_stands_in_one_group() -> None:
    grouped = [name for _, names in GROUPS for name in names]
    assert len(grouped) == len(set(grouped))
    assert {*grouped} == {*TrainingConfig.model_fields} - SENT_APART - NOT_OURS


def test_every_field_has_help_and_a_kind() -> None:
    for field in fields().values():
        assert field.help, field.name
        assert "Default:" in field.hint
    assert fields()["learning_rate"].kind == "number"
    assert fields()["bf16"].choices == ("auto", True, False)
    assert (fields()["lora_r"].low, fields()["lora_r"].high) == (1, 1024)
    assert "From 1 to 1,024." in fields()["lora_r"].hint


def test_defaults_read_back_as_themselves_and_ask_for_nothing() -> None:
    given = {name: field.default for name, field in fields().items()}
    values = {name: read(fields()[name], value) for name, value in given.items()}
    assert changed(values) == {}


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("epochs", 3.0, 3),
        ("max_steps", None, None),
        ("epochs", None, 2),
        ("rank_pattern", '{"q_proj": 32}', {"q_proj": 32}),
        ("save_steps", "40", 40),
        ("save_steps", "auto", "auto"),
        ("learning_rate", 1e-3, 1e-3),
    ],
)
def test_what_people_enter_is_taken(name: str, given: Any, taken: Any) -> None:
    assert read(fields()[name], given) == taken


@pytest.mark.parametrize(
    ("name", "given"), [("epochs", 2.5), ("rank_pattern", "q_proj=32"), ("rank_pattern", "[1]")]
)
def test_what_is_no_value_is_refused_by_name(name: str, given: Any) -> None:
    with pytest.raises(ValueError, match=name):
        read(fields()[name], given)


def test_presets_are_those_for_training_and_can_be_asked_for() -> None:
    assert {"cpu-small", "gpu-qlora", "smoke"} <= {*training_fields.presets()}
    assert "demo-comparison" not in training_fields.presets()
    for name in training_fields.presets():
        values = training_fields.preset_values(name)
        TrainingConfig(**values, check_machine=False)
