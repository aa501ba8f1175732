"""The one place that turns messages into a prompt and a prompt into token ids. Training and serving both call it.

A prompt carries no begin-of-text token; `encode` puts exactly one in front. What a model is trained on starts with the very
ids that serving sends: prompt and answer are encoded apart and joined, so that no token spans the border between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from jinja2 import StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from libs.common.errors import InvalidInput
from model_training.config.errors import ConfigError
from model_training.config.templates import template_text


@dataclass(frozen=True)
class PromptTemplate:
    """How a model wants to be asked. `stop` are texts that end an answer; training appends the token `answer_end`."""

    name: str
    text: str
    stop: tuple[str, ...]
    answer_end: str


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


def load_template(name: str) -> PromptTemplate:
    """The template that a catalogue entry names.

    Raises:
        InvalidInput: there is none of that name.
    """
    try:
        found = template_text(name)
    except ConfigError as error:
        raise InvalidInput(str(error), param="template") from error
    return PromptTemplate(found.name, found.text, found.stop, found.answer_end)


def render(
    template: PromptTemplate, messages: Iterable[Message], *, add_generation_prompt: bool = True
) -> str:
    """The prompt's text, without a begin-of-text token."""
    turns = [_turn(message) for message in messages]
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


def _turn(message: Message) -> dict[str, str]:
    if isinstance(message, Mapping):
        return {"role": message["role"], "content": message["content"]}
    return {"role": message.role, "content": message.content}


@lru_cache(maxsize=16)
def _compiled(text: str) -> Template:
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(
        text
    )
