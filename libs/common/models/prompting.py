"""The one place that turns messages into a prompt and a prompt into token ids. Training and serving both call it.

A model that brings a chat template of its own is prompted by that, all others by a template of the catalogue. A prompt
carries no begin-of-text token; `encode` puts exactly one in front. What a model is trained on starts with the very ids that
serving sends: prompt and answer are encoded apart and joined, so that no token spans the border between them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from libs.common.errors import InvalidInput
from libs.common.models.own_template import OwnTemplate, read_own_template
from model_training.config.errors import ConfigError
from model_training.config.templates import template_text


@dataclass(frozen=True)
class PromptTemplate:
    """How a model wants to be asked. `stop` are texts that end an answer; training appends the token `answer_end`.

    `own` is set where the model's own template takes the place of `text`.
    """

    name: str
    text: str
    stop: tuple[str, ...]
    answer_end: str
    own: OwnTemplate | None = None


@dataclass(frozen=True)
class TrainingIds:
    """One training example: `ids[:prompt_length]` is what serving would send, the rest is to be learnt."""

    ids: list[int]
    prompt_length: int


class MessageLike(Protocol):
    """A turn, such as `contracts.chat.ChatMessage`."""

    @property
    def role(self) -> str: ...
    @property
    def content(self) -> str: ...


Message = MessageLike | Mapping[str, str]
Tokenizer = Any
"""A tokenizer of `transformers` or of `tokenizers`; both have `encode(text, add_special_tokens=…)`."""


_QUESTION_FORMAT = "qa"
_PROBE = "PROBE"
_SPECIAL_TOKEN = re.compile(r"<[^<>\s]+>")


def load_template(name: str, model_dir: Path | None = None) -> PromptTemplate:
    """The template that a catalogue entry names, or the chat template that the prepared model brings along.

    Args:
        name: a template of the catalogue. For `qa` the model's own template is not looked at: that is how bases are asked.
        model_dir: the prepared model.

    Raises:
        InvalidInput: there is none of that name.
    """
    try:
        found = template_text(name)
    except ConfigError as error:
        raise InvalidInput(str(error), param="template") from error
    template = PromptTemplate(found.name, found.text, found.stop, found.answer_end)
    own = read_own_template(model_dir) if model_dir is not None and name != _QUESTION_FORMAT else None
    if own is None:
        return template
    end = _answer_end(replace(template, own=own))
    return replace(template, own=own, stop=(end,), answer_end=end)


def _answer_end(template: PromptTemplate) -> str:
    """The special token that stands after an answer in the model's own template; its end-of-text token if none does."""
    turns = [{"role": "user", "content": _PROBE}, {"role": "assistant", "content": _PROBE}]
    rest = render(template, turns, add_generation_prompt=False).rpartition(_PROBE)[2].strip()
    if match := _SPECIAL_TOKEN.match(rest):
        return match[0]
    return _own_tokens(template).get("eos_token", template.answer_end)


def render(
    template: PromptTemplate, messages: Iterable[Message], *, add_generation_prompt: bool = True
) -> str:
    """The prompt's text, without a begin-of-text token.

    Raises:
        InvalidInput: the model's own template refuses these messages, such as two answers in a row.
    """
    turns = [_turn(message) for message in messages]
    if template.own is not None:
        return _render_own(template, turns, add_generation_prompt)
    return _compiled(template.text).render(messages=turns, add_generation_prompt=add_generation_prompt)


def render_answer(template: PromptTemplate, messages: Sequence[Message]) -> tuple[str, str]:
    """A conversation that ends with an answer, as (prompt, answer). The answer ends with the template's `answer_end`.

    Raises:
        InvalidInput: the last message is not the assistant's.
    """
    if not messages or _turn(messages[-1])["role"] != "assistant":
        raise InvalidInput("The last message of a training row must be the assistant's.", param="messages")
    prompt = render(template, messages[:-1])
    whole = render(template, messages, add_generation_prompt=False)
    if not whole.startswith(prompt) and template.own is not None:
        # It renders past answers otherwise than it asks for one (such as without thoughts); serving asks, so that counts.
        return prompt, _turn(messages[-1])["content"].strip() + template.answer_end
    if not whole.startswith(prompt):
        raise InvalidInput(
            f"The template {template.name!r} renders an answer in another place than it asks for one.",
            param="template",
        )
    answer = whole[len(prompt) :].rstrip()
    return prompt, answer if answer.endswith(template.answer_end) else answer + template.answer_end


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids with exactly one begin-of-text token in front, however the tokenizer is set up."""
    ids = encode_plain(tokenizer, text)
    begin = begin_id(tokenizer)
    return ids if ids[:1] == [begin] else [begin, *ids]


def encode_plain(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text that continues another: nothing is added."""
    encoded = tokenizer.encode(text, add_special_tokens=False)
    return list(getattr(encoded, "ids", encoded))


def encode_prompt(tokenizer: Tokenizer, template: PromptTemplate, messages: Iterable[Message]) -> list[int]:
    """What serving sends for these messages."""
    return encode(tokenizer, render(template, messages))


def encode_training(
    tokenizer: Tokenizer, template: PromptTemplate, messages: Sequence[Message]
) -> TrainingIds:
    """Prompt and answer as ids. `encode_prompt` of all messages but the last is a prefix of them.

    Raises:
        InvalidInput: the last message is not the assistant's.
    """
    prompt, answer = render_answer(template, messages)
    prompt_ids = encode(tokenizer, prompt)
    return TrainingIds(prompt_ids + encode_plain(tokenizer, answer), len(prompt_ids))


def begin_id(tokenizer: Tokenizer) -> int:
    """The id of the begin-of-text token.

    Raises:
        ValueError: the tokenizer has none; it was not made by this platform.
    """
    found = getattr(tokenizer, "bos_token_id", None)
    if found is None and hasattr(tokenizer, "token_to_id"):
        found = tokenizer.token_to_id("<bos>")
    if found is None:
        raise ValueError("the tokenizer has no begin-of-text token; every Gemma tokenizer needs <bos>")
    return int(found)


def _render_own(template: PromptTemplate, turns: list[dict[str, str]], add_generation_prompt: bool) -> str:
    # Deferred: it takes a second, and only a model's own template needs it. It is what apply_chat_template calls.
    from transformers.utils.chat_template_utils import render_jinja_template

    tokens: dict[str, Any] = dict(_own_tokens(template))
    text = template.own.text if template.own else template.text
    try:
        rendered, _ = render_jinja_template(
            [turns], chat_template=text, add_generation_prompt=add_generation_prompt, **tokens
        )
    except TemplateError as error:
        raise InvalidInput(
            f"The model's own chat template refuses these messages: {error}.", param="messages"
        ) from error
    return str(rendered[0]).removeprefix(tokens.get("bos_token", ""))


def _own_tokens(template: PromptTemplate) -> dict[str, str]:
    return dict(template.own.special_tokens) if template.own else {}


def _turn(message: Message) -> dict[str, str]:
    if isinstance(message, Mapping):
        return {"role": message["role"], "content": message["content"]}
    return {"role": message.role, "content": message.content}


@lru_cache(maxsize=16)
def _compiled(text: str) -> Template:
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(
        text
    )
