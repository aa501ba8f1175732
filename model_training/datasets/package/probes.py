"""Calls made up from signatures, for functions that nobody shows: to be run for their values.

A package without examples still has names, annotations and docstrings. A call with plausible literals that runs, gives the
same literal every time and says something is as good a task as one from a docstring; the report counts these apart.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from model_training.datasets.package.calls import call_key
from model_training.datasets.package.examples import Mined
from model_training.datasets.package.records import Candidate, Example, Function, Package, Parameter

PER_CALLABLE = 6
MAX_REQUIRED = 3
RISKY = re.compile(
    r"remove|delete|unlink|rmtree|kill|exit|quit|shutdown|serve|listen|connect|prompt|input|edit|launch|sleep|wait|get_event|send"
)
URLS = (
    "https://example.org:8080/stone/tulip?key=1#top",
    "http://river.example.com/maple",
    "/stone/tulip?key=1",
)
TEXTS = ("amber river", "Maple-Grove", "a, b, c", "42", "yes", URLS[0])
MANY = r"\b(?:list|List|Sequence|Iterable|Collection|tuple|Tuple|Iterator)\b"
POOLS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (MANY + r"\[str\b", ("['amber', 'basin', 'cedar']", "['river', 'amber', 'river']")),
    (MANY + r"\[(?:int|float)\b", ("[3, 1, 2, 3]", "[5, 8]")),
    (r"\b(?:dict|Dict|Mapping)\[str", ("{'amber': 1, 'basin': 2}", "{'cedar': 3}")),
    (r"^bool$", ("True", "False")),
    (r"\bbytes\b", ("b'amber river'", "b'maple'", "b'a,b,c'")),
    (r"\bfloat\b", ("2.5", "0.75", "10.0")),
    (r"\bint\b", ("3", "7", "12")),
    (r"\bstr\b|\bAnyStr\b|\bText\b", tuple(map(repr, TEXTS))),
)
"""Literals by annotation; a parameter that fits none is not guessed at."""
BY_NAME: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"url|uri|href", tuple(map(repr, URLS))),
    (r"path|file", ("'stone/tulip.txt'", "'maple.tar.gz'")),
)
"""Better literals for texts whose parameter says what they are."""


def probe(package: Package, shown: list[Example]) -> Mined:
    """Calls of functions, and of the documented members of classes, that no example shows."""
    mined = Mined("probed_example")
    known = {example.function for example in shown}
    for function in package.functions.values():
        if function.qualified in known or not function.doc or RISKY.search(function.name):
            continue
        for text in _calls(function):
            mined.seen += 1
            tree = ast.parse(text, mode="eval").body
            key = call_key(tree, function.name, whole=function.kind == "class")
            if key is not None:
                source = function.source.model_copy(update={"kind": "probed_example"})
                mined.candidates.append(Candidate(function.qualified, text, (), None, key, source))
    return mined


def _calls(function: Function) -> Iterator[str]:
    calls = [f"{function.name}({arguments})" for arguments in _arguments(function.parameters) if arguments]
    if function.kind == "function":
        yield from calls
        return
    for method in function.methods:
        if RISKY.search(method.name):
            continue
        own = tuple(one for one in method.parameters or () if one.name not in {"self", "cls"})
        uses = [""] if method.is_property else [f"({arguments})" for arguments in _arguments(own)]
        for index, call in enumerate(calls[: PER_CALLABLE // 2]):
            if uses:
                yield f"{call}.{method.name}{uses[index % len(uses)]}"


def _arguments(parameters: tuple[Parameter, ...] | None) -> list[str]:
    """Argument lists with a plausible literal for every parameter that needs one; [] if that cannot be done."""
    if parameters is None:
        return []
    needed = [one for one in parameters if one.default is None and not one.kind.startswith("VAR_")]
    first = [one for one in parameters[:1] if one.kind.startswith("POSITIONAL") and one.annotation != "bool"]
    pools = [_pool(one) for one in needed or first]
    if len(needed) > MAX_REQUIRED or not all(pools):
        return [] if needed else [""]
    lists: list[str] = []
    for turn in range(PER_CALLABLE):
        texts = [pool[(turn + shift) % len(pool)] for shift, pool in enumerate(pools)]
        pairs = zip(needed or first, texts, strict=True)
        lists.append(
            ", ".join(f"{one.name}={text}" if one.kind == "KEYWORD_ONLY" else text for one, text in pairs)
        )
    return list(dict.fromkeys(lists))


def _pool(one: Parameter) -> tuple[str, ...]:
    for pattern, texts in POOLS:
        if re.search(pattern, one.annotation):
            named = (
                better for name, better in BY_NAME if "str" in one.annotation and re.search(name, one.name)
            )
            return next(named, texts)
    return ()
