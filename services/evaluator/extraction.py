"""From what a model wrote to the candidate that is graded: an expression, a function's source, or a line of text.

Fences first, the last fitting block before the earlier ones; whole modules are kept, decorators included. Every step
reads the text a fixed number of times, so long outputs cost no more than their length.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace

from services.evaluator import syntax

MAX_EXPRESSION = 4_000
"""Longest expression that is parsed, in characters; it bounds the parser's depth as well."""
MAX_SOURCE = 64_000
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
_LABEL = re.compile(
    r"^\s*(?:\*\*)?(?:answer|a|expression|code|output|result)(?:\*\*)?\s*:(?:\*\*)?\s*", re.IGNORECASE
)
_INLINE = re.compile(r"`([^`\n]+)`")
_TOP_LEVEL = re.compile(r"(?:def|class|async def|import|from|@)\b|@")


@dataclass(frozen=True)
class Expression:
    """The candidate of a call item: import lines of its own and one expression. `fault` says why there is none."""

    imports: tuple[str, ...] = ()
    text: str = ""
    tree: ast.Expression | None = None
    fault: str = ""

    @property
    def extracted(self) -> str | None:
        """What was read from the output, as text."""
        return "\n".join([*self.imports, self.text]) if self.text else None


@dataclass(frozen=True)
class Source:
    """The candidate of a unit-test item: a whole module. `fault` says why it does not compile."""

    text: str
    fault: str = ""


def fenced_blocks(output: str) -> list[str]:
    """The contents of the fenced blocks, in order; a block that is never closed runs to the end."""
    blocks: list[str] = []
    inside: list[str] | None = None
    for line in output.splitlines():
        if _FENCE.match(line):
            if inside is None:
                inside = []
            else:
                blocks.append("\n".join(inside))
                inside = None
        elif inside is not None:
            inside.append(line)
    if inside:
        blocks.append("\n".join(inside))
    return [block for block in blocks if block.strip()]


def _before_only_fence(output: str) -> str:
    """What stands before a single fence: the model may have closed a block that it did not open."""
    parts = _FENCE.split(output)
    return parts[0] if len(parts) == 2 else ""


def extract_expression(output: str) -> Expression:
    """One expression: of a fenced block the whole statement, of free text the first line that says anything."""
    last = Expression(fault="the answer is empty")
    first = _from_code(_clean(_before_only_fence(output).strip().partition("\n")[0]) or "#")
    if first.tree is not None and any(isinstance(node, ast.Call) for node in ast.walk(first.tree)):
        return first
    for block in reversed(fenced_blocks(output)):
        last = _from_code(block)
        if last.tree is not None:
            return last
    free = output if not _FENCE.search(output) else ""
    for line in free.splitlines():
        cleaned = _clean(line)
        if cleaned:
            return _from_code(cleaned)
    return last


def _clean(line: str) -> str:
    line = _LABEL.sub("", line).strip()
    line = line.removeprefix(">>> ").strip()
    if len(line) > 2 and line[0] == line[-1] == "`":
        line = line.strip("`").strip()
    return "" if line.startswith("#") else line


def _from_code(code: str) -> Expression:
    lines = [line.removeprefix(">>> ").removeprefix("... ") for line in textwrap.dedent(code).splitlines()]
    lines = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    imports: list[str] = []
    while lines and lines[0].startswith(("import ", "from ")) and isinstance(_parse(lines[0]), ast.Module):
        imports.append(lines.pop(0).strip())
    if not lines:
        return Expression(tuple(imports), fault="the answer holds no expression")
    inline = [text for text in _INLINE.findall(lines[0]) if text.strip()]
    found = [_statement(text) for text in dict.fromkeys(["\n".join(lines), lines[0], *inline[:3]])]
    best = next((one for one in found if one.tree is not None), found[min(1, len(found) - 1)])
    return replace(best, imports=tuple(imports))


def _parse(text: str) -> ast.Module | str:
    """The parsed text, or what is wrong with it."""
    if len(text) > MAX_EXPRESSION:
        return f"the answer is longer than {MAX_EXPRESSION:,} characters"
    try:
        return syntax.parse(text.strip())
    except SyntaxError as error:
        return f"the answer is no Python expression: {error.msg}"
    except (ValueError, RecursionError, MemoryError):
        return "the answer is no Python expression: it is nested too deep or holds a null byte"


def _statement(text: str) -> Expression:
    """The expression that a statement is, assigns or prints."""
    text = text.strip()
    module = _parse(text)
    if isinstance(module, str):
        return Expression(text=text, fault=module)
    first = module.body[0] if len(module.body) == 1 else None
    value = first.value if isinstance(first, (ast.Expr, ast.Assign)) else None
    if value is None or isinstance(value, (ast.Yield, ast.YieldFrom, ast.Await)):
        return Expression(text=text, fault="the answer is not one expression")
    inner = _printed(value)
    if isinstance(first, ast.Expr) and inner is value:
        return Expression(text=text, tree=ast.Expression(value))
    try:
        return Expression(text=ast.unparse(inner), tree=ast.Expression(inner))
    except RecursionError:
        return Expression(text=text, fault="the answer is no Python expression: it is nested too deep")


def _printed(value: ast.expr) -> ast.expr:
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "print":
        return value.args[0] if len(value.args) == 1 and not value.keywords else value
    return value


def extract_source(output: str, prompt: str, entry_point: str) -> Source:
    """The module that an output makes of `prompt`, which ends inside the function to complete.

    An output that defines the function replaces the stub; any other is taken as the function's body.
    """
    output = output[:MAX_SOURCE].replace("\r\n", "\n")
    blocks = fenced_blocks(output)
    defines = re.compile(rf"^(?:async\s+)?def\s+{re.escape(entry_point)}\b", re.MULTILINE)
    whole = [block for block in map(textwrap.dedent, reversed(blocks)) if defines.search(block)]
    if not whole and not blocks and defines.search(output):
        part = _code_part(output)
        # A statement at the margin before the function reads like prose: then the text is taken as it is.
        whole = [part if defines.search(part) else output]
    stub = prompt if _fault(prompt) is None else ""
    candidates = [f"{stub}\n\n{text}\n" for block in whole for text in (block, _up_to(block, defines))]
    if not whole:
        before = _before_only_fence(output)
        body = before if before.strip() and before.lstrip("\n")[0].isspace() else (blocks or [output])[-1]
        candidates = [prompt + text for text in _bodies(body)]
    for text in candidates:
        if _fault(text) is None:
            return Source(text)
    return Source(candidates[0], _fault(candidates[0]) or "")


def _fault(source: str) -> str | None:
    try:
        syntax.check(source)
    except SyntaxError as error:
        return f"the answer is no Python: {error.msg} (line {error.lineno})"
    except (ValueError, RecursionError, MemoryError):
        return "the answer is no Python: it is nested too deep or holds a null byte"
    return None


def _code_part(output: str) -> str:
    """Free text from the first line that begins code to the first line, at the margin, that is none."""
    lines = output.splitlines()
    start = next((n for n, line in enumerate(lines) if _TOP_LEVEL.match(line)), 0)
    return "\n".join(_until_prose(lines[start:]))


def _until_prose(lines: list[str]) -> Iterator[str]:
    for line in lines:
        is_at_margin = bool(line) and not line[0].isspace() and line[0] not in "#)]}\"'"
        if is_at_margin and not _TOP_LEVEL.match(line) and not re.match(r"[A-Za-z_]\w*\s*[:=]", line):
            return
        yield line


def _up_to(block: str, defines: re.Pattern[str]) -> str:
    """A module cut after the function: what follows may be a test, or may have been cut off in the middle."""
    lines = block.splitlines()
    start = next(n for n, line in enumerate(lines) if defines.match(line))
    end = start + 1
    while end < len(lines) and (not lines[end] or lines[end][0].isspace() or lines[end][0] in ")]}#"):
        end += 1
    return "\n".join(lines[:end])


def _bodies(output: str) -> list[str]:
    """Ways to read a completion, best first: with the helpers that follow it, without the last of them, the body alone, and
    the body with its lost indentation given back."""
    first, *rest = output.splitlines() or [""]
    lines = [first, *_until_prose(rest)]
    margins = [
        n for n, line in enumerate(lines) if n and line and not line[0].isspace() and line[0] not in ")]}#"
    ]
    body = "\n".join(lines[: margins[0]] if margins else lines)
    texts = ["\n".join(lines), "\n".join(lines[: margins[-1]]) if margins else body, body, "    " + body]
    return [f"{text}\n" for text in [*texts, textwrap.indent(textwrap.dedent(output), "    ")]]


def extract_text(output: str) -> str:
    """The answer to a question in words: without a label, fences or what a base model goes on to ask itself."""
    text = _LABEL.sub("", output.strip(), count=1)
    text = re.split(r"\n\s*(?:question|q)\s*:", text, maxsplit=1, flags=re.IGNORECASE)[0].strip()
    if len(text) > 2 and text[0] == text[-1] == "`" and "`" not in text[1:-1]:
        text = text[1:-1]
    return text.strip()
