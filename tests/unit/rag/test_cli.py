"""`mt rag` without a platform: what it reads, what it refuses, and the passages that it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model_training.cli import rag
from model_training.cli.rag_measure import described, read_questions
from model_training.contracts.indexes import Chunk
from model_training.contracts.retrieval import SearchOptions
from model_training.errors import UserError
from services.rag.domain.search import SearchPlan


def test_conditions_are_read_and_wrong_ones_shown() -> None:
    assert rag.conditions(["package=a", "package=b", "kind=x=y"]) == {"package": ["a", "b"], "kind": ["x=y"]}
    for wrong in ("package", "=a", "package="):
        with pytest.raises(UserError, match="is no condition"):
            rag.conditions([wrong])


def test_questions_may_be_labelled_or_evaluation_items(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    item = {
        "id": "i1",
        "suite": "s",
        "form": "what_does",
        "question": "?",
        "answer": "!",
        "group": "toolz.groupby",
    }
    own = {"id": "q1", "question": "how?", "passages": ["a"], "kind": "how"}
    path.write_text(f"{json.dumps(item)}\n\n{json.dumps(own)}\n", encoding="utf-8")
    first, second = read_questions(path)
    assert (first.functions, first.kind) == (["toolz.groupby"], "what_does")
    assert (second.passages, second.kind) == (["a"], "how")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "holds no question"),
        ("not json", "row 1"),
        ('{"id": "q"}', "row 1"),
        ('{"id": "q", "question": "x", "colour": 1}', "row 1"),
    ],
)
def test_files_that_hold_no_questions_are_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=words):
        read_questions(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_questions(tmp_path / "missing.jsonl")


def test_a_search_is_described_in_words() -> None:
    assert described(SearchPlan().as_options()) == "hybrid, RRF k=2, dense 1 : BM25 1.01"
    assert (
        described(SearchOptions(mode="hybrid", fusion="dbsf", diversity=0.3)) == "hybrid, DBSF, diversity 0.3"
    )
    assert described(SearchOptions(mode="dense", rerank="bge-reranker-base")).endswith("by bge-reranker-base")


def test_chunks_are_written_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (source / "guide.md").write_text("# Guide\n\nWords about it.\n", encoding="utf-8")
    (source / "photo.png").write_bytes(b"\x89PNG")
    target = tmp_path / "out.jsonl"
    result = CliRunner().invoke(rag.app, ["chunk", str(source), "--out", str(target)])
    assert result.exit_code == 0, result.output
    assert "1 passages" in result.output.replace("\n", " ")
    assert "photo.png" in result.stderr
    (line,) = target.read_text(encoding="utf-8").splitlines()
    chunk = Chunk.model_validate_json(line)
    assert (chunk.id, chunk.title_path, chunk.source.line_start) == ("src/guide.md#guide", ["Guide"], 3)
