"""The guide's examples are read as it says, and it explains every finding."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from model_training.datasets.checks.run import DatasetFiles, check_dataset
from model_training.datasets.findings import ERRORS, Check

GUIDE = (Path(__file__).parents[3] / "docs" / "guide" / "data.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```(jsonl|csv)\n(.*?)```", GUIDE, re.DOTALL)
SHAPES = [
    "question/answer",
    "prompt/completion",
    "Alpaca",
    "ShareGPT",
    "messages",
    "question/answer",
]


@pytest.mark.parametrize(("example", "shape"), list(zip(EXAMPLES, SHAPES, strict=True)))
def test_an_example_is_good_data(tmp_path, example, shape):
    suffix, content = example
    path = tmp_path / f"rows.{suffix}"
    path.write_text(content, encoding="utf-8")
    report = check_dataset(DatasetFiles(training=[path]))
    assert report.counts == {}
    assert list(report.files[0].shapes) == [shape]
    assert report.files[0].format == suffix.upper()


def test_every_finding_is_explained_with_its_severity():
    told = {
        name: bool(error)
        for error, name in re.findall(r"^\| (\*\*error\*\* )?`([a-z-]+)` \|", GUIDE, re.MULTILINE)
    }
    assert told == {check.value: check in ERRORS for check in Check}
