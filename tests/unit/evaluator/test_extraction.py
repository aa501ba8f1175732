"""From what models write to what is graded."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.evaluator.extraction import extract_expression, extract_source, extract_text, fenced_blocks

WANTED = "list(chunked([1, 2], 1))"


@pytest.mark.parametrize(
    "output",
    [
        WANTED,
        f"  {WANTED}\n\nQuestion: what else?\nAnswer: nothing",
        f"\n\n{WANTED}",
        f"Answer: {WANTED}",
        f"**Answer:** {WANTED}",
        f"answer:\n{WANTED}",
        f"`{WANTED}`",
        f"Answer: `{WANTED}`",
        f">>> {WANTED}\n[[1], [2]]",
        f"```python\n{WANTED}\n```",
        f"```\n{WANTED}\n```",
        f"~~~py\n{WANTED}\n~~~",
        f"```python\n>>> {WANTED}\n```",
        f"Here you are:\n\n```python\n{WANTED}\n```\nThis splits the list.",
        f"```python\n{WANTED}",
        f"```python\n# split it\n{WANTED}  \n```",
        f"```python\nnope(\n```\nor better\n```python\n{WANTED}\n```",
        f"```python\nwrong(1)\n```\nNo, this is right:\n```python\n{WANTED}\n```",
        f"result = {WANTED}",
        f"print({WANTED})",
        f"```python\nx = {WANTED}\n```",
        "```python\nlist(\n    chunked([1, 2], 1)\n)\n```",
        f"Use `{WANTED}` for that.",
        f"{WANTED}\n{WANTED}\n{WANTED}",
        f"    {WANTED}",
        f"```python\n    {WANTED}\n```",
        f"{WANTED}\r\nmore",
    ],
)
def test_expression_is_found(output: str) -> None:
    found = extract_expression(output)
    assert found.tree is not None, found.fault
    assert "".join(found.text.split()) == WANTED.replace(" ", "")


@pytest.mark.parametrize(
    "output",
    [
        "",
        "   \n\n",
        "You can use the chunked function for that.",
        "list(chunked([1, 2], 1)",
        "```python\n```",
        "```",
        "def f():\n    return 1",
        "import more_itertools",
        "for x in y: pass",
        "((((" * 2000,
        "-" * 3000 + "1",
        "x" * 10_000,
        "a\x00b",
        "# only a comment",
        "return 5",
        "yield 5",
    ],
)
def test_no_expression(output: str) -> None:
    found = extract_expression(output)
    assert found.tree is None
    assert found.fault


def test_own_imports_are_kept() -> None:
    found = extract_expression(f"```python\nfrom more_itertools import chunked\n\n{WANTED}\n```")
    assert found.imports == ("from more_itertools import chunked",)
    assert found.extracted == f"from more_itertools import chunked\n{WANTED}"


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=300) | st.text(alphabet="`~\n>. ()[]'\"=:#abx1", max_size=300))
def test_nothing_that_a_model_writes_breaks_extraction(output: str) -> None:
    extract_expression(output)
    extract_text(output)
    extract_source(output, "def f(x):\n", "f")


PROMPT = 'from typing import List\n\n\ndef total(xs: List[int]) -> int:\n    """ Sum. """\n'


def run(output: str, prompt: str = PROMPT) -> object:
    source = extract_source(output, prompt, "total")
    assert not source.fault, source.fault
    scope: dict[str, object] = {}
    exec(source.text, scope)
    return scope["total"]([1, 2, 3])  # type: ignore[operator]


@pytest.mark.parametrize(
    "output",
    [
        "    return sum(xs)\n",
        "return sum(xs)\n",
        "    s = 0\n    for x in xs:\n        s += x\n\n    return s\n\nprint(total([1]))\nassert False\n",
        "s = 0\n    for x in xs:\n        s += x\n    return s",
        "```python\ndef total(xs):\n    return sum(xs)\n```",
        "Sure!\n\n```python\nfrom typing import List\n\ndef total(xs: List[int]) -> int:\n    return sum(xs)\n```\nDone.",
        "```python\ndef total(xs):\n    return 0\n```\nSorry, better:\n```python\ndef total(xs):\n    return sum(xs)\n```",
        "```python\ndef total(xs):\n    return sum(xs)\n```\nExample:\n```python\nprint(total([1]))\n```",
        "```python\nfrom functools import lru_cache\n\n@lru_cache\ndef add(a, b):\n    return a + b\n\n"
        "def total(xs):\n    s = 0\n    for x in xs:\n        s = add(s, x)\n    return s\n```",
        "    return add(xs)\n\ndef add(xs):\n    return sum(xs)\n\nclass Unfinished(",
        "def total(xs):\n    return sum(xs)\n\nThis function sums the list.",
        "Here is the function:\n\ndef total(xs):\n    return sum(xs)\n",
        "```python\n    return sum(xs)\n```",
        "```python\ndef total(xs):\n    return sum(xs)\n\ndef test_total(\n```",
        "    return sum(xs)\n```\nThat is all.",
        "\treturn sum(xs)\n",
        "    return sum(xs)\r\n",
    ],
)
def test_function_is_found(output: str) -> None:
    assert run(output) == 6


@pytest.mark.parametrize(
    "output", ["    return (\n", "```python\ndef total(xs:\n```", "I do not know.", "\x00"]
)
def test_broken_function_is_said(output: str) -> None:
    assert extract_source(output, PROMPT, "total").fault


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        ("Answer: chunked", "chunked"),
        ("  chunked\n\nQuestion: another?\nAnswer: no", "chunked"),
        ("`chunked`", "chunked"),
        ("It splits `x` and `y`", "It splits `x` and `y`"),
        ("", ""),
    ],
)
def test_text(output: str, wanted: str) -> None:
    assert extract_text(output) == wanted


def test_unclosed_fence_runs_to_the_end() -> None:
    assert fenced_blocks("a\n```\nb\nc") == ["b\nc"]


@pytest.mark.parametrize(
    "shape", ["    x = {0}\n", "def f{0}(x):\n    return x\n", "text {0}\n", "```\n{0}\n```\n", "`{0}` "]
)
def test_time_is_linear(shape: str) -> None:
    def seconds(lines: int) -> float:
        output = "".join(shape.format(n) for n in range(lines))
        started = time.process_time()
        extract_source(output, PROMPT, "total")
        extract_expression(output)
        return time.process_time() - started

    seconds(100)
    assert seconds(4000) < 20  # a cubic one would need hours, a quadratic one minutes


def test_a_statement_before_the_function_is_no_prose() -> None:
    source = extract_source("import os\nos.getcwd()\ndef solve(n): return n", "", "solve")
    assert source.fault == ""
    assert "os.getcwd()" in source.text
