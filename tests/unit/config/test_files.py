"""Bad configuration files: each gives one clear sentence with the line, and a way out."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_training.config.errors import ConfigError
from model_training.config.training_config import TrainingConfig


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.yaml", b"epochs: 2\nseed: [1,\n", r"a\.yaml, line 3, column 1: not valid YAML"),
        ("a.yaml", b"epochs: 2\n\tseed: 1\n", r"a\.yaml, line 2, column 1: not valid YAML"),
        ("a.yaml", b"epochs: 2\nseed: 1\nepochs: 3\n", r"a\.yaml, line 3: 'epochs' is written twice"),
        (
            "a.yaml",
            b"overlays:\n  dev:\n    seed: 1\n    seed: 2\n",
            r"a\.yaml, line 4: 'seed' is written twice",
        ),
        ("a.yaml", b"epochs: !!python/object/apply:os.getcwd []\n", r"a\.yaml, line 1: not valid YAML"),
        ("a.yaml", b"- epochs\n", r"a\.yaml holds a list, not fields"),
        ("a.yaml", b"just words\n", r"a\.yaml holds a str, not fields"),
        ("a.yaml", b"3: 4\n", r"a\.yaml: 3 is no field name"),
        ("a.yaml", b"epochs: 2\nsuffix: caf\xe9\n", r"a\.yaml, line 2: byte 0xe9 is not UTF-8"),
        ("a.yaml", b"epochs: \x00\n", r"a\.yaml: not valid YAML"),
        ("a.yaml", b"extends: 3\n", r"extends = 3 must be a path or a preset's name"),
        ("a.yaml", b"overlays: [dev]\n", r"overlays = \['dev'\] must name environments"),
        ("a.yaml", b"kind: [training]\n", r"kind = \['training'\] must be a word"),
        ("a.yaml", b"kind: evaluation\n", r"of kind 'evaluation', not 'training'"),
        ("a.yaml", b"[" * 2000, r"a\.yaml.*not valid YAML|nested too deeply"),
        ("a.yaml", b"seed: 2024-13-45\n", r"a\.yaml: a value cannot be read|seed = "),
        ("a.json", b'{"epochs": 2,\n "seed": }\n', r"a\.json, line 2, column 10: not valid JSON"),
        ("a.json", b'{"epochs": 2, "epochs": 3}', r"a\.json: 'epochs' is written twice"),
        ("a.json", b"[1]", r"a\.json holds a list, not fields"),
        ("a.json", b"[" * 20_000, r"nested too deeply"),
        ("a.json", b"\xff\xfe{}", r"a\.json, line 1: byte 0xff is not UTF-8"),
        ("a.json", b'{"learning_rate": NaN}', r"learning_rate = nan .*must be a finite number"),
        ("a.json", b'{"epochs": 0}', r"epochs = 0 \(file .*a\.json, line 1\)"),
        ("a.toml", b"epochs = 2", r"a\.toml is no configuration file that can be read"),
        ("a.yaml", b"#" * 1_000_001, r"a\.yaml is 1,000,001 bytes long"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=says) as caught:
        TrainingConfig.load(file, env={})
    assert "\n" not in caught.value.message


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no configuration file"):
        TrainingConfig.load(tmp_path / "none.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        TrainingConfig.load(tmp_path / "folder.yaml")
    (tmp_path / "run.yaml").write_text("extends: gone.yaml\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"There is no configuration file .*gone\.yaml"):
        TrainingConfig.load(tmp_path / "run.yaml")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.yaml", b""),
        ("a.yaml", b"# nothing but a comment\n"),
        ("a.json", b""),
        ("a.json", b"{}"),
        ("a.yaml", b"\xef\xbb\xbfepochs: 2\n"),
        ("a.json", b'\xef\xbb\xbf{"epochs": 2}'),
        ("a.yaml", b"epochs: 2\r\nlearning_rate: 2e-4\r\n"),
    ],
)
def test_files_that_are_fine(tmp_path: Path, name: str, content: bytes) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    assert TrainingConfig.load(file, env={}) == TrainingConfig()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(content=st.binary(max_size=60), ending=st.sampled_from([".yaml", ".json"]))
def test_no_bytes_raise_anything_but_a_config_error(tmp_path: Path, content: bytes, ending: str) -> None:
    file = tmp_path / f"fuzz{ending}"
    file.write_bytes(content)
    with suppress(ConfigError):
        TrainingConfig.load(file, env={})
