"""`mt config` as a person sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model_training.cli.config import app
from model_training.config.catalogue import CATALOGUE
from model_training.config.presets import preset_names

runner = CliRunner(env={"COLUMNS": "160"})


def test_show_tells_values_and_sources() -> None:
    result = runner.invoke(
        app,
        ["show", "--file", "smoke", "--set", "lora_r=8", "--sources"],
        env={"MT_TRAINING__EPOCHS": "3"},
    )
    assert result.exit_code == 0
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in result.stdout.splitlines()}
    assert lines["lora_r"] == "8 override"
    assert lines["epochs"] == "3 environment MT_TRAINING__EPOCHS"
    assert lines["max_rows"] == "32 preset smoke, line 4"
    assert lines["weight_decay"] == "0 default"


def test_show_as_json(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("arms: [base]\n", encoding="utf-8")
    result = runner.invoke(app, ["show", "-f", str(file), "--json", "--sources"])
    data = json.loads(result.stdout)
    assert data["arms"] == {"value": ["base"], "source": f"file {file}", "line": 1}
    assert json.loads(runner.invoke(app, ["show", "-k", "monitoring", "--json"]).stdout)["interval_s"] == 2.0


@pytest.mark.parametrize("kind", ["training", "evaluation", "comparison", "monitoring"])
def test_describe_explains_every_kind(kind: str) -> None:
    result = runner.invoke(app, ["show", "--kind", kind, "--describe"])
    assert result.exit_code == 0
    assert "meaning" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", "--set", "learning_rate=-1"], "learning_rate = '-1' (override): must be greater than 0."),
        (["show", "--set", "epochs"], "'epochs' sets nothing."),
        (["show", "--kind", "trainin"], "Did you mean training?"),
        (["show", "--file", "none.yaml"], "There is no configuration file none.yaml."),
        (["show", "--env", "prod"], "Did you mean production?"),
        (["validate", "smok"], "Did you mean smoke?"),
    ],
)
def test_mistakes_end_in_a_sentence_and_not_in_a_traceback(arguments: list[str], says: str) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 1
    assert says in result.stderr
    assert "Traceback" not in result.output


def test_validate_checks_every_environment(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("epochs: 2\noverlays:\n  production:\n    epochs: 0\n", encoding="utf-8")
    result = runner.invoke(app, ["validate", str(file)], env={"MT_TRAINING__EPOCHS": "3"})
    assert result.exit_code == 1
    assert "overlay production" in result.stderr
    file.write_text("epochs: 2\n", encoding="utf-8")
    assert runner.invoke(app, ["validate", str(file)]).exit_code == 0


def test_presets_and_models_are_listed_whole() -> None:
    presets = json.loads(runner.invoke(app, ["presets", "--json"]).stdout)
    assert [row["name"] for row in presets] == list(preset_names())
    assert all(name in runner.invoke(app, ["presets"]).stdout for name in preset_names())
    models = json.loads(runner.invoke(app, ["models", "--json"]).stdout)
    assert [row["name"] for row in models] == list(CATALOGUE)
    assert all(name in runner.invoke(app, ["models"]).stdout for name in CATALOGUE)
