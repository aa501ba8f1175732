"""Fields of a request, read from the description of the API, and values that each of them must refuse."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from services.gateway.api.openapi import example_of

NUL, SURROGATE, BIDI = "a\x00b", "a\ud800b", "a\u202eb"
JSON_TYPES = {
    type(None): "null",
    bool: "boolean",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
MISTYPED: tuple[Any, ...] = (None, True, 12345.5, "text", [1], {"a": 1})


@dataclass(frozen=True)
class Field:
    """A field of a request: where it stands, and its shape."""

    path: tuple[str | int, ...]
    schema: dict[str, Any]

    @property
    def name(self) -> str:
        return ".".join(str(part) for part in self.path)


def fields_of(
    schema: dict[str, Any], shapes: dict[str, Any], path: tuple[str | int, ...] = ()
) -> Iterator[Field]:
    """Every field of a shape, the ones inside objects and lists too."""
    schema = resolved(schema, shapes)
    for name, inner in schema.get("properties", {}).items():
        yield Field((*path, name), inner)
        for option in _options(inner, shapes):
            if option.get("type") == "object" and "properties" in option:
                yield from fields_of(option, shapes, (*path, name))
            if option.get("type") == "array" and option.get("items"):
                yield from fields_of(option["items"], shapes, (*path, name, 0))


def resolved(schema: dict[str, Any], shapes: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = shapes[schema["$ref"].rpartition("/")[2]]
    return schema


def _options(schema: dict[str, Any], shapes: dict[str, Any]) -> list[dict[str, Any]]:
    schema = resolved(schema, shapes)
    if "properties" in schema:
        return [schema]
    kinds = [kind for key in ("anyOf", "oneOf") for kind in schema.get(key, [])]
    return [option for kind in kinds for option in _options(kind, shapes)] if kinds else [schema]


def wrong_values(field: Field, shapes: dict[str, Any]) -> Iterator[Any]:
    """Values that the field's shape forbids, or that nobody can store."""
    options = _options(field.schema, shapes)
    allowed = {option.get("type") for option in options}
    if None in allowed and not any("const" in option or "enum" in option for option in options):
        yield from (SURROGATE, NUL)  # anything else goes
        return
    for value in MISTYPED:
        if JSON_TYPES[type(value)] not in allowed:
            yield value
    for option in options:
        yield from _out_of_bounds(option)


def _out_of_bounds(option: dict[str, Any]) -> Iterator[Any]:
    match option.get("type"):
        case "integer" | "number":
            step = 1 if option["type"] == "integer" else 0.5
            bounds = {"minimum": -step, "maximum": step, "exclusiveMinimum": 0, "exclusiveMaximum": 0}
            yield from (option[key] + beyond for key, beyond in bounds.items() if key in option)
            yield from (10**30, float("inf"), float("nan"))
        case "string":
            yield from _wrong_texts(option)
        case "array":
            yield from ([1] * (option["maxItems"] + 1) for _ in range("maxItems" in option))
            yield from ([] for _ in range(option.get("minItems", 0)))
        case "object" if "maxProperties" in option:
            yield {f"k{n}": "v" for n in range(option["maxProperties"] + 1)}
            if option.get("additionalProperties", True) is not True:
                yield {"k": 1}
        case _:
            pass


def _wrong_texts(option: dict[str, Any]) -> Iterator[str]:
    yield from (SURROGATE, NUL)
    if "enum" in option or "const" in option:
        yield "something else"
    if "maxLength" in option:
        yield "x" * (option["maxLength"] + 1)
    if "minLength" in option:
        yield ""
    if "u202e" in option.get("pattern", ""):
        yield BIDI


def with_value(
    body: dict[str, Any], path: tuple[str | int, ...], value: Any, shapes: Any, schema: Any
) -> dict[str, Any]:
    """The body with one field replaced; what must be around it is made."""
    body = copy.deepcopy(body)
    here: Any = body
    for depth, part in enumerate(path[:-1]):
        following = path[depth + 1]
        missing = part not in here if isinstance(here, dict) else part >= len(here)
        if missing or here[part] is None:
            made: Any = [] if isinstance(following, int) else _made(schema, path[: depth + 1], shapes)
            if isinstance(here, list):
                here.append(made)
            else:
                here[part] = made
        here = here[part]
    here[path[-1]] = value
    return body


def _made(schema: dict[str, Any], path: tuple[str | int, ...], shapes: dict[str, Any]) -> dict[str, Any]:
    options = [schema]
    for part in path:
        key = "items" if isinstance(part, int) else None
        following = [
            o[key] if key else o.get("properties", {}).get(part)
            for o in options
            if (key or "properties") in o
        ]
        options = [option for inner in following if inner for option in _options(inner, shapes)]
    return next(example_of(option, shapes) for option in options if option.get("type") == "object")
