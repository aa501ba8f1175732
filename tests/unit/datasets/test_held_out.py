"""The law of the held-out pair, on its own: what is taken out stands nowhere, and the leak check finds what is left."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_training.contracts.evaluations import CallCheck, EvaluationItem, TextCheck
from model_training.contracts.indexes import Chunk, Source
from model_training.datasets.leaks import find_leaks
from model_training.datasets.package.calls import keys_in_text, normalise
from model_training.datasets.package.docstrings import need, plain, summary, without_held_out
from model_training.datasets.package.records import Function, Module, Package
from model_training.datasets.package.scope import Scope
from model_training.datasets.package.variation import variations
from model_training.datasets.rows import TrainingRow

PACKAGE = Package(
    name="kit", distribution="kit", version="1", imports=("kit",), roots=(), readme="",
    functions={"kit.f": Function("kit", "kit.f", "kit", "f", "function", None, None, "kit", Source())},
    modules={"kit": Module("kit", None, {"f": "kit.f"}, star_safe=True)},
)  # fmt: skip


def scope() -> Scope:
    made = Scope(PACKAGE)
    made.functions["f"] = "kit.f"
    return made


arguments = st.lists(st.integers(0, 9), max_size=3)


@st.composite
def documented(draw):
    """A docstring with several examples in different spellings, and the calls in it."""
    calls, lines = [], ["Do something with numbers.", ""]
    for number, values in enumerate(draw(st.lists(arguments, min_size=1, max_size=6, unique_by=tuple))):
        key = f"f({values})"
        calls.append(key)
        spelling = draw(
            st.sampled_from(["plain", "list", "variable", "spaced", "module", "prose", "continued"])
        )
        match spelling:
            case "plain":
                lines += [f">>> f({values})", "1"]
            case "list":
                lines += [f">>> list(f({values}))", "[1]"]
            case "variable":
                lines += [f">>> data{number} = {values}", f">>> f(data{number})", "1"]
            case "spaced":
                lines += [f">>> f( {values} )", "1"]
            case "module":
                lines += [f">>> kit.f({values})", "1"]
            case "prose":
                lines += ["", f"Thus ``f({values})`` is 1.", ""]
            case _:
                lines += [">>> f(", f"...     {values})", "1"]
        lines.append("")
    return "\n".join(lines), calls


@settings(deadline=None, max_examples=60)
@given(documented(), st.data())
def test_what_is_held_out_stands_no_more(example, data):
    doc, calls = example
    held = frozenset(data.draw(st.lists(st.sampled_from(calls), unique=True)))
    own = scope()
    own.modules["kit"] = "kit"
    text, dropped = without_held_out(doc, own, held, "kit.f")
    left = keys_in_text(text)
    assert not left & held
    for call in set(calls) - held:
        values = call[2:-1]
        assert call in left or values in text, "an example that is not held out went with the others"
    assert bool(dropped) == bool(held)
    assert "Do something" in text


def item(answer: str, question: str = "Which call?") -> EvaluationItem:
    return EvaluationItem(
        id="i", suite="code_generation", form="write_call", question=question, answer=answer, group="kit.f",
        check=CallCheck(package="kit", expected="1"),
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "f([1, 2], size=3)",
        "x = list(f([1,2],size=3))",
        "see `kit.f([1, 2], size = 3)`",
        ">>> f([1, 2],\n...   size=3)",
        "a(f([1, 2], size=3))",
    ],
)
def test_the_leak_check_finds_a_call_in_any_spelling(text):
    chunk = Chunk(id="c", title="t", text=text)
    row = TrainingRow(id="r", question="Q", answer=text)
    assert {leak.where for leak in find_leaks([item("list(f([1, 2], size=3))")], [row], [chunk])} == {
        "chunk c",
        "training row r",
    }


@pytest.mark.parametrize("text", ["f([1, 2], size=4)", "f([1, 2])", "g([1, 2], size=3)", "f"])
def test_other_calls_are_no_leak(text):
    assert find_leaks([item("list(f([1, 2], size=3))")], [], [Chunk(id="c", title="t", text=text)]) == []


def test_the_same_question_and_nearly_the_same_text_are_found():
    question = (
        "What does the function do with a list of numbers when the size is three and nothing is left over?"
    )
    qa = EvaluationItem(
        id="q", suite="qa_accuracy", form="what_does", question=question, answer="It splits them.", group="kit.f",
        check=TextCheck(),
    )  # fmt: skip
    same = TrainingRow(id="a", question=question.upper(), answer="x")
    near = Chunk(id="b", title="t", text=f"Somebody asked: {question} It splits them.")
    assert [leak.kind for leak in find_leaks([qa], [same], [near])] == ["question", "near"]


@pytest.mark.parametrize(
    ("doc", "expected"),
    [
        ("Break *iterable* into lists of length *n*:\n\n>>> x", "Break iterable into lists of length n"),
        ("Return ``x`` from :func:`~a.b.get`. More text.", "Return x from get"),
        (
            "Returns the `first item <http://x.y>`_ of the list, e.g. one. Two",
            "Returns the first item of the list, e.g. one",
        ),
        ("", None),
        (None, None),
        ("Alias for something else in here.", None),
        ("Short.", None),
        ("f(x) -> y\n\nCount how many there are in all.", "Count how many there are in all"),
    ],
)
def test_summaries(doc, expected):
    assert summary(doc) == expected


def test_needs_are_in_base_form():
    assert need("Returns the first item") == "return the first item"
    assert need("Applies a function") == "apply a function"
    assert need("URL of a thing") == "URL of a thing"
    assert plain("**bold** and *thin*, 2 * 3 * 4") == "bold and thin, 2 * 3 * 4"


@given(st.integers(0, 50))
def test_variations_are_new_valid_and_the_same_each_time(seed):
    expression = "list(f([1, 2, 3], 'ABC', {'a': 1}, key=lambda x: x > 2, n=-1))"
    found = list(variations(expression, "f", seed, 5))
    assert found == list(variations(expression, "f", seed, 5))
    assert len(set(found)) == len(found) > 2
    assert expression not in found
    for text in found:
        assert "lambda x: x > 2" in text
        assert normalise(ast.parse(text, mode="eval").body)
