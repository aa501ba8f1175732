"""References between steps, the order they imply, and what is refused; pure, without a platform."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from model_training.contracts.pipeline_graph import (
    PipelineFault,
    lookup_in,
    plan,
    references,
    substitute,
    texts,
)
from model_training.contracts.pipelines import EXAMPLE, RESULT_FIELDS, PipelineCreate

NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,8}", fullmatch=True)


def evaluate(name: str, model: str = "gemma-3-270m", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "evaluate",
        "body": {"model": model, "suites": [{"name": "humaneval"}]},
        **more,
    }


def train(name: str, file: str = "file_1", **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": "train", "body": {"model": "gemma-3-270m", "training_file": file}, **more}


def pipeline(*steps: dict[str, Any], **more: Any) -> PipelineCreate:
    return PipelineCreate.model_validate({"name": "test", "steps": list(steps), **more})


def test_what_a_body_refers_to_is_what_its_step_waits_for() -> None:
    needs = plan(PipelineCreate.model_validate(EXAMPLE))
    assert needs == {
        "index": [],
        "train": [],
        "evaluate": ["train"],
        "compare": ["index", "train", "evaluate"],
    }


def test_an_index_searched_by_its_name_is_waited_for() -> None:
    index = {"name": "build", "kind": "index", "body": {"name": "docs", "files": ["file_1"]}}
    needs = plan(
        pipeline(evaluate("ask", "rag:docs@gemma-3-270m"), evaluate("other", "rag:old@gemma"), index)
    )
    assert needs == {"other": [], "build": [], "ask": ["build"]}
    assert list(needs).index("build") < list(needs).index("ask")


def test_explicit_dependencies_are_added() -> None:
    assert plan(pipeline(train("a"), evaluate("b", depends_on=["a"])))["b"] == ["a"]


@pytest.mark.parametrize(
    ("steps", "param", "says"),
    [
        ([train("a"), train("a")], "steps.a.name", "Two steps are named 'a'"),
        ([evaluate("a", depends_on=["b"])], "steps.a.depends_on", "no step named 'b'"),
        ([evaluate("a", depends_on=["a"])], "steps.a.depends_on", "a needs a"),
        ([evaluate("a", "{{ steps.b.id }}")], "steps.a.body.model", "no step named 'b'"),
        ([evaluate("a", "{{ steps.a.id }}")], "steps.a.depends_on", "a needs a"),
        ([train("b"), evaluate("a", "{{ steps.b.model }}")], "steps.a.body.model", "has no result 'model'"),
        ([train("b"), evaluate("a", "{{ steps.b }}")], "steps.a.body.model", "is not a reference"),
        ([evaluate("a", "{{ steps }}")], "steps.a.body.model", "is not a reference"),
        ([evaluate("a", "{{ files.x.y }}")], "steps.a.body.model", "is not a reference"),
        ([train("a", "{{ files.x }}")], "steps.a.body.training_file", "no file named 'x'"),
        (
            [evaluate("a", depends_on=["b"]), evaluate("b", "{{ steps.a.model }}")],
            "depends_on",
            "wait for each other",
        ),
    ],
)
def test_a_pipeline_that_cannot_run_says_which_field_of_which_step(
    steps: list[dict[str, Any]], param: str, says: str
) -> None:
    with pytest.raises(PipelineFault) as refusal:
        plan(pipeline(*steps))
    assert refusal.value.param.endswith(param)
    assert says in refusal.value.message


@pytest.mark.parametrize(
    "change",
    [
        {"steps": []},
        {"steps": [train("a")] * 33},
        {"steps": [train("A")]},
        {"steps": [train("a" * 65)]},
        {"steps": [{**train("a"), "kind": "pipeline"}]},
        {"steps": [{**train("a"), "surprise": 1}]},
        {"steps": [{**train("a"), "body": {"model": "m"}}]},
        {"name": ""},
        {"reuse": "maybe"},
        {"files": {"x y": "file_1"}},
    ],
)
def test_the_shape_is_checked(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PipelineCreate.model_validate({"name": "test", "steps": [train("a")], **change})


def test_braces_that_are_no_reference_are_left_alone() -> None:
    text = "What does {{ user.name }} do in Jinja? And {{ stepsize }}, {{filesystem.x}}?"
    assert list(references(text, "x")) == []
    assert substitute(text, lookup_in({}, {})) == text


def test_a_body_that_is_nested_too_deeply_is_refused() -> None:
    deep: Any = "x"
    for _ in range(50):
        deep = {"a": deep}
    with pytest.raises(PipelineFault, match="levels deep"):
        list(texts(deep, "steps.a.body"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_characters="{}"), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_a_value_without_references_stays_as_it_is(value: Any) -> None:
    assert substitute(value, lookup_in({}, {})) == value


@given(
    st.dictionaries(NAMES, st.text(min_size=1, max_size=10), min_size=1),
    st.sampled_from(
        ["{{ files.%s }}", "{{files.%s}}", "rag:{{  files.%s}}@x", "a{{ files.%s }}b{{ files.%s }}"]
    ),
)
def test_every_reference_is_replaced_once_by_what_it_names(files: dict[str, str], form: str) -> None:
    # What is put in is never read again, even where it looks like a reference.
    files = {name: value + "{{ files.x }}" for name, value in files.items()}
    body = {name: form.replace("%s", name) for name in files}
    resolved = substitute(body, lookup_in(files, {}))
    for name, text in resolved.items():
        head, *rest = (
            form.replace("{{  ", "{{ ")
            .replace("{{files", "{{ files")
            .replace("%s}}", "%s }}")
            .split("{{ files.%s }}")
        )
        assert text == head + "".join(files[name] + tail for tail in rest)


@given(st.data())
def test_the_order_holds_for_any_graph_and_a_cycle_is_always_found(data: st.DataObject) -> None:
    names = data.draw(st.lists(NAMES, min_size=1, max_size=8, unique=True))
    edges = data.draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names)), max_size=12))
    steps = [evaluate(name, depends_on=[needed for one, needed in edges if one == name]) for name in names]
    reachable = {name: {needed for one, needed in edges if one == name} for name in names}
    for middle in names:
        for name in names:
            if middle in reachable[name]:
                reachable[name] |= reachable[middle]
    cyclic = any(name in reachable[name] for name in names)
    try:
        order = list(plan(pipeline(*steps)))
    except PipelineFault as fault:
        assert cyclic
        chain = fault.message.removeprefix("Steps wait for each other: ").rstrip(".").split(" needs ")
        assert chain[0] == chain[-1]
        assert all((a, b) in edges for a, b in pairwise(chain))
    else:
        assert not cyclic
        assert sorted(order) == sorted(names)
        assert all(order.index(needed) < order.index(one) for one, needed in edges)


def test_the_order_of_independent_steps_is_that_of_the_request() -> None:
    assert list(plan(pipeline(*(evaluate(name) for name in "zebra")))) == list("zebra")


def test_places_of_texts_can_be_found_again() -> None:
    places = dict(texts(json.loads(json.dumps(EXAMPLE["steps"][3]["body"])), "body"))
    assert places["body.arms.1.model"] == "{{ steps.train.fine_tuned_model }}"


def test_every_kind_names_its_job() -> None:
    assert all("id" in fields for fields in RESULT_FIELDS.values())
