"""Translates what pydantic found into faults that name the field, the value, the rule and the way out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from model_training.config.errors import Fault
from model_training.config.sources import DEFAULT, Source
from model_training.config.suggest import did_you_mean

Fields = Mapping[str, FieldInfo]


def refuse(rule: str, hint: str | None = None) -> PydanticCustomError:
    """An error to raise in a field validator; `rule` completes the sentence that begins with field and value."""
    return PydanticCustomError("config_rule", "{rule}", {"rule": rule, "hint": hint})


def unknown_fields(fields: Fields, aliases: Mapping[str, str], sources: Mapping[str, Source]) -> list[Fault]:
    """A fault for every name that is no field; `sources` has the names, `aliases` what other tools call a field."""
    found: list[Fault] = []
    for name, source in sources.items():
        if name in fields:
            continue
        hint = (
            f"Here it is {aliases[name]}." if name in aliases else did_you_mean(name, fields, noun="Fields")
        )
        if source.kind == "environment":
            found.append(Fault(source.name, "there is no such field", hint=hint))
        else:
            found.append(Fault(name, "there is no such field", hint=hint, where=_where(name, sources)))
    return found


def validation_faults(error: ValidationError, fields: Fields, sources: Mapping[str, Source]) -> list[Fault]:
    """One fault for each field or list item that pydantic refused; branches of a union become one."""
    groups: dict[str, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        groups.setdefault(_label(detail["loc"]), []).append(detail)
    return [_fault(label, details, fields, sources) for label, details in groups.items()]


def parse_text(field: FieldInfo | None, text: str) -> Any:
    """The value that a text from the environment or the command line means for a field.

    `none` is None where a field may be that; lists are written `a,b` or, where an item has a comma, `["a, b", "c"]`,
    mappings `{name: value}`.
    Anything else stays text and is read by the field's own type.
    """
    if field is None:
        return text
    parts = _parts(field.annotation)
    if NoneType in parts and text.strip().lower() in ("none", "null", ""):
        return None
    if dict in parts or (list in parts and text.strip().startswith("[")):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text
    if list not in parts:
        return text
    return [item.strip() for item in text.split(",") if item.strip()]


def takes_truth_value(field: FieldInfo) -> bool:
    """Whether true and false are values of the field; elsewhere they would pass as the numbers 1 and 0."""
    return bool in _parts(field.annotation)


def _fault(
    label: str, details: Sequence[ErrorDetails], fields: Fields, sources: Mapping[str, Source]
) -> Fault:
    name = str(details[0]["loc"][0])
    rule = " or ".join(dict.fromkeys(_rule(detail) for detail in details)).replace(" or must be ", " or ")
    value = details[0]["input"]
    return Fault(
        label, rule, value, hint=_hint(details, fields.get(name), value), where=_where(name, sources)
    )


_PHRASES = (
    (r"^Value error, ", ""),
    (r"^(Input|String|List|Value) should ", "must "),
    (r", unable to (parse|interpret).*$", ""),
    (r" after validation, not (\d+)$", r", not \1"),
    (r"valid boolean", "true or false"),
    (r"^must be a true", "must be true"),
    (r"must be a valid (\w)", r"must be a \1"),
    (r"\ba integer", "an integer"),
)


def _rule(detail: ErrorDetails) -> str:
    """Pydantic's sentence as the end of one that begins with the field and its value."""
    text = detail["msg"]
    for pattern, replacement in _PHRASES:
        text = re.sub(pattern, replacement, text)
    return text


def _hint(details: Sequence[ErrorDetails], field: FieldInfo | None, value: Any) -> str | None:
    for detail in details:
        hint = detail.get("ctx", {}).get("hint")
        if hint:
            return str(hint)
    if field is None:
        return None
    words = _literals(field.annotation)
    if words and isinstance(value, str):
        numbers = _parts(field.annotation) & {int, float}
        choices = [*words, *(["true", "false"] if takes_truth_value(field) else [])]
        return did_you_mean(value, choices, noun="Choices") if not numbers else None
    if field.is_required():
        return None
    default = field.get_default(call_default_factory=True)
    return "Leave it out for the default." if default is None else f"The default is {default!r}."


def _label(loc: tuple[int | str, ...]) -> str:
    """`suites[2]` for an item of a list. A text behind the field names a branch of a union and is left out."""
    return str(loc[0]) + "".join(f"[{part}]" for part in loc[1:] if isinstance(part, int))


def _where(name: str, sources: Mapping[str, Source]) -> str | None:
    source = sources.get(name, DEFAULT)
    return None if source == DEFAULT else source.where


def _parts(annotation: Any) -> set[Any]:
    """Every type that an annotation is made of, without what stands inside a list."""
    origin = get_origin(annotation)
    if origin in (list, dict) or annotation in (list, dict):
        return {origin or annotation}
    if origin is None or origin is Literal:
        return {annotation}
    return {part for argument in get_args(annotation) for part in _parts(argument)}


def _literals(annotation: Any) -> list[str]:
    origin = get_origin(annotation)
    if origin is Literal:
        return [word for word in get_args(annotation) if isinstance(word, str)]
    nested = get_args(annotation) if origin is not None else ()
    return [word for argument in nested for word in _literals(argument)]
