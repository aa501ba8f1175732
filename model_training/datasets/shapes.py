"""The shapes that training rows come in, each turned into the fields of our own: `context`, `question` and `answer`.

| shape | fields |
|---|---|
| question/answer | `question`, `answer`: ours |
| prompt/completion | `prompt`, `completion`: texts, or lists of messages (TRL) |
| Alpaca | `instruction`, `input` (optional), `output`; `system` and `history` (pairs) as well |
| ShareGPT | `conversations`: turns of `from` and `value`; `system` as well |
| messages | `messages`: turns of `role` and `content` (OpenAI); `content` may be a list of text parts |

Of a conversation the last answer is learnt; what stands before is its context.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from model_training.contracts.chat import ChatMessage
from model_training.datasets.findings import Check
from model_training.datasets.formats.record import RowError, json_type

Fields = dict[str, Any]

_ROLES = {
    "system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant",
    "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
}  # fmt: skip


def shape_of(fields: Fields) -> str:
    """The name of the shape. Where fields of several are there, a conversation wins over a pair of texts."""
    if "messages" in fields:
        return "messages"
    if "conversations" in fields:
        return "ShareGPT"
    if "prompt" in fields or "completion" in fields:
        return "prompt/completion"
    if ("instruction" in fields or "output" in fields) and "question" not in fields:
        return "Alpaca"
    return "question/answer"


def normal_fields(fields: Fields) -> Fields:
    """The row's own fields, with `question` and `answer` as texts that say something.

    Raises:
        RowError: naming the field and the rule that it breaks.
    """
    convert = _CONVERTERS.get(shape_of(fields))
    if convert is not None:
        fields = convert(dict(fields))
    for name in ("question", "answer"):
        _require_text(fields, name)
    return fields


def _from_messages(fields: Fields) -> Fields:
    return _conversation(fields, fields.pop("messages"), "messages")


def _from_sharegpt(fields: Fields) -> Fields:
    turns = fields.pop("conversations")
    return _conversation(fields, turns, "conversations", system=fields.pop("system", None))


def _from_prompt(fields: Fields) -> Fields:
    prompt, completion = fields.get("prompt"), fields.get("completion")
    if isinstance(prompt, list) and isinstance(completion, list):
        del fields["prompt"], fields["completion"]
        return _conversation(fields, cast("list[Any]", prompt) + cast("list[Any]", completion), "prompt")
    for name in ("prompt", "completion"):
        _require_text(fields, name)
    return {**fields, "question": fields.pop("prompt"), "answer": fields.pop("completion")}


def _from_alpaca(fields: Fields) -> Fields:
    for name in ("instruction", "output"):
        _require_text(fields, name)
    question, more = fields.pop("instruction"), fields.pop("input", None)
    if more is not None and not isinstance(more, str):
        raise RowError(f"must be text, this is {json_type(more)}", "input")
    context: list[ChatMessage] = []
    if system := fields.pop("system", None):
        context.append(_turn({"role": "system", "content": system}, "system"))
    for index, pair in enumerate(_list(fields.pop("history", None) or [], "history")):
        context += _pair(pair, f"history.{index}")
    if more and more.strip():
        question = f"{question}\n\n{more}"
    return {**fields, "context": context, "question": question, "answer": fields.pop("output")}


def _conversation(fields: Fields, turns: Any, name: str, system: Any = None) -> Fields:
    turns = _list(turns, name)
    if len(turns) < 2:
        raise RowError("needs at least a user and an assistant message", name)
    parsed = [_turn(turn, f"{name}.{index}") for index, turn in enumerate(turns)]
    if parsed[-1].role != "assistant" or parsed[-2].role != "user":
        raise RowError("must end with a user message and the assistant's answer", name)
    context = parsed[:-2]
    if system:
        context.insert(0, _turn({"role": "system", "content": system}, "system"))
    return {**fields, "context": context, "question": parsed[-2].content, "answer": parsed[-1].content}


def _pair(pair: Any, where: str) -> list[ChatMessage]:
    texts = _list(pair, where)
    if len(texts) != 2:
        raise RowError("must be a question with its answer", where)
    roles = ("user", "assistant")
    return [_turn({"role": role, "content": text}, where) for role, text in zip(roles, texts, strict=True)]


def _turn(turn: Any, where: str) -> ChatMessage:
    if not isinstance(turn, dict):
        raise RowError(f"must be an object, this is {json_type(turn)}", where)
    fields = cast("Fields", turn)
    role_name, text_name = ("role", "content") if "role" in fields else ("from", "value")
    for name in (role_name, text_name):
        if name not in fields:
            raise RowError("is missing", f"{where}.{name if name != 'from' else 'role'}")
    role = fields[role_name]
    if not isinstance(role, str) or role.lower() not in _ROLES:
        raise RowError(
            f"is {role!r}; Input should be one of system, user (human) and assistant (gpt)",
            f"{where}.{role_name}",
        )
    return ChatMessage.model_construct(
        role=_ROLES[role.lower()], content=_content(fields[text_name], f"{where}.{text_name}")
    )


def _content(value: Any, where: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise RowError(f"must be text, this is {json_type(value)}", where)
    texts: list[str] = []
    for index, part in enumerate(cast("list[Any]", value)):
        text = cast("Fields", part).get("text") if isinstance(part, dict) else None
        if not isinstance(text, str):
            raise RowError("must be a text part; pictures and sound are not learnt from", f"{where}.{index}")
        texts.append(text)
    return "".join(texts)


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise RowError(f"must be a list, this is {json_type(value)}", name)
    return cast("list[Any]", value)


def _require_text(fields: Fields, name: str) -> None:
    value = fields.get(name)
    if isinstance(value, str) and value and not value.isspace():
        return
    if name not in fields:
        raise RowError(
            "is missing; a row has `question` and `answer`, `prompt` and `completion`, `instruction` and `output`, "
            "`conversations`, or `messages`",
            name,
        )
    if not isinstance(value, str):
        raise RowError(f"must be text, this is {json_type(value)}", name)
    raise RowError("is empty", name, Check.EMPTY)


_CONVERTERS: dict[str, Callable[[Fields], Fields]] = {
    "messages": _from_messages,
    "ShareGPT": _from_sharegpt,
    "prompt/completion": _from_prompt,
    "Alpaca": _from_alpaca,
}
