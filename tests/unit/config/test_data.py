"""The hand-written data: every row has the shape that its readers expect, and no evaluation question was trained on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from model_training.config.comparison_config import ComparisonConfig
from model_training.config.evaluation_config import EvaluationConfig
from model_training.config.training_config import TrainingConfig
from model_training.contracts.evaluations import CallCheck, EvaluationItem
from model_training.contracts.indexes import Chunk
from model_training.datasets.rows import TrainingRow, parse_row

ROOT = Path(__file__).parents[3]
QUERIES = ("How to implement LoRA?", "Explain Gemma architecture")


def rows(folder: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for file in sorted((ROOT / folder).glob("*.jsonl")):
        found += [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return found


def plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def test_sizes_and_shapes() -> None:
    training: list[TrainingRow] = [parse_row(row) for row in rows(TrainingConfig().training_file)]
    chunks = [Chunk.model_validate(row) for row in rows(ComparisonConfig().chunks_path)]
    items = [EvaluationItem.model_validate(row) for row in rows(EvaluationConfig().evaluation_file or "")]
    assert len(training) >= 60
    assert len(chunks) >= 25
    assert len([item for item in items if item.suite == "qa_accuracy"]) >= 30
    assert set(EvaluationConfig().benchmark_suite) == {item.suite for item in items}
    for collection in (training, chunks, items):
        ids = [row.id for row in collection]
        assert len(ids) == len(set(ids))
    for row in training:  # a blank line would end an answer of the untaught model
        assert "\n\n" not in row.answer
        assert len(row.answer) < 400


def test_no_evaluation_question_is_a_training_row() -> None:
    asked = {plain(row["question"]) for row in rows("data/evaluation")}
    assert asked.isdisjoint(plain(row["question"]) for row in rows("data/training"))
    calls = {plain(row["answer"]) for row in rows("data/evaluation") if row["check"]["type"] == "call"}
    written = [plain(row["answer"]) for row in rows("data/training")] + [
        plain(row["text"]) for row in rows("data/chunks")
    ]
    assert not [call for call in calls if any(call in text for text in written)]


def test_every_function_that_is_asked_about_is_taught_with_another_example() -> None:
    taught = {row.get("function") for row in rows("data/training")}
    assert {row["group"] for row in rows("data/evaluation") if row["check"]["type"] == "call"} <= taught


@pytest.mark.parametrize(
    "item", [row for row in rows("data/evaluation") if row["check"]["type"] == "call"], ids=lambda r: r["id"]
)
def test_the_reference_answer_of_a_call_gives_its_expected_value(item: dict[str, Any]) -> None:
    check = CallCheck.model_validate(item["check"])
    names: dict[str, Any] = {}
    exec("\n".join([*check.imports, *check.setup]), names)
    assert repr(eval(item["answer"], names)) == check.expected
    assert check.must_call in item["answer"]


@pytest.mark.parametrize("query", QUERIES)
def test_the_two_queries_of_the_mission_are_answerable(query: str) -> None:
    item = next(row for row in rows("data/evaluation") if row["question"] == query)
    assert item["check"]["type"] == "text"
    wanted = {word for word in plain(item["answer"]).split() if len(word) > 4}
    best = max(len(wanted & set(plain(row["text"]).split())) / len(wanted) for row in rows("data/chunks"))
    assert best > 0.5
