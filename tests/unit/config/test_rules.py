"""Dependent rules of every configuration, and what a machine lacks."""

from __future__ import annotations

from typing import Any

import pytest

from model_training.config import training_config
from model_training.config.base_config import BaseConfig
from model_training.config.comparison_config import ComparisonConfig
from model_training.config.errors import ConfigError
from model_training.config.evaluation_config import EvaluationConfig
from model_training.config.kinds import KINDS
from model_training.config.machine import Machine, this_machine
from model_training.config.monitoring_config import MonitoringConfig
from model_training.config.training_config import TrainingConfig

GPU = Machine(
    nvidia_gpu=True, processor="x86_64", packages=frozenset({"bitsandbytes", "unsloth", "flash_attn"})
)
CPU = Machine(nvidia_gpu=False, processor="x86_64", packages=frozenset({"bitsandbytes"}))
BARE = Machine(nvidia_gpu=False, processor="x86_64", packages=frozenset())
RISC = Machine(nvidia_gpu=False, processor="riscv64", packages=frozenset({"bitsandbytes"}))


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_config, "this_machine", lambda: CPU)


@pytest.mark.parametrize(
    ("config", "values", "field", "says"),
    [
        (TrainingConfig, {"fp16": True, "bf16": True, "check_machine": False}, "fp16", "excludes bf16"),
        (TrainingConfig, {"fp16": True, "device": "cpu"}, "fp16", "on a GPU only"),
        (TrainingConfig, {"model_name": "gemma-2b", "max_length": 8193}, "max_length", "at most 8,192"),
        (TrainingConfig, {"max_length": 32_769}, "max_length", "at most 32,768"),
        (TrainingConfig, {"validation_fraction": 0}, "early_stopping_patience", "rows to validate on"),
        (TrainingConfig, {"save_steps": 30}, "save_steps", "a multiple of eval_steps (20)"),
        (
            TrainingConfig,
            {"device": "cpu", "backend": "unsloth", "check_machine": False},
            "backend",
            "GPU only",
        ),
        (
            TrainingConfig,
            {"device": "cpu", "attention": "flash_attention_2", "check_machine": False},
            "attention",
            "GPU only",
        ),
        (TrainingConfig, {"model_name": "gemma-9"}, "model_name", "not in the catalogue"),
        (
            EvaluationConfig,
            {"evaluation_file": None},
            "benchmark_suite",
            "finds its items in evaluation_file",
        ),
        (EvaluationConfig, {"benchmark_suite": ["a", "a"]}, "benchmark_suite", "names a twice"),
        (EvaluationConfig, {"shots": 65}, "shots", "from 0 to 64"),
        (ComparisonConfig, {"evaluation_file": None}, "evaluation_file", "nothing would be asked"),
        (ComparisonConfig, {"arms": ["base"], "trained_model": "model_1"}, "trained_model", "no arm uses it"),
        (ComparisonConfig, {"arms": ["base", "base"]}, "arms", "twice"),
        (ComparisonConfig, {"test_queries": ["  "]}, "test_queries[0]", "at least 1 character"),
        (
            ComparisonConfig,
            {"evaluation_file": None, "benchmark_suite": ["qa"]},
            "benchmark_suite",
            "evaluation_file",
        ),
        (MonitoringConfig, {"gpu_temperature_warning_c": 95}, "gpu_temperature_warning_c", "must be below"),
    ],
)
def test_broken_rules(config: type[BaseConfig], values: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(**values)
    assert [fault.field for fault in caught.value.faults] == [field]
    assert says in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("machine", "values", "field"),
    [
        (BARE, {"load_in_4bit": True}, "load_in_4bit"),
        (RISC, {"load_in_4bit": True}, "load_in_4bit"),
        (CPU, {"device": "cuda"}, "device"),
        (CPU, {"fp16": True}, "fp16"),
        (CPU, {"backend": "unsloth"}, "backend"),
        (CPU, {"attention": "flash_attention_2"}, "attention"),
    ],
)
def test_what_a_machine_lacks(
    monkeypatch: pytest.MonkeyPatch, machine: Machine, values: dict[str, Any], field: str
) -> None:
    monkeypatch.setattr(training_config, "this_machine", lambda: machine)
    with pytest.raises(ConfigError) as caught:
        TrainingConfig(**values)
    assert [fault.field for fault in caught.value.faults] == [field]
    assert "check_machine" in (caught.value.hint or "")
    assert TrainingConfig(**values, check_machine=False).check_machine is False
    monkeypatch.setattr(training_config, "this_machine", lambda: GPU)
    assert TrainingConfig(**values)


def test_four_bits_work_on_a_cpu_with_bitsandbytes() -> None:
    config = TrainingConfig()
    config.load_in_4bit = True
    assert config.load_in_4bit


@pytest.mark.parametrize(
    ("values", "precision"),
    [
        ({}, "auto"),
        ({"bf16": True}, "bf16"),
        ({"fp16": True, "check_machine": False}, "fp16"),
        ({"bf16": False, "fp16": False}, "fp32"),
        ({"bf16": False}, "auto"),
    ],
)
def test_precision(values: dict[str, Any], precision: str) -> None:
    assert TrainingConfig(**values).precision == precision


def test_resolved_values() -> None:
    assert TrainingConfig(eval_steps=7).steps_between_saves == 7
    assert TrainingConfig(eval_steps=7, save_steps=21).steps_between_saves == 21
    assert TrainingConfig(model_name="google/gemma-3-1b-pt").model_name == "gemma-3-1b"
    assert EvaluationConfig(model_path="checkpoints/best_model").evaluated_model == "checkpoints/best_model"
    assert EvaluationConfig().evaluated_model == "gemma-3-270m"


def test_this_machine_is_looked_at_without_torch() -> None:
    machine = this_machine()
    assert machine.processor == machine.processor.lower()
    assert machine.has("bitsandbytes") is (
        __import__("importlib.util").util.find_spec("bitsandbytes") is not None
    )


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_every_field_is_documented_and_named_in_no_alias(config: type[BaseConfig]) -> None:
    for name, field in config.model_fields.items():
        assert field.description, f"{config.__name__}.{name} has no description"
        assert field.description.strip().endswith("."), f"{config.__name__}.{name}: end the sentence"
    for alias, name in config.also_known_as.items():
        assert alias not in config.model_fields
        assert name in config.model_fields
