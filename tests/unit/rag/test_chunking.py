"""Cutting into passages: by syntax and by headings, with true spans, titles, stable ids, and nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_training.chunking.build import build_passages, chunker_name
from model_training.chunking.code import code_pieces
from model_training.chunking.html import html_pieces
from model_training.chunking.markdown import markdown_pieces
from model_training.chunking.sources import Document, Skipped, read_sources
from model_training.contracts.indexes import Chunk
from model_training.errors import UserError

ROOT = Path(__file__).parents[3]
CODE = '''"""About shapes, in general and in particular."""

import math

# How round is round.
TOLERANCE = 1e-9


class Shape:
    """Something with an area, which is never negative."""

    sides: int = 0

    def area(self) -> float:
        """The area, in the unit of the sides squared; zero for a point."""
        return 0.0

    @property
    def name(self) -> str:
        """What people call it, in lower case and without an article."""
        return type(self).__name__.lower()


@cached
def circle(radius: float) -> float:
    """The area of a circle of a radius, which must not be negative."""
    return math.pi * radius**2
'''


def passages(*documents: Document, capacity: int = 1000) -> list[Chunk]:
    return list(build_passages(documents, capacity))


def test_code_is_cut_at_definitions_with_names_around_them() -> None:
    pieces = list(code_pieces(CODE, ".py", 300))
    by_path = {piece.title_path: piece for piece in pieces}
    assert set(by_path) == {(), ("Shape",), ("Shape", "area"), ("Shape", "name"), ("circle",)}
    assert by_path["Shape", "area"].names == ("Shape.area",)
    assert by_path["circle",].text.startswith("@cached\ndef circle")
    assert "# How round is round." in by_path[()].text


def test_a_small_class_stays_whole_and_a_large_function_is_cut_in_its_body() -> None:
    assert [piece.title_path for piece in code_pieces(CODE, ".py", 700)] == [(), ("Shape",), ("circle",)]
    body = "\n".join(f"    value_{n} = compute(value_{n - 1}, step={n})" for n in range(1, 60))
    pieces = list(code_pieces(f"def long(value_0):\n{body}\n", ".py", 400))
    assert len(pieces) > 4
    assert {piece.title_path for piece in pieces} == {("long",)}
    assert all(len(piece.text) <= 400 for piece in pieces)


@pytest.mark.parametrize("path", ["services/rag/service/answers.py", "model_training/chunking/code.py"])
@pytest.mark.parametrize("capacity", [200, 1000])
def test_spans_name_the_lines_that_hold_the_text_and_no_definition_is_lost(path: str, capacity: int) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    lines = text.splitlines()
    pieces = list(code_pieces(text, ".py", capacity))
    covered: set[int] = set()
    for piece in pieces:
        assert len(piece.text) <= capacity
        assert piece.text.strip() in "\n".join(lines[piece.line_start - 1 : piece.line_end])
        covered.update(range(piece.line_start, piece.line_end + 1))
    for number, line in enumerate(lines, start=1):
        if line.strip().startswith(("def ", "class ", "async def ", "return ")):
            assert number in covered, line


def test_broken_code_and_unknown_languages_are_cut_all_the_same() -> None:
    broken = list(code_pieces("def f(:\n    return ][\n\nclass", ".py", 1000))
    assert "return" in "".join(piece.text for piece in broken)
    assert list(code_pieces("", ".py", 1000)) == []
    fortran = list(code_pieces("program a\n" * 200, ".f90", 300))
    assert len(fortran) > 5
    assert all(len(piece.text) <= 300 for piece in fortran)


MARKDOWN = """Before any heading.

# Guide

Words of the guide.

## Install

```sh
# no heading
pip install it
```

Second way
----------
By hand.

# Reference
## Empty
## Full
Text.
"""


def test_markdown_is_cut_at_headings_and_not_inside_code() -> None:
    pieces = [(p.title_path, p.line_start, p.line_end) for p in markdown_pieces(MARKDOWN, 500)]
    assert pieces == [
        ((), 1, 1),
        (("Guide",), 5, 5),
        (("Guide", "Install"), 9, 12),
        (("Guide", "Second way"), 16, 16),
        (("Reference", "Full"), 21, 21),
    ]


HTML = """<html><head><title>T</title><style>p {}</style></head><body>
<nav><a href="/">Home</a></nav>
<p>Before.</p>
<h1>Guide<a>¶</a></h1>
<p>Words of <b>the</b>
guide.</p>
<h2>Install</h2>
<pre>pip install it
  now</pre>
<ul><li>one</li><li>two</li></ul>
<h1>Other</h1><p>End.</p>
<script>alert(1)</script><footer>Imprint</footer>
</body></html>"""


def test_html_is_cut_at_headings_without_navigation_and_scripts() -> None:
    pieces = {p.title_path: p for p in html_pieces(HTML, 500)}
    assert {path: piece.text for path, piece in pieces.items()} == {
        (): "Before.",
        ("Guide",): "Words of the guide.",
        ("Guide", "Install"): "pip install it\n  now\none\ntwo",
        ("Other",): "End.",
    }
    assert pieces["Guide",].line_start == 5
    assert pieces["Guide", "Install"].line_start == 8
    assert list(html_pieces("", 500)) == []


def test_ids_and_texts_stay_when_lines_above_move() -> None:
    before = passages(Document("a/s.py", CODE, ".py", module="a.s"), capacity=300)
    after = passages(Document("a/s.py", "import os\n\n\n" + CODE, ".py", module="a.s"), capacity=300)
    texts = {chunk.id: chunk.text for chunk in before}
    changed = [chunk.id for chunk in after if texts.get(chunk.id) != chunk.text]
    assert changed == ["a/s.py"]  # the head of the file alone
    circle = next(chunk for chunk in after if chunk.title == "a.s > circle")
    assert circle.functions == ["a.s.circle"]
    assert (circle.source.path, circle.source.kind, circle.title_path) == ("a/s.py", "source", ["circle"])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["# A", "## B", "```", "text", "", "- item", "def f(): pass", "class C:", "    x = 1"]
        ),
        max_size=30,
    ),
    st.sampled_from([".md", ".py", ".html", ".txt"]),
    st.integers(40, 200),
)
def test_ids_are_unique_spans_are_inside_and_no_passage_is_empty(
    lines: list[str], suffix: str, capacity: int
) -> None:
    text = "\n".join(lines)
    found = passages(
        Document(f"a{suffix}", text, suffix), Document(f"b{suffix}", text, suffix), capacity=capacity
    )
    assert len({chunk.id for chunk in found}) == len(found)
    for chunk in found:
        assert chunk.text.strip()
        assert len(chunk.text) <= capacity
        start, end = chunk.source.line_start, chunk.source.line_end
        assert start is not None
        assert end is not None
        assert 1 <= start <= end <= max(1, len(lines))


def test_folders_are_read_without_what_does_not_belong(tmp_path: Path) -> None:
    root = tmp_path / "project"
    for name, content in {
        "src/a.py": b"def f():\n    return 'a value that is long enough'\n",
        "README.md": b"# P\n\nWords.",
        ".git/config.md": b"# no",
        "node_modules/x.js": b"let x = 1;",
        "logo.png": b"\x89PNG",
        "latin.txt": "é".encode("latin-1"),
        "big.txt": b"x" * 2_000_001,
        "ready.jsonl": b'{"id": "r1", "title": "R", "text": "ready"}\n',
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    skipped = Skipped()
    found = passages(*read_sources([str(root)], skipped))
    assert [chunk.source.path or chunk.id for chunk in found] == [
        "project/README.md",
        "r1",
        "project/src/a.py",
    ]
    assert {reason: len(paths) for reason, paths in skipped.reasons.items()} == {
        "of a kind that is not read": 1,
        "not UTF-8": 1,
        "larger than 2,000,000 bytes": 1,
    }


def test_an_installed_package_is_read_without_importing_it() -> None:
    found = passages(*read_sources(["toolz"], Skipped()))
    groupby = next(chunk for chunk in found if "toolz.itertoolz.groupby" in chunk.functions)
    assert groupby.title == "toolz.itertoolz > groupby"
    assert (groupby.source.package, groupby.source.path) == ("toolz", "toolz/itertoolz.py")
    assert groupby.source.version
    assert any((chunk.source.path or "").startswith("toolz/README") for chunk in found)


def test_names_that_are_nothing_and_rows_that_are_no_passage_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file, no folder and no installed package"):
        list(read_sources(["no_such_thing"], Skipped()))
    (tmp_path / "bad.jsonl").write_text('{"id": "a", "title": "t"}', encoding="utf-8")
    with pytest.raises(UserError, match="row 1"):
        passages(*read_sources([str(tmp_path / "bad.jsonl")], Skipped()))


def test_the_chunker_is_named_with_what_decides() -> None:
    assert chunker_name(500) != chunker_name(1000)
    assert "semantic-text-splitter" in chunker_name()
