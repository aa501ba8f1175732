"""Loading from layers: which one wins, and where each value says it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_training.config.base_config import BaseConfig
from model_training.config.comparison_config import ComparisonConfig
from model_training.config.errors import ConfigError
from model_training.config.evaluation_config import EvaluationConfig
from model_training.config.kinds import KINDS
from model_training.config.monitoring_config import MonitoringConfig
from model_training.config.training_config import TrainingConfig

LAYERS = ("extends", "extends_overlay", "file", "overlay", "environment", "override")


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(present=st.sets(st.sampled_from(LAYERS)))
def test_the_last_layer_that_has_a_value_wins(tmp_path: Path, present: set[str]) -> None:
    base: dict[str, Any] = {}
    own: dict[str, Any] = {"extends": "base.json"}
    targets = {
        "extends": base,
        "extends_overlay": base.setdefault("overlays", {}).setdefault("staging", {}),
        "file": own,
        "overlay": own.setdefault("overlays", {}).setdefault("staging", {}),
    }
    env, overrides = {"MT_ENV": "staging"}, dict[str, Any]()
    for number, layer in enumerate(LAYERS, start=10):
        if layer not in present:
            continue
        if layer == "environment":
            env["MT_TRAINING__EPOCHS"] = str(number)
        elif layer == "override":
            overrides["epochs"] = number
        else:
            targets[layer]["epochs"] = number
    write(tmp_path / "base.json", json.dumps(base))
    file = write(tmp_path / "run.json", json.dumps(own))
    config = TrainingConfig.load(file, env=env, overrides=overrides)
    expected = max((LAYERS.index(layer) for layer in present), default=None)
    names = (
        f"file {tmp_path / 'base.json'}",
        f"overlay staging of file {tmp_path / 'base.json'}",
        f"file {file}",
        f"overlay staging of file {file}",
        "environment MT_TRAINING__EPOCHS",
        "override",
    )
    assert config.epochs == (TrainingConfig().epochs if expected is None else 10 + expected)
    assert config.source_of("epochs") == ("default" if expected is None else names[expected])


def test_without_anything_the_defaults_stand() -> None:
    assert TrainingConfig.load(env={}) == TrainingConfig()
    assert set(map(str, TrainingConfig.load(env={}).sources().values())) == {"default"}


def test_create_default_hears_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MT_TRAINING__LEARNING_RATE", "3e-4")
    config = TrainingConfig.create_default()
    assert config.learning_rate == 3e-4
    assert config.source_of("learning_rate") == "environment MT_TRAINING__LEARNING_RATE"
    assert TrainingConfig().learning_rate == 2e-4


def test_sources_carry_the_line(tmp_path: Path) -> None:
    file = write(tmp_path / "run.yaml", "# a comment\nepochs: 3\noverlays:\n  dev:\n    seed: 4\n")
    sources = TrainingConfig.load(file, env={}).sources()
    assert sources["epochs"].where == f"file {file}, line 2"
    assert sources["seed"].where == f"overlay dev of file {file}, line 5"


def test_environment_is_dev_unless_something_says_otherwise(tmp_path: Path) -> None:
    overlays = "\n".join(
        f"  {name}: {{seed: {seed}}}" for name, seed in (("dev", 1), ("staging", 2), ("production", 3))
    )
    file = write(tmp_path / "run.yaml", f"overlays:\n{overlays}\n")
    assert TrainingConfig.load(file, env={}).seed == 1
    assert TrainingConfig.load(file, env={"MT_ENV": "staging"}).seed == 2
    assert TrainingConfig.load(file, env={"MT_ENV": "staging"}, environment="production").seed == 3


def test_extends_is_relative_to_the_file_that_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "teams").mkdir()
    write(tmp_path / "common.yaml", "seed: 5\nepochs: 9\n")
    write(tmp_path / "teams" / "middle.yml", "extends: ../common.yaml\nepochs: 8\n")
    file = write(tmp_path / "teams" / "run.yaml", "extends: [cpu-small, middle.yml]\nlora_r: 4\n")
    monkeypatch.chdir("/")
    config = TrainingConfig.load(file, env={})
    assert (config.seed, config.epochs, config.lora_r, config.max_length) == (5, 8, 4, 256)
    assert config.source_of("max_length") == "preset cpu-small"


def test_a_circle_is_told_and_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "extends: b.yaml\n")
    write(tmp_path / "b.yaml", "extends: c.json\n")
    write(tmp_path / "c.json", '{"extends": "a.yaml"}')
    with pytest.raises(
        ConfigError, match=r"circle: .*b.yaml extends .*c.json extends .*a.yaml extends .*b.yaml"
    ):
        TrainingConfig.load(tmp_path / "b.yaml", env={})
    write(tmp_path / "self.yaml", "extends: self.yaml\n")
    with pytest.raises(ConfigError, match="circle"):
        TrainingConfig.load(tmp_path / "self.yaml", env={})


def test_the_same_base_may_be_extended_twice(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "seed: 1\n")
    write(tmp_path / "left.yaml", "extends: base.yaml\nepochs: 3\n")
    write(tmp_path / "right.yaml", "extends: base.yaml\nlora_r: 2\n")
    file = write(tmp_path / "run.yaml", "extends: [left.yaml, right.yaml]\n")
    config = TrainingConfig.load(file, env={})
    assert (config.seed, config.epochs, config.lora_r) == (1, 3, 2)


def test_a_fault_names_the_place_of_the_value(tmp_path: Path) -> None:
    file = write(tmp_path / "run.yaml", "seed: 1\nepochs: 0\n")
    with pytest.raises(ConfigError) as caught:
        TrainingConfig.load(file, env={})
    assert str(caught.value).startswith(f"TrainingConfig.epochs = 0 (file {file}, line 2): must be")
    with pytest.raises(
        ConfigError, match=r"epochs = 'two' \(environment MT_TRAINING__EPOCHS\): must be an integer"
    ):
        TrainingConfig.load(env={"MT_TRAINING__EPOCHS": "two"})
    with pytest.raises(ConfigError, match="MT_TRAINING__EPOCH: there is no such field") as caught:
        TrainingConfig.load(env={"MT_TRAINING__EPOCH": "2"})
    assert caught.value.hint == "Did you mean epochs?"


def test_a_dependent_rule_sees_the_layers_together(tmp_path: Path) -> None:
    file = write(tmp_path / "run.yaml", "max_length: 16000\n")
    with pytest.raises(
        ConfigError, match=r"max_length = 16000 \(file .*line 1\): gemma-2b reads at most 8,192"
    ):
        TrainingConfig.load(file, env={"MT_TRAINING__MODEL_NAME": "gemma-2b"})
    assert TrainingConfig.load(file, env={}).max_length == 16_000


def test_texts_of_the_environment_take_the_type_of_their_field() -> None:
    config = TrainingConfig.load(
        env={
            "MT_TRAINING__BF16": "true",
            "MT_TRAINING__MAX_STEPS": "none",
            "MT_TRAINING__TARGET_MODULES": "q_proj, v_proj",
            "MT_TRAINING__SAVE_STEPS": "auto",
            "MT_OTHER__THING": "ignored",
        }
    )
    assert (config.bf16, config.max_steps, config.save_steps) == (True, None, "auto")
    assert config.target_modules == ["q_proj", "v_proj"]
    comparison = ComparisonConfig.load(env={"MT_COMPARISON__TEST_QUERIES": '["a, b", "c"]'})
    assert comparison.test_queries == ["a, b", "c"]


def test_settings_of_a_command_line() -> None:
    values = TrainingConfig.parse_settings(["epochs=3", "target_modules=q_proj,o_proj", "suffix=none"])
    assert TrainingConfig.load(env={}, overrides=values).target_modules == ["q_proj", "o_proj"]
    for wrong in ("epochs", "=3"):
        with pytest.raises(ConfigError, match="sets nothing"):
            TrainingConfig.parse_settings([wrong])


def test_unknown_environments_presets_and_kinds(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no environment 'prod'") as caught:
        TrainingConfig.load(environment="prod")
    assert caught.value.hint == "Did you mean production?"
    with pytest.raises(ConfigError, match="MT_ENV: there is no environment 'live'"):
        TrainingConfig.load(env={"MT_ENV": "live"})
    with pytest.raises(ConfigError, match="no preset 'cpu-smal'") as caught:
        TrainingConfig.load("cpu-smal")
    assert "cpu-small" in (caught.value.hint or "")
    with pytest.raises(ConfigError, match="of kind 'evaluation', not 'training'"):
        TrainingConfig.load("quick-evaluation")
    file = write(tmp_path / "run.yaml", "overlays:\n  prodution: {seed: 1}\n")
    with pytest.raises(ConfigError, match="overlays: there is no environment 'prodution'"):
        TrainingConfig.load(file, env={})


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
words = st.text("abcdefgh-_", min_size=1, max_size=10).filter(lambda text: text[0].isalpha())
configs = st.one_of(
    st.builds(
        TrainingConfig,
        learning_rate=st.floats(1e-8, 1, exclude_min=True),
        lora_alpha=st.floats(0.1, 100),
        training_file=texts.filter(bool),
        validation_file=st.none() | texts,
        max_steps=st.none() | st.integers(1, 10**9),
        bf16=st.sampled_from(["auto", False]),
        suffix=st.none() | words,
        target_modules=st.lists(st.sampled_from(["q_proj", "v_proj", "up_proj"]), min_size=1, unique=True),
    ),
    st.builds(
        ComparisonConfig,
        test_queries=st.lists(
            texts.filter(lambda text: bool(text.strip())).map(str.strip), unique=True, max_size=4
        ),
        machine_hour_usd=st.floats(0, 100),
    ),
    st.builds(EvaluationConfig, model=texts.filter(bool), shots=st.just("auto") | st.integers(0, 64)),
    st.builds(MonitoringConfig, interval_s=st.floats(0.1, 3600), job=st.none() | words),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(config=configs, ending=st.sampled_from([".yaml", ".yml", ".json"]))
def test_what_is_saved_is_loaded_again(tmp_path: Path, config: BaseConfig, ending: str) -> None:
    file = tmp_path / f"saved{ending}"
    config.save(file)
    assert KINDS[config.kind].load(file, env={}) == config
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_saving_replaces_whole_files_only(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"End it in \.yaml"):
        TrainingConfig().save(tmp_path / "run.txt")
    blocked = tmp_path / "run.yaml"
    blocked.mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        TrainingConfig().save(blocked)
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]
    TrainingConfig(epochs=4).save(tmp_path / "new" / "run.yaml")
    assert TrainingConfig.load(tmp_path / "new" / "run.yaml", env={}).epochs == 4
