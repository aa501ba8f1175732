"""The description of the API: every error that an operation may answer, and an example for each operation.

FastAPI derives operations and shapes from the routes; here stands what it cannot know. Examples are built from the shapes:
from the examples and defaults that fields declare, and otherwise from their types.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from fastapi import FastAPI

from model_training.contracts.problems import Problem

Json = dict[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")
PROBLEM = "application/problem+json"
JSON = "application/json"
TITLES = {
    400: "The request asks for something that cannot be done, or cannot be read.",
    401: "No valid key came with the request.",
    403: "The key lacks the scope, or the page's origin is not allowed.",
    404: "There is no such thing in the key's project.",
    409: "The request contradicts the present state, or an Idempotency-Key was used for another request.",
    412: "What is changed has another version by now.",
    413: "The request is larger than allowed.",
    422: "The request does not have the right shape; `param` names the field.",
    428: "The request does not say which version it changes.",
    429: "Too many requests, or no room for more; see Retry-After.",
    500: "The platform failed; the service's log says why.",
    502: "Another service of the platform failed.",
    503: "A part of the platform that this needs does not answer.",
}
EXEMPLIFIED = (JSON, "multipart/form-data")
ETAG = {"ETag": {"description": "The version, for `If-Match`.", "schema": {"type": "string"}}}
RETRY_AFTER = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
}


def event_stream(example: Json) -> Json:
    """The content of a stream; its shape is that of each event, as OpenAPI 3.2 has it."""
    fields = {name: {"type": "string"} for name in ("id", "event", "data")}
    shape = {"type": "object", "properties": fields, "required": ["data"]}
    return {"text/event-stream": {"schema": shape, "example": example}}


def install(app: FastAPI) -> None:
    """Let the application describe itself in full."""
    plain = app.openapi

    def openapi() -> Json:
        if app.openapi_schema is None or "x-complete" not in app.openapi_schema:
            document = plain()
            complete(document)
            document["x-complete"] = True
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi


def complete(document: Json) -> None:
    """Add errors and examples to a document, in place."""
    shapes = document.setdefault("components", {}).setdefault("schemas", {})
    template = "#/components/schemas/{model}"
    problem = Problem.model_json_schema(mode="serialization", ref_template=template)
    shapes.update(problem.pop("$defs", {}))
    shapes["Problem"] = problem
    for name in ("HTTPValidationError", "ValidationError"):
        shapes.pop(name, None)
    for operation in operations(document):
        for parameter in operation.get("parameters", []):
            _without_null(parameter)
        for media in operation.get("requestBody", {}).get("content", {}).values():
            _without_nul(media["schema"], shapes, set())
        _add_errors(operation)
        _add_examples(operation, shapes)


def _without_null(parameter: Json) -> None:
    """What may be left out cannot be sent as null: on the wire that is the text `null`."""
    schema = parameter["schema"]
    kinds = [kind for kind in schema.get("anyOf", []) if kind.get("type") != "null"]
    if len(kinds) == 1:
        del schema["anyOf"]
        schema.update(kinds[0])


def _without_nul(schema: Any, shapes: Json, seen: set[str]) -> None:
    """Say of every text of a request what `contracts.base.Wire` refuses; conversations may hold any character."""
    match schema:
        case {"$ref": str(ref)}:
            shape = shapes[ref.rpartition("/")[2]]
            if ref not in seen and shape.get("additionalProperties") is False:
                seen.add(ref)
                _without_nul(shape, shapes, seen)
        case dict():
            if "patternProperties" in schema:  # keys that do not match the pattern are refused
                schema.setdefault("additionalProperties", False)
            plain = not schema.keys() & {"pattern", "enum", "const", "format", "contentMediaType"}
            if schema.get("type") == "string" and plain:
                schema["pattern"] = r"^[^\u0000]*$"
            for inner in list(schema.values()):
                _without_nul(inner, shapes, seen)
        case list():
            for inner in schema:
                _without_nul(inner, shapes, seen)
        case _:
            pass


def operations(document: Json) -> Iterator[Json]:
    """Every operation of a document."""
    for path in document["paths"].values():
        for method in METHODS:
            if method in path:
                yield path[method]


def _add_errors(operation: Json) -> None:
    if any(parameter["name"] == "If-Match" for parameter in operation.get("parameters", [])):
        operation["responses"]["200"]["headers"] = ETAG
    for status in _errors_of(operation):
        answer: Json = {
            "description": TITLES[status],
            "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        if status in (429, 503):
            answer["headers"] = RETRY_AFTER
        operation["responses"][str(status)] = answer


def _errors_of(operation: Json) -> list[int]:
    """Everyone may lack a key or send too much; the rest follows from what an operation takes."""
    names = {parameter["name"] for parameter in operation.get("parameters", [])}
    places = {parameter["in"] for parameter in operation.get("parameters", [])}
    errors = {400, 401, 403, 413, 422, 429, 500, 502, 503}
    if "path" in places or "requestBody" in operation:
        errors |= {404, 409}
    if "If-Match" in names:
        errors |= {412, 428}
    return sorted(errors)


def _add_examples(operation: Json, shapes: Json) -> None:
    contents: list[Json] = [operation.get("requestBody", {}).get("content", {})]
    contents += [
        answer.get("content", {}) for status, answer in operation["responses"].items() if status < "300"
    ]
    for content in contents:
        for kind, media in content.items():
            if kind in EXEMPLIFIED and "example" not in media and "examples" not in media:
                media["example"] = example_of(media["schema"], shapes)


def example_of(schema: Json, shapes: Json) -> Any:
    """A value of a shape."""
    for key in ("examples", "example", "const", "default", "enum"):
        if key in schema and not (key == "default" and schema[key] in ({}, [], None)):
            found = schema[key]
            return found[0] if key in ("examples", "enum") else found
    if "$ref" in schema:
        return example_of(shapes[schema["$ref"].rpartition("/")[2]], shapes)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema and "properties" not in schema:
            return example_of(schema[key][0], shapes)
    return _of_type(schema, shapes)


def _of_type(schema: Json, shapes: Json) -> Any:
    match schema.get("type"):
        case "object":
            fields = cast("dict[str, Json]", schema.get("properties", {}))
            required = schema.get("required", [])
            return {
                name: example_of(field, shapes)
                for name, field in fields.items()
                if name in required or "examples" in field or "const" in field
            }
        case "array":
            return [example_of(schema["items"], shapes)] if schema.get("items") else []
        case "string":
            return {"date-time": "2026-11-23T08:00:00Z"}.get(schema.get("format", ""), "text")
        case "integer" | "number":
            return max(schema.get("minimum", 1), 1)
        case "boolean":
            return False
        case _:
            return None
