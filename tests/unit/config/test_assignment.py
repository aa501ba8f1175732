"""Changing a configuration: what is checked, what is rolled back, and where values say they came from."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_training.config.comparison_config import ComparisonConfig
from model_training.config.errors import ConfigError
from model_training.config.training_config import TrainingConfig


def test_the_mission_snippet() -> None:
    config = TrainingConfig.create_default()
    config.model_name = "gemma-2b"
    config.learning_rate = 2e-4
    config.batch_size = 4
    config.epochs = 3
    assert (config.model_name, config.learning_rate, config.batch_size, config.epochs) == (
        "gemma-2b",
        2e-4,
        4,
        3,
    )
    assert config.source_of("epochs") == "assignment"
    assert config.source_of("seed") == "default"


def test_a_refused_assignment_names_field_value_rule_and_way_out() -> None:
    config = TrainingConfig()
    with pytest.raises(ConfigError) as caught:
        config.learning_rate = -1
    error = caught.value
    assert error.message == "TrainingConfig.learning_rate = -1 (assignment): must be greater than 0."
    assert error.hint == "The default is 0.0002."
    assert (error.faults[0].field, error.faults[0].value) == ("learning_rate", -1)
    assert config.learning_rate == 2e-4
    assert config.source_of("learning_rate") == "default"


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("batch_size", "many", "must be an integer"),
        ("batch_size", True, "must not be true or false"),
        ("batch_size", 1.5, "must be an integer"),
        ("learning_rate", float("nan"), "must be a finite number"),
        ("learning_rate", float("inf"), "must be a finite number"),
        ("device", "gpu", "must be 'auto', 'cpu' or 'cuda'"),
        ("bf16", "maybe", "must be 'auto' or true or false"),
        ("save_steps", 0, "must be at least 1 or 'auto'"),
        ("target_modules", [], "must have at least 1 item, not 0"),
        ("suffix", "two words", "must match pattern"),
        ("training_file", None, "must be a string"),
    ],
)
def test_field_rules(field: str, value: Any, says: str) -> None:
    config = TrainingConfig()
    before = config.model_copy()
    with pytest.raises(ConfigError) as caught:
        setattr(config, field, value)
    assert caught.value.message.startswith(f"TrainingConfig.{field} = {value!r}")
    assert says in caught.value.message
    assert config == before


def test_the_faulty_item_of_a_list_is_named() -> None:
    with pytest.raises(ConfigError, match=r"target_modules\[1\] = 'zz_proj'"):
        TrainingConfig(target_modules=["q_proj", "zz_proj"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("lerning_rate", "Did you mean learning_rate?"),
        ("lr", "Here it is learning_rate."),
        ("num_train_epochs", "Here it is epochs."),
        ("zzz", "Fields: model_name, "),
    ],
)
def test_unknown_fields_are_refused_with_a_suggestion(name: str, hint: str) -> None:
    config = TrainingConfig()
    with pytest.raises(ConfigError, match="there is no such field") as caught:
        setattr(config, name, 1)
    assert (caught.value.hint or "").startswith(hint)
    with pytest.raises(ConfigError):
        config.source_of(name)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        TrainingConfig(batch_size=0, epochs=0, foo=1)  # type: ignore[call-arg]
    assert {fault.field for fault in caught.value.faults} == {"batch_size", "epochs", "foo"}
    assert caught.value.message.startswith("3 settings cannot be used.")


def test_a_dependent_rule_rolls_the_assignment_back_and_update_reaches_the_end() -> None:
    config = TrainingConfig(max_length=16_000)
    with pytest.raises(ConfigError, match="gemma-2b reads at most 8,192 tokens") as caught:
        config.model_name = "gemma-2b"
    assert config.model_name == "gemma-3-270m"
    assert "config.update(model_name='gemma-2b', max_length=8192)" in (caught.value.hint or "")
    config.update(model_name="gemma-2b", max_length=8192)
    assert (config.model_name, config.max_length) == ("gemma-2b", 8192)


def test_the_other_order_of_assignments_works_too() -> None:
    config = TrainingConfig(max_length=16_000)
    config.max_length = 4_096
    config.model_name = "gemma-2b"
    assert config.max_length == 4_096


def test_update_changes_all_or_nothing() -> None:
    config = TrainingConfig()
    before = config.model_copy()
    with pytest.raises(ConfigError):
        config.update(epochs=5, seed=-1)
    assert config == before
    assert config.source_of("epochs") == "default"


legal = st.fixed_dictionaries(
    {
        "model_name": st.sampled_from(["gemma-2b", "gemma-3-270m", "gemma-3-4b-it"]),
        "max_length": st.integers(16, 8_192),
        "validation_fraction": st.sampled_from([0.0, 0.1, 0.5]),
        "eval_steps": st.integers(1, 50),
        "early_stopping_patience": st.integers(0, 5),
    }
).filter(lambda values: values["validation_fraction"] > 0 or values["early_stopping_patience"] == 0)


@given(start=legal, end=legal)
def test_every_legal_configuration_is_reached_from_every_other_by_update(
    start: dict[str, Any], end: dict[str, Any]
) -> None:
    config = TrainingConfig(**start)
    config.update(**end)
    assert config == TrainingConfig(**end)


@given(
    values=legal,
    field=st.sampled_from(["epochs", "learning_rate", "max_length", "seed"]),
    bad=st.integers(-100, -1),
)
def test_a_failing_assignment_never_changes_anything(values: dict[str, Any], field: str, bad: int) -> None:
    config = TrainingConfig(**values)
    before, sources = config.model_dump(), config.sources()
    with pytest.raises(ConfigError):
        setattr(config, field, bad)
    assert (config.model_dump(), config.sources()) == (before, sources)


def test_copies_are_independent() -> None:
    config = TrainingConfig(epochs=4)
    for other in (config.model_copy(), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert other == config
        other.seed = 7
        assert (config.seed, config.source_of("seed")) == (0, "default")
        assert other.source_of("seed") == "assignment"


def test_equality_counts_values_not_sources() -> None:
    config = TrainingConfig()
    config.epochs = 2
    assert config == TrainingConfig()
    assert config != TrainingConfig(epochs=3)
    assert config != ComparisonConfig()


def test_a_list_changed_in_place_is_found_by_check() -> None:
    config = ComparisonConfig()
    config.test_queries.append("")
    with pytest.raises(ConfigError, match=r"test_queries\[0\] = ''"):
        config.check()
    assert ComparisonConfig().test_queries == []


def test_paths_become_text() -> None:
    config = TrainingConfig(training_file=Path("rows") / "a.jsonl")  # type: ignore[arg-type]
    assert config.training_file == str(Path("rows/a.jsonl"))


def test_pydantic_doors_raise_the_same_error() -> None:
    with pytest.raises(ConfigError):
        TrainingConfig.model_validate({"epochs": 0})
    assert TrainingConfig.model_validate(TrainingConfig(epochs=4).model_dump()).epochs == 4
