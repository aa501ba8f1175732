"""Passages for retrieval: one a function or class, methods and README sections of their own, held-out examples taken out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from model_training.contracts.indexes import Chunk, Source
from model_training.datasets.package.calls import keys_in_text
from model_training.datasets.package.docstrings import Dropped, plain, without_held_out
from model_training.datasets.package.examples import module_scope
from model_training.datasets.package.records import Example, Function, Method, signature_text
from model_training.datasets.package.scope import Scope
from model_training.datasets.package.selection import Chosen, Selection

MAX_TOKENS = 180  # of a chunk, estimated
MORE_EXAMPLES = 2  # varied examples that a page gets in place of what was taken out


@dataclass
class Passages:
    """The chunks of a package and what was taken out of its documentation."""

    chunks: list[Chunk] = field(default_factory=list[Chunk])
    dropped: list[Dropped] = field(default_factory=list[Dropped])


def build_chunks(selection: Selection) -> Passages:
    """All passages of a package, in the order of names; README sections last."""
    passages = Passages()
    scopes: dict[str, Scope] = {}
    chosen_by_name = {one.function.qualified: one for one in selection.functions}
    for name, function in sorted(selection.package.functions.items()):
        home = function.origin if function.origin in selection.package.modules else function.module
        if home not in scopes:
            scopes[home] = module_scope(selection.package, home)
        _add_function(passages, function, chosen_by_name.get(name), selection, scopes[home])
    _add_readme(passages, selection)
    return passages


def _add_function(
    passages: Passages, function: Function, chosen: Chosen | None, selection: Selection, scope: Scope
) -> None:
    head = f"{function.module}.{function.signature}"
    doc, dropped = without_held_out(function.doc or "", scope.copy(), selection.held_keys, function.qualified)
    passages.dropped += dropped
    parts = [_readable(doc)]
    if chosen and (examples := _more_examples(chosen, doc)):
        parts.append("\n".join(["More examples:", *examples]))
    body = "\n\n".join(part for part in parts if part)
    if body or function.kind == "function":
        _add(passages, function.qualified, head, body, [function.qualified], function.source)
    _add_methods(passages, function, selection, scope)


def _add_methods(passages: Passages, function: Function, selection: Selection, scope: Scope) -> None:
    """The methods of a class: long ones in passages of their own, of the others as many to a passage as fit."""
    short: list[str] = []
    for method in function.methods:
        title = f"{function.qualified}.{method.name}"
        doc, dropped = without_held_out(method.doc, scope.copy(), selection.held_keys, title)
        passages.dropped += dropped
        head, body = _method_head(function, method), _readable(doc)
        if tokens(head) + tokens(body) > MAX_TOKENS // 2:
            _add(passages, title, f"{function.module}.{head}", body, [function.qualified], method.source)
        else:
            short.append(f"{head}: {body}".rstrip(": "))
    groups: list[list[str]] = []
    for text in short:
        if groups and tokens("".join(groups[-1])) + tokens(text) <= MAX_TOKENS:
            groups[-1].append(text)
        else:
            groups.append([text])
    for number, group in enumerate(groups, start=1):
        text = "\n\n".join([f"Methods of {function.qualified}", *group])
        title = f"{function.qualified} methods" + (f" {number}" if len(groups) > 1 else "")
        passages.chunks.append(
            Chunk(id=title, title=title, text=text, functions=[function.qualified], source=function.source)
        )


def _method_head(function: Function, method: Method) -> str:
    if method.is_property:
        return f"{function.name}.{method.name}"
    parameters = tuple(one for one in method.parameters or () if one.name not in {"self", "cls"})
    return f"{function.name}.{method.name}({signature_text(parameters)})"


def _more_examples(chosen: Chosen, doc: str) -> list[str]:
    """Varied examples where something is held out, so that the page still shows the call."""
    if not chosen.held:
        return []
    present = keys_in_text(doc)
    varied = [one for one in chosen.shown if one.kind == "varied_example" and one.key not in present]
    return [line for one in varied[:MORE_EXAMPLES] for line in _as_doctest(one)]


def _as_doctest(example: Example) -> tuple[str, str]:
    return f">>> {example.expression}", example.value


def _readable(doc: str) -> str:
    """A docstring without markup; examples, lists and indented parts keep their lines."""
    paragraphs: list[str] = []
    for paragraph in re.split(r"\n[ \t]*\n", doc):
        lines = paragraph.splitlines()
        if ">>>" in paragraph:
            paragraphs.append("\n".join(re.sub(r"\s*#\s*doctest:.*", "", line.strip()) for line in lines))
        elif paragraph.lstrip().startswith(".. "):
            continue
        elif any(re.match(r"\s+\S|[-*:|+=]", line) for line in lines):
            paragraphs.append(
                "\n".join(line[: len(line) - len(line.lstrip())] + plain(line) for line in lines)
            )
        else:
            paragraphs.append(re.sub(r"::$", ":", plain(paragraph)))
    return "\n\n".join(one for one in paragraphs if one.strip())


def _add(passages: Passages, title: str, head: str, body: str, functions: list[str], source: Source) -> None:
    """One chunk, or several where the text is long; each starts with the signature."""
    for number, text in enumerate(_parts(head, body), start=1):
        suffix = "" if number == 1 else f"#{number}"
        passages.chunks.append(
            Chunk(id=f"{title}{suffix}"[:200], title=title, text=text, functions=functions, source=source)
        )


def _parts(head: str, body: str) -> Iterator[str]:
    part: list[str] = []
    for paragraph in body.split("\n\n") if body else [""]:
        for piece in _short(paragraph):
            if part and tokens(head) + sum(tokens(one) for one in part) + tokens(piece) > MAX_TOKENS:
                yield "\n\n".join([head, *part])
                part = []
            part.append(piece)
    yield "\n\n".join(one for one in [head, *part] if one.strip())


def _short(paragraph: str) -> Iterator[str]:
    """A paragraph in pieces of at most the limit, cut between lines or sentences."""
    if tokens(paragraph) <= MAX_TOKENS:
        yield paragraph
        return
    piece = ""
    for unit in re.findall(r".+?(?:\n|(?<=[.!?])\s+|$)", paragraph):
        if piece and tokens(piece) + tokens(unit) > MAX_TOKENS:
            yield piece.strip()
            piece = ""
        piece += unit
    if piece.strip():
        yield piece.strip()[:4000]


def tokens(text: str) -> int:
    """About how many tokens a model sees: words in pieces of six letters, and every mark."""
    return sum(-(-len(word) // 6) for word in re.findall(r"\w+", text)) + len(re.findall(r"[^\w\s]", text))


def _add_readme(passages: Passages, selection: Selection) -> None:
    package = selection.package
    source = Source(package=package.name, version=package.version, path="README", kind="readme")
    for number, (title, text) in enumerate(readme_sections(package.readme), start=1):
        kept: list[str] = []
        for paragraph in text.split("\n\n"):
            if keys_in_text(paragraph) & selection.held_keys:
                passages.dropped.append(Dropped(f"README, {title}", paragraph.strip()))
            else:
                kept.append(paragraph)
        body = "\n\n".join(kept).strip()
        if len(body.split()) >= 8:
            name = f"{package.name} README: {title}"
            for part, piece in enumerate(_parts(name, body), start=1):
                identity = f"{package.name}-readme-{number}-{part}"
                passages.chunks.append(Chunk(id=identity, title=name[:500], text=piece, source=source))


def readme_sections(text: str) -> Iterator[tuple[str, str]]:
    """Sections of a Markdown or reStructuredText README: title and text without badges, tables and raw HTML."""
    title, lines = "Introduction", list[str]()
    raw = text.splitlines()
    for index, line in enumerate(raw):
        under = raw[index + 1] if index + 1 < len(raw) else ""
        if line.startswith("#") and not _inside_code(lines):
            yield title, _clean_readme(lines)
            title, lines = line.lstrip("# ").strip() or "Section", []
        elif (
            line.strip()
            and re.fullmatch(r"([=\-~^\"'`*+#])\1{2,}", under.strip())
            and len(under.strip()) >= 3
        ):
            yield title, _clean_readme(lines)
            title, lines = line.strip(), []
        elif not re.fullmatch(r"([=\-~^\"'`*+#])\1{2,}", line.strip()):
            lines.append(line)
    yield title, _clean_readme(lines)


def _inside_code(lines: list[str]) -> bool:
    return sum(1 for line in lines if line.strip().startswith("```")) % 2 == 1


def _clean_readme(lines: list[str]) -> str:
    kept = [
        line
        for line in lines
        if not re.match(r"\s*(\.\. |:\w+:|\+[-=+]+\+|\||<|\[!\[|!\[|\[[^\]]+\]:)", line)
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()
