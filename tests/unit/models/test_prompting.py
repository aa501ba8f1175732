"""One renderer for training and serving: what is trained on begins with what is sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import InvalidInput
from libs.common.models.prompting import (
    encode,
    encode_prompt,
    encode_training,
    load_template,
    render,
    render_answer,
)
from libs.common.testing.tiny_gemma import tiny_tokenizer
from model_training.config.templates import TEMPLATE_NAMES
from model_training.contracts.chat import ChatMessage

TOKENIZER = tiny_tokenizer()
CONTENT = st.text(alphabet="Question:Answer ab(),\n é<>", min_size=1, max_size=40).filter(
    lambda text: "<bos>" not in text  # read as the token that it names, as transformers and vLLM do
)


@given(
    name=st.sampled_from(TEMPLATE_NAMES),
    system=st.none() | CONTENT,
    shots=st.lists(st.tuples(CONTENT, CONTENT), max_size=2),
    question=CONTENT,
    answer=CONTENT,
)
def test_training_ids_begin_with_the_ids_that_serving_sends(
    name: str, system: str | None, shots: list[tuple[str, str]], question: str, answer: str
) -> None:
    template = load_template(name)
    turns = [{"role": "system", "content": system}] if system else []
    for shot in shots:
        turns += [{"role": r, "content": c} for r, c in zip(("user", "assistant"), shot, strict=True)]
    turns.append({"role": "user", "content": question})
    trained = encode_training(TOKENIZER, template, [*turns, {"role": "assistant", "content": answer}])
    assert trained.ids[: trained.prompt_length] == encode_prompt(TOKENIZER, template, turns)
    assert trained.ids.count(TOKENIZER.token_to_id("<bos>")) == 1
    learnt = TOKENIZER.decode(trained.ids[trained.prompt_length :], skip_special_tokens=False)
    assert learnt.strip() == answer.strip() + template.answer_end
    assert len(trained.ids) > trained.prompt_length


def test_the_template_of_a_base_model_is_questions_and_answers() -> None:
    messages = [
        ChatMessage(role="user", content="One?"),
        ChatMessage(role="assistant", content="1"),
        ChatMessage(role="user", content="Two?"),
    ]
    assert render(load_template("qa"), messages) == "Question: One?\nAnswer: 1\n\nQuestion: Two?\nAnswer:"


def test_exactly_one_begin_token_however_the_tokenizer_is_set_up(tmp_path: Any) -> None:
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(tokenizer_object=TOKENIZER, bos_token="<bos>", eos_token="<eos>")
    begin = TOKENIZER.token_to_id("<bos>")
    for tokenizer in (TOKENIZER, wrapped):
        assert encode(tokenizer, "a list")[:2].count(begin) == 1
        assert encode(tokenizer, "<bos>a list") == encode(tokenizer, "a list")
    assert encode(wrapped, "a list") == encode(TOKENIZER, "a list")


def test_a_row_without_an_answer_and_an_unknown_template_are_refused() -> None:
    with pytest.raises(InvalidInput, match="last message"):
        render_answer(load_template("qa"), [{"role": "user", "content": "One?"}])
    with pytest.raises(InvalidInput, match="no chat template 'qx'"):
        load_template("qx")
