"""Every shape in every file format becomes the same row, and a fault is found on the row where it is."""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_training.contracts.chat import ChatMessage
from model_training.datasets.formats import json_array
from model_training.datasets.formats.read import FileFormat, read_records, recognise
from model_training.datasets.formats.record import RowError
from model_training.datasets.rows import TrainingRow, parse_row, read_rows
from model_training.datasets.validation import check_file
from model_training.errors import UserError

FORMATS = list(FileFormat)
SUFFIX = {
    FileFormat.JSONL: "jsonl",
    FileFormat.JSON: "json",
    FileFormat.CSV: "csv",
    FileFormat.PARQUET: "parquet",
}
NESTED = ("messages", "conversations", "history")

texts = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00\ufeff"), min_size=1, max_size=30
).filter(lambda text: text.strip())
pairs = st.tuples(texts, texts)


def question_answer(question, answer):
    return {"question": question, "answer": answer}


def prompt_completion(question, answer):
    return {"prompt": question, "completion": answer}


def conversational_prompt(question, answer):
    return {
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": answer}],
    }


def alpaca(question, answer):
    return {"instruction": question, "input": "", "output": answer}


def sharegpt(question, answer):
    return {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]}


def messages(question, answer):
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


SHAPES = [question_answer, prompt_completion, alpaca, sharegpt, messages]


def write(path: Path, file_format: FileFormat, rows: list[dict]) -> None:
    match file_format:
        case FileFormat.JSONL:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        case FileFormat.JSON:
            path.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8", newline="")
        case FileFormat.CSV:
            names = list(dict.fromkeys(name for row in rows for name in row))
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, names, quoting=csv.QUOTE_ALL)
                writer.writeheader()
                for row in rows:
                    writer.writerow(
                        {name: json.dumps(cell) if name in NESTED else cell for name, cell in row.items()}
                    )
        case FileFormat.PARQUET:
            import pyarrow
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=7)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
@settings(deadline=None, max_examples=12)
@given(rows=st.lists(pairs, min_size=1, max_size=20))
def test_every_shape_in_every_format_becomes_the_same_rows(file_format, shape, rows):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / f"rows.{SUFFIX[file_format]}"
        write(path, file_format, [shape(*pair) for pair in rows])
        assert recognise(path) is file_format
        assert [(row.question, row.answer) for row in read_rows(path)] == rows


@pytest.mark.parametrize("file_format", FORMATS)
@settings(deadline=None, max_examples=25)
@given(rows=st.lists(pairs, min_size=1, max_size=30), data=st.data())
def test_a_fault_is_reported_on_its_own_row(file_format, rows, data):
    bad = data.draw(st.integers(0, len(rows) - 1))
    fields = [question_answer(*pair) for pair in rows]
    fields[bad]["answer"] = "   "
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / f"rows.{SUFFIX[file_format]}"
        write(path, file_format, fields)
        report = check_file(path, "fine-tune")
        expected = bad + 1
        if (
            file_format is FileFormat.CSV
        ):  # the line that an editor shows: header, and lines inside earlier cells
            written = path.read_bytes().decode()
            head = next(iter(list(_csv_prefix(written, bad))))
            expected = head
        assert (report.rows, report.fault_count) == (len(rows), 1)
        assert (report.faults[0].row, report.faults[0].field) == (expected, "answer")


def _csv_prefix(text: str, record: int):
    """The line on which a record of a CSV text begins, counted by hand: quotes are balanced there."""
    lines, open_quote, seen, position = 1, False, -1, 0
    starts = []
    begin = True
    while position < len(text):
        if begin and not open_quote:
            seen += 1
            starts.append(lines)
            begin = False
        character = text[position]
        if character == '"':
            open_quote = not open_quote
        if character == "\r" and text[position + 1 : position + 2] == "\n":
            position += 1
            character = "\n"
        if character in "\r\n":
            lines += 1
            begin = not open_quote
        position += 1
    yield starts[record + 1]


def test_the_content_decides_before_the_name(tmp_path):
    def put(name: str, content: str) -> Path:
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return path

    row = '{"question": "a", "answer": "b"}'
    assert recognise(put("rows.json", f"{row}\n{row}\n")) is FileFormat.JSONL
    assert recognise(put("rows.jsonl", f" [\n {row} ]")) is FileFormat.JSON
    assert recognise(put("0a1b2c", "id,question,answer\n1,a,b\n")) is FileFormat.CSV
    assert recognise(put("rows.txt", "question\tanswer\na\tb\n")) is FileFormat.CSV
    assert recognise(put("notes.txt", "Some text, with commas.\n")) is FileFormat.JSONL
    assert recognise(put("empty.json", "")) is FileFormat.JSONL


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_tables_may_have_any_separator_and_empty_cells_are_absent(tmp_path, separator):
    path = tmp_path / "rows.csv"
    lines = [["question", "answer", "kind"], ["a", '"b\n""c"""', ""], ["d", "e", "code"]]
    path.write_text("\ufeff" + "\n".join(separator.join(line) for line in lines), encoding="utf-8")
    assert [(row.question, row.answer, row.kind) for row in read_rows(path)] == [
        ("a", 'b\n"c"', "qa"),
        ("d", "e", "code"),
    ]


def test_faults_of_a_table_are_named(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b'question,answer\na,b,c\ncaf\xe9,b\n"q"x,b\nq,a\n')
    faults = check_file(path, "fine-tune").faults
    assert [fault.row for fault in faults] == [2, 3, 4]
    assert "3 cells, the header has 2" in faults[0].message
    assert "not UTF-8" in faults[1].message
    assert "broken CSV" in faults[2].message
    path.write_text("question,answer\na,b\n", encoding="utf-16")
    assert "not UTF-8" in check_file(path, "fine-tune").faults[0].message


def test_a_list_is_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(json_array, "BLOCK", 7)
    path = tmp_path / "rows.json"
    rows = [{"question": f"q{number} é😀", "answer": "x" * number + " "} for number in range(40)]
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    assert [record.raw for record in read_records(path)] == rows


@pytest.mark.parametrize(
    ("content", "rows", "message"),
    [
        ('[{"question": "a", "answer": "b"}, {"question" 3}]', 2, "broken JSON"),
        ('[{"question": "a", "answer": "b"} {"question": "c", "answer": "d"}]', 2, "comma"),
        ('[{"question": "a", "answer": "b"}, ', 2, "broken JSON"),
        ('[{"question": "a", "answer": "b"}', 2, "comma or the end"),
        ('[{"question": "a", "answer": NaN}]', 1, "NaN is not JSON"),
        ("[[1, 2], 3]", 2, "must be a JSON object"),
        ('{\n "rows": []\n}', 1, "one JSON value"),
        ("[]", 0, "no rows"),
    ],
)
def test_faults_of_a_list_are_named(tmp_path, content, rows, message):
    path = tmp_path / "rows.json"
    path.write_text(content, encoding="utf-8")
    report = check_file(path, "fine-tune")
    assert report.rows == rows
    assert report.faults[-1].row == rows
    assert message in report.faults[-1].message


def test_a_parquet_row_may_be_as_long_as_a_line(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    import pyarrow
    import pyarrow.parquet

    from model_training.datasets.formats import parquet

    monkeypatch.setattr(parquet, "MAX_LINE_BYTES", 100)
    rows = [{"messages": [{"role": "user", "content": "x" * length}]} for length in (90, 120)]
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    with path.open("rb") as file:
        short, long = parquet.read_parquet(file)
    assert short.raw == rows[0]
    assert isinstance(long.raw, RowError)
    assert "longer than" in str(long.raw)


def test_a_broken_parquet_file_is_a_finding_and_a_missing_library_a_sentence(tmp_path, monkeypatch):
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1 but nothing else")
    assert "Parquet file cannot be read" in check_file(path, "fine-tune").faults[0].message
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="needs pyarrow") as caught:
        list(read_rows(path))
    assert "model-training[data]" in (caught.value.hint or "")


def test_conversations_keep_system_history_and_parts():
    row = parse_row(
        {"instruction": "Now?", "input": "x", "output": "y", "system": "s", "history": [["a", "b"]]}
    )
    assert [(turn.role, turn.content) for turn in row.messages] == [
        ("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "Now?\n\nx"), ("assistant", "y"),
    ]  # fmt: skip
    row = parse_row({"system": "s", **sharegpt("q", "a")})
    assert row.context == [ChatMessage(role="system", content="s")]
    row = parse_row(
        messages([{"type": "text", "text": "q"}, {"type": "text", "text": "!"}], "a") | {"group": "g"}
    )
    assert (row.question, row.group) == ("q!", "g")
    assert parse_row(conversational_prompt("q", "a")) == TrainingRow(question="q", answer="a")


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        ({"instruction": "a"}, "output", "is missing"),
        ({"instruction": "a", "output": "b", "input": 3}, "input", "must be text"),
        ({"instruction": "a", "output": "b", "history": [["x"]]}, "history.0", "question with its answer"),
        ({"conversations": "hi"}, "conversations", "must be a list"),
        ({"conversations": [{"from": "tool", "value": "x"}] * 2}, "conversations.0.from", "'tool'"),
        (
            {"conversations": [{"from": "human"}, {"from": "gpt", "value": "x"}]},
            "conversations.0.value",
            "is missing",
        ),
        (
            {"conversations": [{"from": "gpt", "value": "x"}, {"from": "human", "value": "y"}]},
            "conversations",
            "end with",
        ),
        (messages([{"type": "image"}], "a"), "messages.0.content.0", "text part"),
        ({"question": "a", "answer": "b\ud800"}, "answer", "no Unicode text"),
        ({"question": "a", "answer": "b", "group": 3}, "function", "valid string"),
    ],
)
def test_faults_of_a_shape_are_named(row, field, message):
    with pytest.raises(RowError, match=message) as caught:
        parse_row(row)
    assert caught.value.field == field


@pytest.mark.parametrize(("purpose", "row"), [("chunks", "id,text\na,b\n"), ("evaluation", '[{"id": "a"}]')])
def test_what_only_jsonl_serves_is_refused_otherwise(tmp_path, purpose, row):
    path = tmp_path / "rows"
    path.write_text(row, encoding="utf-8")
    report = check_file(path, purpose)
    assert [(fault.row, "must be JSONL" in fault.message) for fault in report.faults] == [(0, True)]
