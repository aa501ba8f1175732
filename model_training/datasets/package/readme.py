"""Examples in a README and in code blocks of docstrings: Markdown fences, reStructuredText blocks, lines with `>>>`."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator

from model_training.contracts.indexes import Source
from model_training.datasets.package.doctests import doc_examples, docstrings, unwrap
from model_training.datasets.package.examples import Mined, mine_statements, module_scope
from model_training.datasets.package.records import Package
from model_training.datasets.package.scope import Scope

FENCE = re.compile(r"^[ \t]*```[ \t]*\{?(\w*)[^\n]*\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(
    r"^([ \t]*)(?:\.\. (?:code|code-block|sourcecode)::[^\n]*|[^\n]*::)[ \t]*\n((?:\1[ \t]+[^\n]*\n|[ \t]*\n)+)",
    re.MULTILINE,
)


def mine_readme(package: Package) -> Mined:
    """Examples of the README; blocks share their names, as a reader who types them in has them."""
    mined = Mined("readme")
    source = Source(package=package.name, version=package.version, path="README", kind="readme")
    scope = _fresh_scope(package)
    for example in doc_examples(package.readme):
        if example.tree is not None and example.want:
            at = source.model_copy(update={"line_start": example.start + 1, "line_end": example.end})
            mined.offer(scope, *unwrap(example.tree, ("repr", example.want)), at)
        elif example.statement is not None:
            scope.run(example.statement)
    scope = _fresh_scope(package)
    for line, block in code_blocks(package.readme):
        mine_statements(mined, scope, parse_block(block), source, line)
    for doc, module, place in docstrings(package):
        for _, block in code_blocks(doc):
            at = place.model_copy(update={"kind": "readme"})
            mine_statements(mined, module_scope(package, module), parse_block(block), at, None)
    return mined


def _fresh_scope(package: Package) -> Scope:
    """What a reader has who imported the package's front door."""
    scope = Scope(package)
    for name in package.imports:
        scope.modules[name] = name
        if front := package.modules.get(name):
            scope.functions.update(front.names)
    return scope


def code_blocks(text: str) -> Iterator[tuple[int, str]]:
    """Blocks of Python without `>>>` and the number of lines above each."""
    for match in FENCE.finditer(text):
        if match.group(1).lower() in {"", "py", "python", "python3"}:
            yield text.count("\n", 0, match.start(2)), textwrap.dedent(match.group(2))
    for match in BLOCK.finditer(text + "\n"):
        yield text.count("\n", 0, match.start(2)), textwrap.dedent(match.group(2))


def parse_block(block: str) -> list[ast.stmt]:
    """The statements of a block with claims in comments made explicit; [] if it is no Python."""
    if ">>>" in block:
        return []
    lines = [_with_claim(line) for line in block.splitlines()]
    for source in ("\n".join(lines), block):
        try:
            return _pair_values(ast.parse(source).body)
        except (SyntaxError, ValueError):
            continue
    return []


def _with_claim(line: str) -> str:
    """`f(1)  # 2` or `f(1)  # => 2` as `f(1) == 2`, where what follows is a literal and what precedes an expression."""
    code, mark, comment = line.partition("  #")
    comment = re.sub(r"^\s*(?:=>|->|==>|returns|gives)?\s*", "", comment).strip()
    if not mark or not comment or re.match(r"\s*(\w+\s*=[^=]|from |import |@|return |assert )", code):
        return line
    try:
        ast.parse(code.strip(), mode="eval")
        ast.literal_eval(comment)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return line
    return f"{code.rstrip()} == {comment}"


def _pair_values(body: list[ast.stmt]) -> list[ast.stmt]:
    """An expression that a literal follows on a line of its own claims that value."""
    result: list[ast.stmt] = []
    for statement in body:
        before = result[-1] if result else None
        if (
            isinstance(statement, ast.Expr)
            and isinstance(before, ast.Expr)
            and isinstance(before.value, ast.Call)
        ):
            try:
                ast.literal_eval(statement.value)
            except (ValueError, TypeError):
                pass
            else:
                claim = ast.Compare(left=before.value, ops=[ast.Eq()], comparators=[statement.value])
                result[-1] = ast.copy_location(ast.Expr(ast.copy_location(claim, before)), before)
                continue
        result.append(statement)
    return result
