"""Models with a chat template of their own: rendered as transformers renders them, with exactly one begin token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from libs.common.errors import InvalidInput
from libs.common.models.prompting import encode_prompt, encode_training, load_template, render, render_answer
from libs.common.testing.tiny_gemma import tiny_tokenizer

# As instructed Gemma 3 asks: the system text in the first user turn, roles in turn, and the begin token in the template.
TURNS = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first = messages[0]['content'] + '\n\n' -%}
    {%- set turns = messages[1:] -%}
{%- else -%}
    {%- set first = '' -%}
    {%- set turns = messages -%}
{%- endif -%}
{%- for turn in turns -%}
    {%- if (turn['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("roles must take turns") }}
    {%- endif -%}
    {{ '<start_of_turn>' + ('model' if turn['role'] == 'assistant' else 'user') + '\n' + (first if loop.first else '') }}
    {%- if turn['content'] is string -%}
        {{ turn['content'] | trim }}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\n' }}
{%- endif -%}
"""

# As a thinking model asks: an answer is asked for with an empty thought, and past answers are shown without one.
THOUGHTS = """{{ bos_token }}{% for turn in messages %}
<start_of_turn>{{ turn.role }}
{{ turn.content | trim }}<end_of_turn>
{% endfor %}
{% if add_generation_prompt %}
<start_of_turn>assistant
(no thought)
{% endif %}
"""

NO_END = """{% for m in messages %}{{ m.role }}: {{ m.content }}
{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"""

CONTENT = st.text(alphabet="Question ab(),\n é{}%", min_size=1, max_size=30).filter(
    lambda text: bool(text.strip())
)


@st.composite
def conversations(draw: Any) -> list[dict[str, str]]:
    """System text or none, some rounds, and a last question."""
    system = draw(st.none() | CONTENT)
    turns = [{"role": "system", "content": system}] if system else []
    for question, answer in draw(st.lists(st.tuples(CONTENT, CONTENT), max_size=2)):
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return [*turns, {"role": "user", "content": draw(CONTENT)}]


def model_with(directory: Path, template: str, **config: Any) -> PreTrainedTokenizerFast:
    """A prepared model's tokenizer files, and what transformers reads from them."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tiny_tokenizer(), bos_token="<bos>", eos_token="<eos>", **config
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(directory)
    return PreTrainedTokenizerFast.from_pretrained(directory)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, PreTrainedTokenizerFast]]:
    made = {}
    for name, template in {"turns": TURNS, "thoughts": THOUGHTS, "no end": NO_END}.items():
        directory = tmp_path_factory.mktemp("model")
        made[name] = (directory, model_with(directory, template))
    return made


Models = dict[str, tuple[Path, PreTrainedTokenizerFast]]


@given(name=st.sampled_from(["turns", "thoughts"]), turns=conversations())
def test_prompts_are_those_of_apply_chat_template(
    models: Models, name: str, turns: list[dict[str, str]]
) -> None:
    directory, tokenizer = models[name]
    template = load_template("gemma", directory)
    expected = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    ids = encode_prompt(tokenizer, template, turns)
    assert ids == expected
    assert ids.count(tokenizer.bos_token_id) == 1
    assert not render(template, turns).startswith("<bos>")
    assert encode_prompt(tiny_tokenizer(), template, turns) == expected  # the serving side's tokenizer


@given(turns=conversations(), answer=CONTENT)
def test_what_is_trained_on_is_the_prompt_of_serving_and_the_answer_with_its_end(
    models: Models, turns: list[dict[str, str]], answer: str
) -> None:
    for name in ("turns", "thoughts"):
        directory, tokenizer = models[name]
        template = load_template("gemma", directory)
        row = [*turns, {"role": "assistant", "content": answer}]
        trained = encode_training(tokenizer, template, row)
        assert trained.ids[: trained.prompt_length] == encode_prompt(tokenizer, template, turns)
        learnt = tokenizer.decode(trained.ids[trained.prompt_length :])
        assert learnt.strip() == answer.strip() + "<end_of_turn>"
        assert trained.ids.count(tokenizer.bos_token_id) == 1
    whole = tokenizer_text(models["turns"], row)
    prompt, learnt = render_answer(load_template("gemma", models["turns"][0]), row)
    assert "<bos>" + prompt + learnt + "\n" == whole


def tokenizer_text(model: tuple[Path, PreTrainedTokenizerFast], turns: list[dict[str, str]]) -> str:
    return str(model[1].apply_chat_template(turns, tokenize=False))


def test_where_answers_end_is_seen_from_the_template(models: Models) -> None:
    ends = {name: load_template("gemma4", directory).answer_end for name, (directory, _) in models.items()}
    assert ends == {"turns": "<end_of_turn>", "thoughts": "<end_of_turn>", "no end": "<eos>"}
    assert load_template("gemma", models["turns"][0]).stop == ("<end_of_turn>",)


def test_which_template_counts(tmp_path: Path, models: Models) -> None:
    turns = [{"role": "user", "content": "a"}]
    assert (
        load_template("qa", models["turns"][0]).own is None
    )  # a base is asked questions, whatever lies beside it
    assert load_template("gemma", tmp_path) == load_template("gemma")
    named = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    settings = {"chat_template": named, "bos_token": {"content": "<bos>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    assert render(load_template("gemma", tmp_path), turns) == "D"
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}J", encoding="utf-8")
    assert render(load_template("gemma", tmp_path), turns) == "J"


def test_messages_that_the_model_refuses(models: Models) -> None:
    template = load_template("gemma", models["turns"][0])
    twice = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    with pytest.raises(InvalidInput, match="own chat template refuses these messages: roles must take turns"):
        render(template, twice)


def test_a_template_cannot_reach_out_of_its_sandbox(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ ''.__class__.__mro__ }}", encoding="utf-8")
    with pytest.raises(InvalidInput, match="refuses these messages"):
        load_template("gemma", tmp_path)
