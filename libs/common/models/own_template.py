"""Finds the chat template that a model brings along. It only reads; `prompting` renders."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True)
class OwnTemplate:
    """Jinja source, and the special tokens that it may name, as (variable, text) pairs."""

    text: str
    special_tokens: tuple[tuple[str, str], ...]


def read_own_template(directory: Path) -> OwnTemplate | None:
    """The template of a prepared model: `chat_template.jinja`, else the one in `tokenizer_config.json`; None if neither is.

    The order is that of transformers.
    """
    config = _read_json(directory / "tokenizer_config.json")
    text = _text(directory, config)
    if text is None:
        return None
    found = ((name, _content(config.get(name))) for name in _TOKENS)
    return OwnTemplate(text, tuple((name, token) for name, token in found if token is not None))


def _text(directory: Path, config: dict[str, Any]) -> str | None:
    if (path := directory / "chat_template.jinja").is_file():
        return path.read_text(encoding="utf-8")
    listed = _read_json(directory / "chat_template.json").get("chat_template") or config.get("chat_template")
    if isinstance(listed, list):  # several, by name
        listed = {one["name"]: one["template"] for one in listed}.get("default")
    return listed if isinstance(listed, str) else None


def _content(token: Any) -> str | None:
    return token.get("content") if isinstance(token, dict) else token


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
