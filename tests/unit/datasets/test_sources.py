"""Several sources with weights, folders, and the split: the same every time, groups whole, kinds in proportion."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_training.datasets.rows import TrainingRow, read_rows
from model_training.datasets.sources import DataSource, data_files, read_sources, write_rows
from model_training.datasets.split import split_rows
from model_training.errors import UserError


def put(path: Path, count: int, **more) -> Path:
    rows = [{"question": f"{path.stem} {number}", "answer": "a", **more} for number in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@settings(deadline=None, max_examples=25)
@given(st.floats(0.05, 3.5), st.integers(0, 3))
def test_a_weight_is_how_often_each_row_comes(weight, seed):
    with tempfile.TemporaryDirectory() as name:
        path = put(Path(name) / "a.jsonl", 200)
        sources = [DataSource(path, weight), DataSource(path)]
        rows = list(read_sources(sources, seed))
        assert [row.id for row in rows] == [row.id for row in read_sources(sources, seed)]
    times = Counter(row.question for row in rows)
    assert set(times.values()) <= {1 + int(weight), 2 + int(weight)}
    assert abs(len(rows) - 200 * (1 + weight)) < 60


def test_ids_are_unique_within_a_repeated_source(tmp_path):
    put(tmp_path / "a.jsonl", 5)
    put(tmp_path / "b.jsonl", 5)
    rows = list(read_sources([DataSource(tmp_path, 2)]))
    assert len({row.id for row in rows}) == len(rows) == 20
    assert rows[1].id == "a/row-1#2"


def test_a_folder_is_all_data_files_in_it(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / ".cache").mkdir()
    for name in ("b.jsonl", "deep/a.csv", "notes.txt", ".hidden.jsonl", ".cache/c.jsonl"):
        (tmp_path / name).write_text("", encoding="utf-8")
    assert [file.relative_to(tmp_path).as_posix() for file in data_files(tmp_path)] == [
        "b.jsonl",
        "deep/a.csv",
    ]
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="no data files"):
        data_files(tmp_path / "none")


def test_sources_are_parsed_and_refused(tmp_path):
    odd = tmp_path / "a=2"
    odd.write_text("", encoding="utf-8")
    assert DataSource.parse(str(odd)) == DataSource(odd)
    assert DataSource.parse("rows.csv=0.5") == DataSource(Path("rows.csv"), 0.5)
    with pytest.raises(UserError, match="is no number"):
        DataSource.parse("rows.csv=half")
    for weight in (0.0, -1.0, 101.0, float("nan")):
        with pytest.raises(UserError, match="must be above 0"):
            DataSource(odd, weight)


def test_what_is_written_is_read_again_or_nothing_is_written(tmp_path):
    path = tmp_path / "out.jsonl"
    row = TrainingRow.model_validate(
        {
            "id": "x",
            "question": "q é",
            "answer": "a\n",
            "context": [{"role": "system", "content": "s"}],
            "kind": "code",
        }
    )
    assert write_rows(path, [row]) == 1
    assert list(read_rows(path)) == [row]
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"question": "a"}\n', encoding="utf-8")
    with pytest.raises(UserError, match="row 1, field answer"):
        write_rows(path, read_sources([DataSource(bad)]))
    assert list(read_rows(path)) == [row]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bad.jsonl", "out.jsonl"]


described = st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["code", "qa"])), min_size=1, max_size=120)


def make(described) -> list[TrainingRow]:
    return [
        TrainingRow(id=str(number), question=f"q{number}", answer="a", function=f"f{group}", kind=kind)
        for number, (group, kind) in enumerate(described)
    ]


@given(described, st.floats(0.01, 0.6), st.integers(0, 5), st.randoms())
def test_the_split_is_deterministic_disjoint_and_group_safe(described, fraction, seed, shuffler):
    rows = make(described)
    split = split_rows(rows, fraction, seed)
    assert sorted([*split.train, *split.validation], key=lambda row: int(row.id or 0)) == rows
    assert not {row.group for row in split.train} & {row.group for row in split.validation}
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    again = split_rows(shuffled, fraction, seed)
    assert {row.id for row in again.validation} == {row.id for row in split.validation}


@given(st.integers(40, 200), st.integers(40, 200), st.floats(0.1, 0.5), st.integers(0, 5))
def test_each_kind_gives_its_share(code, qa, fraction, seed):
    described = [(number, "code") for number in range(code)] + [(1000 + number, "qa") for number in range(qa)]
    kinds = Counter(row.kind for row in split_rows(make(described), fraction, seed).validation)
    assert abs(kinds["code"] - fraction * code) <= 1
    assert abs(kinds["qa"] - fraction * qa) <= 1
