"""Plain words from docstrings: the summary, text without markup, and text without the examples that are held out."""

from __future__ import annotations

import re
from dataclasses import dataclass

from model_training.contracts.indexes import Source
from model_training.datasets.package.calls import keys_in_text
from model_training.datasets.package.doctests import DocExample, doc_examples, unwrap
from model_training.datasets.package.examples import make_candidate
from model_training.datasets.package.records import Function
from model_training.datasets.package.scope import Scope, Unresolved
from model_training.datasets.package.words import INFLECTED, VERBS

MIN_WORDS, MAX_WORDS = 4, 28


@dataclass(frozen=True)
class Dropped:
    """A piece of documentation that was taken out because it gives away a held-out example."""

    where: str
    text: str


def summary(doc: str | None) -> str | None:
    """The first sentence of a docstring without markup; None if there is none, or its length is not fit to ask about."""
    for paragraph in re.split(r"\n\s*\n", (doc or "").strip()):
        first = paragraph.split(">>>")[0].strip()
        if not first or first.startswith(
            ("..", ":param", "Parameters", "Args:", "Example", "|", "-", "=", "*")
        ):
            continue
        if re.match(r"[\w.]+\(.*\)\s*(->.*)?$", first):
            continue
        if first.startswith((":", "`")):  # the subject is a name, and the name would be the answer
            return None
        sentence = _first_sentence(plain(first)).rstrip("*_` ")
        if sentence.lower().startswith(
            ("see ", "alias ", "deprecated", "this is an alias", "same as", "equivalent to", "like ")
        ):
            return None
        return sentence if MIN_WORDS <= len(sentence.split()) <= MAX_WORDS else None
    return None


def is_wish(text: str) -> bool:
    """Whether a summary starts with a verb, so that "I want to" can stand before it."""
    head = text.split(" ", 1)[0].lower()
    return head in INFLECTED or head in VERBS


def need(text: str) -> str:
    """A summary as something that a person wants: `Returns the first item` becomes `return the first item`."""
    head, _, rest = text.partition(" ")
    head = INFLECTED.get(head.lower(), head)
    if (len(head) > 1 and head[1:].islower()) or len(head) == 1:
        head = head[0].lower() + head[1:]
    return f"{head} {rest}"


def plain(text: str) -> str:
    """Text without reStructuredText and Markdown marks, on one line."""
    text = re.sub(r":[\w:+-]+:`(?:~?[\w.]*\.)?([^`<]*?)(?:\s*<[^>]*>)?`", r"\1", text)
    text = re.sub(r"`([^`<]+?)\s*<[^>]+>`_*", r"\1", text)
    text = re.sub(r"``([^`]+)``|`([^`]+)`_*", lambda match: match.group(1) or match.group(2), text)
    for mark in (r"\*\*", r"\*"):
        text = re.sub(rf"(?<![\w*]){mark}(\S(?:[^*\n]*[^\s*])?){mark}(?![\w*])", r"\1", text)
    return " ".join(text.split())


def _first_sentence(text: str) -> str:
    match = re.search(r"(?<!e\.g)(?<!i\.e)(?<!etc)(?<!vs)[.:;!?](?=\s|$)", text)
    return (text[: match.start()] if match else text).strip().rstrip(".:;,")


def without_held_out(doc: str, scope: Scope, held: frozenset[str], where: str) -> tuple[str, list[Dropped]]:
    """The docstring without the examples whose call is held out, and without preparations that only these needed.

    A held-out call that stands in prose or in a plain code block takes its paragraph with it.
    """
    lines = doc.splitlines()
    examples = doc_examples(doc)
    gone = _held_examples(examples, scope, held)
    gone |= _orphans(examples, gone) if gone else set()
    dropped = [Dropped(where, examples[index].source.strip()) for index in sorted(gone)]
    cut = {line for index in gone for line in range(examples[index].start, examples[index].end)}
    text = "\n".join(line for number, line in enumerate(lines) if number not in cut)
    paragraphs: list[str] = []
    for paragraph in re.split(r"\n[ \t]*\n", text):
        if keys_in_text(paragraph) & held:
            dropped.append(Dropped(where, paragraph.strip()))
        elif paragraph.strip():
            paragraphs.append(paragraph.rstrip())
    return "\n\n".join(paragraphs).strip("\n"), dropped


def _held_examples(examples: list[DocExample], scope: Scope, held: frozenset[str]) -> set[int]:
    gone: set[int] = set()
    for index, example in enumerate(examples):
        if keys_in_text(example.source) & held:
            gone.add(index)
        if example.tree is not None and example.want:
            try:
                tree, wanted = unwrap(example.tree, ("repr", example.want))
                if make_candidate(scope, tree, wanted, Source()).key in held:
                    gone.add(index)
            except Unresolved:
                continue
        elif example.statement is not None:
            scope.run(example.statement)
    return gone


def _orphans(examples: list[DocExample], gone: set[int]) -> set[int]:
    """Assignments that examples which go have read, and that none which stays reads."""
    orphans: set[int] = set()
    for index in sorted(set(range(len(examples))) - gone, reverse=True):
        match = re.match(r"(\w+)\s*=[^=]", examples[index].source)
        if not match or examples[index].want:
            continue
        readers = {
            i
            for i in range(index + 1, len(examples))
            if re.search(rf"\b{match.group(1)}\b", examples[i].source)
        }
        if readers and readers <= gone | orphans:
            orphans.add(index)
    return orphans


def is_deprecated(function: Function) -> bool:
    """Whether the documentation says so."""
    return bool(re.search(r"\bdeprecated\b", (function.doc or "")[:400], re.IGNORECASE))
