"""Rows of files by place and by text, their lengths, and the pipeline that learns a library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_training.contracts.pipeline_graph import plan
from model_training.contracts.pipelines import PipelineCreate
from services.dashboard import learning
from services.dashboard.datafiles import Book
from services.dashboard.parts import show


@pytest.fixture
def book(tmp_path: Path) -> Book:
    rows = [
        json.dumps({"question": f"Größe {i}", "answer": "x" * i}, ensure_ascii=i % 2 == 0) for i in range(95)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n\n".join([*rows, "no json"]) + "\n", encoding="utf-8")
    return Book(path)


def test_rows_are_found_by_place(book: Book) -> None:
    assert len(book) == 96
    assert [row.number for row in book.rows(90, 10)] == [91, 92, 93, 94, 95, 96]
    assert book.rows(7, 1)[0].values == {"question": "Größe 7", "answer": "x" * 7}
    assert book.rows(95, 1)[0].values == {"text": "no json\n"}
    assert book.rows(200, 10) == []


def test_rows_are_found_by_text_whatever_its_case(book: Book) -> None:
    found, count = book.find("gRÖSSE 9".replace("SS", "ß"), 0, 3)
    assert count == 6  # also those that write umlauts as escapes
    assert [row.number for row in found] == [10, 91, 92]


def test_the_histogram_counts_every_row(book: Book) -> None:
    bins = book.histogram()
    assert sum(one.rows for one in bins) == len(book)
    assert [one.up_to for one in bins] == sorted({one.up_to for one in bins})


def test_the_pipeline_of_a_library_can_run() -> None:
    steps = learning.steps(["Attrs", "more_itertools"], ["code_generation"], "gemma-3-270m", 2, {"rows": 3})
    files = {"train": "file_a", "chunks": "file_b", "evaluation": "file_c"}
    plan(PipelineCreate.model_validate({"name": "learn", "files": files, "steps": steps}))
    assert learning.index_name(["Attrs", "ruamel.yaml"]) == "attrs-ruamel-yaml"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (8, "8 s"),
        (185, "3 min 5 s"),
        (3600, "1 h"),
        (7800, "2 h 10 min"),
        (3 * 86400 + 7200, "3 days 2 h"),
    ],
)
def test_durations_are_written_for_people(seconds: float | None, text: str) -> None:
    assert show.duration(seconds) == text


def test_numbers_and_sizes_carry_units() -> None:
    assert [show.number(value) for value in (1234567, 0.012345, 2e-5, 12345.6)] == [
        "1,234,567",
        "0.01235",
        "2e-05",
        "12,346",
    ]
    assert [show.size(value) for value in (12, 1.4e9, 999e9)] == ["12 bytes", "1.4 GB", "999 GB"]
    assert (show.percent(0.346), show.dollars(0.0035), show.dollars(1234.5)) == (
        "34.6%",
        "$0.0035",
        "$1,234.50",
    )
