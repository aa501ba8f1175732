"""The chat templates that come with the package, by name: their text, where answers stop, and what ends one.

This module only reads. `libs.common.models.prompting` renders, the same for training and serving. Every template keeps
one law: rendering a conversation with its answer starts with the rendering of the conversation that asks for it, so what
follows the prompt is exactly what the model is trained on. The tokenizer puts the begin-of-text token first, not the
template.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from model_training.config.errors import ConfigError
from model_training.config.suggest import did_you_mean


@dataclass(frozen=True)
class TemplateText:
    """A template's Jinja source. It reads `messages` (objects with `role` and `content`) and `add_generation_prompt`.

    `stop` are texts at which an answer is cut; `answer_end` is the special token that a trained answer ends with.
    """

    name: str
    text: str
    stop: tuple[str, ...]
    answer_end: str
    description: str


_STOPS = {"qa": ("\n\n", "\nQuestion:"), "gemma": ("<end_of_turn>",), "gemma4": ("<turn|>",)}
_ENDS = {"qa": "<eos>", "gemma": "<end_of_turn>", "gemma4": "<turn|>"}
_DESCRIPTIONS = {
    "qa": "Question and answer turns, for a model that was never instructed.",
    "gemma": "The turn format of instructed Gemma 1 to 3; a system text goes into the first user turn.",
    "gemma4": "The turn format of instructed Gemma 4, with a system turn of its own.",
}

TEMPLATE_NAMES = tuple(_STOPS)


@lru_cache(maxsize=8)
def template_text(name: str) -> TemplateText:
    """The template called `name`.

    Raises ConfigError when there is none of that name.
    """
    if name not in _STOPS:
        raise ConfigError(f"There is no chat template {name!r}.", hint=did_you_mean(name, TEMPLATE_NAMES))
    source = files("model_training.config").joinpath("templates", f"{name}.jinja")
    return TemplateText(
        name, source.read_text(encoding="utf-8"), _STOPS[name], _ENDS[name], _DESCRIPTIONS[name]
    )
