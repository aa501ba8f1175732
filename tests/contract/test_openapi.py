"""The description of the API is whole: every operation explains itself, shows an example and names its errors."""

from __future__ import annotations

from typing import Any

import jsonschema_rs

from services.gateway.api.openapi import METHODS, operations

CREATES = {
    "/v1/files",
    "/v1/fine_tuning/jobs",
    "/v1/indexes",
    "/v1/evaluations",
    "/v1/comparisons",
    "/v1/pipelines",
    "/v1/sweeps",
    "/v1/models/import",
    "/v1/api_keys",
    "/v1/projects",
}


def test_every_operation_has_words_and_valid_examples(document: dict[str, Any]) -> None:
    shapes = {"components": document["components"]}
    for operation in operations(document):
        name = operation["operationId"]
        assert operation["summary"], name
        assert operation["description"], name
        contents = [operation.get("requestBody", {}).get("content", {})]
        contents.append(operation["responses"]["200"]["content"])
        for kind, media in ((kind, media) for content in contents for kind, media in content.items()):
            example = media.get("example") or next(e["value"] for e in media.get("examples", {}).values())
            jsonschema_rs.validator_for({**media["schema"], **shapes}).validate(example)
            assert example is not None, f"{name} {kind}"


def test_every_operation_names_its_errors_as_problems(document: dict[str, Any]) -> None:
    for operation in operations(document):
        answers = operation["responses"]
        assert {"400", "401", "403", "422", "429", "500", "503"} <= answers.keys(), operation["operationId"]
        for status, answer in answers.items():
            if status >= "400":
                assert list(answer["content"]) == ["application/problem+json"]


def test_every_create_takes_an_idempotency_key_and_every_change_a_version(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for method in (m for m in METHODS if m in methods):
            names = {parameter["name"] for parameter in methods[method].get("parameters", [])}
            changes = method == "patch" or path.rpartition("/")[2] in ("restore", "promote", "rollback")
            assert ("If-Match" in names) == changes, path
            if method == "post" and path in CREATES:
                assert "Idempotency-Key" in names, path


def test_every_list_is_cut_by_cursor(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        reference = methods.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        schema = reference.get("application/json", {}).get("schema", {}).get("$ref", "")
        if "Page_" in schema and path != "/v1/config":  # four sections
            names = {parameter["name"] for parameter in methods["get"]["parameters"]}
            assert {"after", "limit"} <= names, path
