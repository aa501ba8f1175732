"""Which tokens are learnt, and what happens to rows that do not fit or cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from libs.common.errors import JobFailure
from libs.common.models.own_template import OwnTemplate
from libs.common.models.prompting import encode_prompt, load_template
from model_training.config.training_config import TrainingConfig
from model_training.datasets.rows import parse_row
from services.trainer.domain import DataFile
from services.trainer.recipe.base import load_tokenizer
from services.trainer.recipe.encode import (
    IGNORED,
    EncodedRows,
    encode_rows,
    load_split,
    require_supervision,
)

ROW = {"question": "How many?", "answer": "Three of them."}
CHAT = {
    "messages": [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "How many?"},
        {"role": "assistant", "content": "Three"},
    ]
}


@pytest.fixture(scope="module")
def tokenizer(tiny_gemma: Path) -> Any:
    return load_tokenizer(tiny_gemma)


@pytest.fixture
def encode(tokenizer: Any) -> Callable[..., EncodedRows]:
    def run(*rows: dict[str, Any], template: str = "qa", **config: Any) -> EncodedRows:
        settings = TrainingConfig(check_machine=False, **config)
        return encode_rows([parse_row(row) for row in rows], tokenizer, load_template(template), settings)

    return run


@pytest.mark.parametrize("template", ["qa", "gemma"])
@pytest.mark.parametrize("row", [ROW, CHAT])
def test_exactly_the_answer_and_its_end_are_learnt(
    encode: Callable[..., EncodedRows], tokenizer: Any, row: dict[str, Any], template: str
) -> None:
    (example,) = encode(row, template=template).examples
    parsed, chosen = parse_row(row), load_template(template)
    prompt = encode_prompt(tokenizer, chosen, parsed.messages[:-1])
    assert example.ids[: len(prompt)] == prompt  # what serving sends, <bos> first
    assert example.ids[0] == tokenizer.bos_token_id
    assert example.labels == [IGNORED] * len(prompt) + example.ids[len(prompt) :]
    learnt = tokenizer.decode([label for label in example.labels if label != IGNORED])
    assert learnt.strip() == parsed.answer + chosen.answer_end
    assert example.supervised == len(example.ids) - len(prompt)


def test_everything_can_be_learnt(encode: Callable[..., EncodedRows]) -> None:
    (example,) = encode(ROW, train_on="everything").examples
    assert example.labels == [IGNORED, *example.ids[1:]]


def test_long_rows_are_dropped_cut_or_refused(encode: Callable[..., EncodedRows]) -> None:
    long = {"question": "How many?", "answer": "word " * 40}
    assert encode(ROW, long, max_length=40).dropped == ["row-2"]
    cut = encode(ROW, long, max_length=40, overlong="truncate")
    assert cut.truncated == ["row-2"]
    assert [len(example.ids) for example in cut.examples][1] == 40
    with pytest.raises(JobFailure, match="1 rows are longer than max_length = 40") as failure:
        encode(ROW, long, max_length=40, overlong="refuse")
    assert failure.value.error.blame == "user"
    assert [fault.row for fault in failure.value.error.rows or []] == [2]


def test_rows_that_a_models_own_template_refuses_are_named(tokenizer: Any) -> None:
    text = (
        "{% for m in messages %}{% if m.content == 'No' %}{{ raise_exception('I say nothing') }}{% endif %}"
    )
    text += (
        "{{ m.role }}: {{ m.content }}<eos>{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    template = replace(load_template("gemma"), own=OwnTemplate(text, ()), answer_end="<eos>")
    rows = [{**ROW, "id": f"r{n}", "question": "No" if n in (1, 2) else "Yes"} for n in range(4)]
    settings = TrainingConfig(check_machine=False)
    with pytest.raises(JobFailure, match=r"refuses 2 rows, the first with: r1: .*I say nothing") as failure:
        encode_rows([parse_row(row) for row in rows], tokenizer, template, settings)
    assert failure.value.error.code == "row_refused"
    assert [fault.row for fault in failure.value.error.rows or []] == [2, 3]


def test_a_cut_that_leaves_nothing_to_learn_drops_the_row(encode: Callable[..., EncodedRows]) -> None:
    encoded = encode({"question": "word " * 40, "answer": "Yes"}, max_length=16, overlong="truncate")
    assert encoded.dropped == ["row-1"]
    with pytest.raises(JobFailure, match="No training row is left") as failure:
        require_supervision(encoded, TrainingConfig(max_length=16, check_machine=False))
    assert failure.value.error.code == "no_rows"


def test_a_row_without_supervision_is_noticed(encode: Callable[..., EncodedRows]) -> None:
    encoded = encode(ROW)
    bare = [
        type(example)(example.row_id, example.ids, [IGNORED] * len(example.ids))
        for example in encoded.examples
    ]
    with pytest.raises(JobFailure) as failure:
        require_supervision(EncodedRows(bare), TrainingConfig(check_machine=False))
    assert failure.value.error.code == "no_supervision"


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", "empty_file", "bad.jsonl holds no row"),
        ('{"question": "a"}\n', "invalid_file", "row 1, field answer"),
        ('{"question": "a", "answer": "b"}\n{broken\n', "invalid_file", "row 2: broken JSON"),
    ],
)
def test_a_bad_file_is_the_users_and_named(tmp_path: Path, text: str, code: str, words: str) -> None:
    path = tmp_path / "0a1b2c"  # stored under its hash; the message must say the uploaded name
    path.write_text(text, encoding="utf-8")
    file = DataFile("file_1", "bad.jsonl", str(path), "0a1b2c")
    with pytest.raises(JobFailure, match=words) as failure:
        load_split(TrainingConfig(check_machine=False), file, None)
    assert failure.value.error.code == code
    assert failure.value.error.blame == "user"


def test_training_and_validation_share_no_function(write_rows: Callable[..., DataFile]) -> None:
    rows = [{**ROW, "question": f"{n}?", "function": f"lib.f{n % 7}"} for n in range(40)]
    config = TrainingConfig(validation_fraction=0.2, check_machine=False)
    split = load_split(config, write_rows(rows), None)
    assert {row.function for row in split.train}.isdisjoint({row.function for row in split.validation})
    assert len(split.train) + len(split.validation) == 40
    assert split == load_split(config, write_rows(rows), None)


def test_a_validation_file_loses_what_training_has(write_rows: Callable[..., DataFile]) -> None:
    training = write_rows([{**ROW, "question": f"{n}?"} for n in range(6)])
    validation = write_rows([{**ROW, "question": f"{n}?"} for n in range(4, 8)], "validation.jsonl")
    split = load_split(TrainingConfig(check_machine=False), training, validation)
    assert [row.question for row in split.train] == [f"{n}?" for n in range(6)]
    assert [row.question for row in split.validation] == ["6?", "7?"]


def test_max_rows_takes_the_same_rows_for_a_seed(write_rows: Callable[..., DataFile]) -> None:
    file = write_rows([{**ROW, "question": f"{n}?"} for n in range(30)])

    def chosen(seed: int) -> list[str]:
        config = TrainingConfig(
            max_rows=10, validation_fraction=0, early_stopping_patience=0, seed=seed, check_machine=False
        )
        return [row.question for row in load_split(config, file, None).train]

    assert len(chosen(0)) == 10
    assert chosen(0) == chosen(0)
    assert chosen(0) != chosen(1)
