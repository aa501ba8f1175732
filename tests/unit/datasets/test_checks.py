"""The checks of a whole data set: each finds what it is for, on the right row, and nothing else."""

from __future__ import annotations

import json
import random
import string
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_training.datasets.checks import run
from model_training.datasets.checks.garbled import garbled
from model_training.datasets.checks.ledger import Ledger, hash64, place_of, row_key
from model_training.datasets.checks.near_duplicates import NearDuplicates, sign
from model_training.datasets.checks.run import CheckOptions, DatasetFiles, check_dataset
from model_training.datasets.checks.secrets import find_secrets
from model_training.datasets.findings import ADVICE, Check
from model_training.errors import UserError

RNG = random.Random(4)
ITEM = {
    "id": "i", "suite": "code_generation", "form": "write_call", "answer": "chunked([4, 7, 9], 2)", "group": "chunked",
    "question": "Cut the list [4, 7, 9] into pieces of two elements each, the last one may be shorter.",
    "check": {"type": "call", "package": "more_itertools", "expected": "[[4, 7], [9]]"},
}  # fmt: skip


def put(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(question: str, answer: str = "An answer.", **more):
    return {"question": question, "answer": answer, **more}


def found(report, check: Check):
    return [(finding.file, finding.row) for finding in report.findings if finding.check is check]


def drawn(length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(RNG.choices(alphabet, k=length))


# Put together here, so that nothing in this file looks like a key.
SECRETS = {
    "an AWS access key": "AK" + "IA" + drawn(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
    "a private key": "-----BEGIN RSA PRIVATE " + f"KEY-----\n{drawn(64)}\n{drawn(64)}",
    "a GitHub token": "ghp" + "_" + drawn(36),
    "a GitLab token": "glpat" + "-" + drawn(20),
    "a Slack token": "xoxb" + f"-{drawn(12, string.digits)}-{drawn(24)}",
    "a Hugging Face token": "hf" + "_" + drawn(34),
    "an OpenAI key": "sk-proj-" + drawn(30) + "T3Blbk" + "FJ" + drawn(30),
    "an Anthropic key": "sk-ant" + "-api03-" + drawn(95),
    "a Google API key": "AI" + "za" + drawn(35),
    "a Stripe key": "sk" + "_live_" + drawn(24),
    "an npm token": "npm" + "_" + drawn(36),
    "a PyPI token": "pypi-" + "AgEIcHlwaS5vcmc" + drawn(60),
    "a SendGrid key": "S" + f"G.{drawn(22)}.{drawn(43)}",
    "an Azure storage key": "Account" + f"Key={drawn(86)}==",
    "a signed token (JWT)": "ey" + f"J{drawn(20)}.ey" + f"J{drawn(30)}.{drawn(43)}",
    "a password in a URL": "postgresql://app:" + "t9Kq-zW4!b" + "@db.internal:5432/app",
}


@pytest.mark.parametrize("kind", SECRETS)
def test_secrets_are_found_and_never_shown(kind):
    secret = SECRETS[kind]
    hits = list(find_secrets(f'config = "{secret}"  # see the manual'))
    assert [hit.kind for hit in hits] == [kind]
    assert secret not in str(hits[0])
    assert len(str(hits[0])) < 70


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE is the key of the manual",
        "AKIA" + "X" * 16,
        "ghp_" + "x" * 36,
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "postgresql://user:password@localhost/db and https://example.com:8080/@scope",
        "https://user:${TOKEN}@github.com/a/b and redis://:pw@cache",
        "d41d8cd98f00b204e9800998ecf8427e 3f786850e387550fdab836ed7e6dc881de23001b",
        "the class SG.Node, hf_hub_download(repo_id), npm_config_registry, sk_learn",
        "eyJust a word. eyJ",
    ],
)
def test_what_only_looks_like_a_secret_is_left_alone(text):
    assert list(find_secrets(text)) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cafÃ©", "another encoding"),
        ("Itâ€™s", "another encoding"),
        ("what\ufffd", "U+FFFD at character 5"),
        ("a\x07b", "U+0007 at character 2"),
        ("Café, naïve Ãœ? “quoted” — 日本語 \U0001f600\n\ttabs", None),
        ("São Paulo, MÃO, Â", None),
    ],
)
def test_garbled_text_is_told_from_foreign_text(text, message):
    result = garbled(text)
    assert result is None if message is None else message in (result or "")


rows_of_few = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=40)


@settings(deadline=None, max_examples=60)
@given(rows_of_few)
def test_duplicates_and_conflicts_are_those_that_counting_finds(rows):
    ledger = Ledger()
    ledger.add(
        (row_key(0, number), None, question, answer, hash64(f"{question} {answer}"))
        for number, (question, answer) in enumerate(rows, start=1)
    )
    first = {pair: rows.index(pair) + 1 for pair in rows}
    expected = {(number, first[pair]) for number, pair in enumerate(rows, start=1) if first[pair] < number}
    assert {(pair.key, pair.first) for pair in ledger.duplicates()} == expected
    asked = {}
    for number, (question, _) in enumerate(rows, start=1):
        asked.setdefault(question, number)
    expected = {
        (number, asked[question])
        for number, (question, answer) in enumerate(rows, start=1)
        if rows[asked[question] - 1][1] != answer
    }
    assert {(pair.key, pair.first) for pair in ledger.conflicts()} == expected
    ledger.close()


@given(st.integers(0, 10_000), st.integers(0, 2**39))
def test_a_key_holds_file_and_row(file, number):
    assert place_of(row_key(file, number)) == (file, number)


def test_repeated_conflicting_and_secret_rows_are_found_over_several_files(tmp_path):
    secret = SECRETS["a GitHub token"]
    first = put(
        tmp_path / "a.jsonl", [row("one"), row("two", id="x"), row("One ", "Other."), row("t", id="x")]
    )
    second = put(tmp_path / "b.jsonl", [row("one"), row("four", f"Use {secret}."), row("two", id="x")])
    report = check_dataset(DatasetFiles(training=[first, second]))
    assert found(report, Check.DUPLICATE) == [("b.jsonl", 1), ("b.jsonl", 3)]
    assert found(report, Check.CONFLICT) == [("a.jsonl", 3)]
    assert found(report, Check.ID) == [("a.jsonl", 4)]
    assert found(report, Check.SECRET) == [("b.jsonl", 2)]
    assert secret not in report.model_dump_json()
    assert (report.errors, report.warnings) == (2, 3)
    assert [(file.path, file.rows, file.shapes) for file in report.files] == [
        ("a.jsonl", 4, {"question/answer": 4}),
        ("b.jsonl", 3, {"question/answer": 3}),
    ]


def test_leaks_are_found_between_all_parts(tmp_path):
    long = "The function walks over the values and yields lists of the size that was asked for, in order."
    training = [
        row("How do I sort?"),
        row("Show me a call.", "Write `chunked([4,7,9], 2)` for it."),
        row(ITEM["question"].upper(), "I do not know."),
        row("Tell me more, please.", f"{long} That is all."),
        row("What does it do to the values that are left over at the end?", "They form a shorter list."),
    ]
    validation = [row("how do  I SORT?", "Otherwise."), row("And", long), row("Is it lazy?")]
    chunks = [{"id": "c", "title": "C", "text": "So chunked([4, 7, 9], 2) gives two lists."}]
    report = check_dataset(
        DatasetFiles(
            training=[put(tmp_path / "t.jsonl", training)],
            validation=[put(tmp_path / "v.jsonl", validation)],
            evaluation=[put(tmp_path / "e.jsonl", [ITEM])],
            chunks=[put(tmp_path / "c.jsonl", chunks)],
        )
    )
    assert found(report, Check.LEAK) == [("t.jsonl", 2), ("t.jsonl", 3), ("c.jsonl", 1)]
    assert found(report, Check.OVERLAP) == [("t.jsonl", 1)]
    assert found(report, Check.NEAR_LEAK) == [("t.jsonl", 4)]
    assert report.counts == {Check.LEAK: 3, Check.OVERLAP: 1, Check.NEAR_LEAK: 1}


def test_leaks_are_looked_for_in_so_many_rows_and_the_report_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "MAX_HELD_OUT", 2)
    rows = [row(f"question {number}") for number in range(4)]
    files = DatasetFiles(
        training=[put(tmp_path / "t.jsonl", rows)], validation=[put(tmp_path / "v.jsonl", rows)]
    )
    report = check_dataset(files)
    assert report.counts[Check.OVERLAP] == 2
    assert "first 2 validation rows" in report.notes[0]


WORDS = [f"word{number}" for number in range(400)]


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6))
def test_near_duplicates_are_found_and_different_texts_are_not(seed):
    rng = random.Random(seed)
    texts = [rng.choices(WORDS, k=80) for _ in range(30)]
    changed = list(texts[3])
    changed[-1] = "another"
    signatures = sign(list(range(31)), [" ".join(words) for words in [*texts, changed]])
    near = NearDuplicates()
    near.add(signatures)
    pairs = list(near.pairs())
    near.close()
    assert [(pair.key, pair.first) for pair in pairs] == [(30, 3)]
    assert 0.85 <= pairs[0].similarity <= 1


def test_near_duplicates_are_no_duplicates_and_need_their_packages(tmp_path, monkeypatch):
    text = " ".join(WORDS[:80])
    path = put(tmp_path / "a.jsonl", [row("a", text), row("a", text), row("a", text + " more"), row("b")])
    report = check_dataset(DatasetFiles(training=[path]), CheckOptions(near_duplicates=True))
    assert found(report, Check.DUPLICATE) == [("a.jsonl", 2)]
    assert found(report, Check.NEAR_DUPLICATE) == [("a.jsonl", 3)]
    monkeypatch.setattr("model_training.datasets.checks.near_duplicates.find_spec", lambda name: None)
    with pytest.raises(UserError, match="numpy and rensa"):
        check_dataset(DatasetFiles(training=[path]), CheckOptions(near_duplicates=True))


def count_words(texts):
    """A token counter that another process can import."""
    return [len(text.split()) for text in texts]


def test_lengths_are_counted_and_cuts_told(tmp_path):
    rows = [row("a b", "c d"), row("a " * 9, "b"), row("a", "b " * 12), row("a " * 40, "b " * 60)]
    options = CheckOptions(counter=count_words, max_length=8)
    report = check_dataset(DatasetFiles(training=[put(tmp_path / "a.jsonl", rows)]), options)
    tokens = report.tokens
    assert tokens is not None
    assert (tokens.rows, tokens.tokens, tokens.longest) == (4, 4 + 10 + 13 + 100, 100)
    assert [(one.up_to, one.rows) for one in tokens.histogram] == [(32, 3), (64, 0), (128, 1)]
    assert (tokens.overlong, tokens.cut_tokens, tokens.unanswered) == (3, 2 + 5 + 92, 2)
    assert found(report, Check.OVERLONG) == [("a.jsonl", 2), ("a.jsonl", 3), ("a.jsonl", 4)]
    messages = [finding.message for finding in report.findings]
    assert "the whole answer (1 tokens)" in messages[0]
    assert "the last 5 of the answer's 12 tokens" in messages[1]


def test_processes_find_what_one_finds(tmp_path, monkeypatch):
    rng = random.Random(1)
    rows = [row(f"question {rng.randrange(500)}", " ".join(rng.choices(WORDS, k=20))) for _ in range(3000)]
    rows[1200]["answer"] = ""
    rows[2100]["answer"] = SECRETS["an npm token"]
    files = DatasetFiles(
        training=[put(tmp_path / "a.jsonl", rows)], validation=[put(tmp_path / "v.jsonl", rows[:3])]
    )
    options = {"near_duplicates": True, "counter": count_words, "max_length": 21}
    steps = []
    alone = check_dataset(files, CheckOptions(**options), lambda *step: steps.append(step))
    together = check_dataset(files, CheckOptions(**options, workers=2))
    left, right = (json.loads(report.model_dump_json(exclude={"seconds"})) for report in (alone, together))
    assert left == right
    assert {"empty", "secret", "conflict", "overlap", "overlong"} <= set(left["counts"])
    done = [step[1] for step in steps if step[0] == "rows"]
    assert done == sorted(done)
    assert done[-1] == steps[0][2] == sum(file.bytes for file in alone.files)


def test_all_findings_are_counted_and_the_first_are_kept(tmp_path):
    rows = [row("the same question", f"{number}\x01") for number in range(250)]
    report = check_dataset(DatasetFiles(training=[put(tmp_path / "a.jsonl", rows)]))
    assert report.counts == {Check.GARBLED: 250, Check.CONFLICT: 249}
    assert found(report, Check.CONFLICT) == [("a.jsonl", number) for number in range(2, 102)]
    assert len(found(report, Check.GARBLED)) == 100


def test_memory_does_not_grow_with_the_rows(tmp_path):
    def peak(count: int) -> int:
        path = put(tmp_path / "a.jsonl", (row(f"{number}", f"{number} " * 40) for number in range(count)))
        tracemalloc.start()
        check_dataset(DatasetFiles(training=[path]))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(100)  # imports
    assert peak(6000) - peak(3000) < 3000 * 100  # a row is 240 characters, its hashes some bytes on disk


def test_every_check_says_what_it_means():
    assert set(ADVICE) == set(Check)
    assert all(text.endswith(".") for text in ADVICE.values())


@pytest.mark.parametrize(
    "piece",
    [
        "eyJaaaaaaaaaaaa-",
        "sk-a-T3BlbkFJ",
        "-----BEGIN PRIVATE KEY-----a: ",
        "x://a:",
        "xoxb-1234567890-",
        "sk-ant-a-",
    ],
)
def test_no_text_makes_the_search_for_secrets_slow(piece):
    began = time.process_time()
    list(find_secrets(piece * (500_000 // len(piece))))
    assert time.process_time() - began < 60  # a search that goes back takes hours
