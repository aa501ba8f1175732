"""Chooses which functions are asked about, which examples are held out for that, and which remain to learn from."""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

from model_training.datasets.package.docstrings import is_deprecated, summary
from model_training.datasets.package.records import Example, Function, Options, Package
from model_training.datasets.package.wording import is_simple, tell

MAX_EXPRESSION, MAX_VALUE = 100, 110  # characters of what one question shows
PER_FUNCTION = 2  # executable tasks, as long as there are functions enough
MOST_PER_FUNCTION = 6
SHOWN = 2  # examples at least that remain for training and index
UNSTEADY = ("now(", "today(", "random", "time(", "uuid", "getpid", "environ", "urandom")


@dataclass(frozen=True)
class Chosen:
    """One function with its examples: `held` are evaluated on and shown nowhere, `shown` are for training and index."""

    function: Function
    summary: str | None
    held: tuple[Example, ...]
    shown: tuple[Example, ...]


@dataclass
class Selection:
    """What was chosen from one package; `functions` that are asked about come first."""

    package: Package
    functions: list[Chosen] = field(default_factory=list[Chosen])
    held_keys: frozenset[str] = frozenset()
    dropped: Counter[str] = field(default_factory=Counter[str])

    @property
    def held(self) -> list[tuple[Chosen, Example]]:
        """Held-out examples, one of each function before the second of any."""
        rounds = max((len(one.held) for one in self.functions), default=0)
        return [
            (one, one.held[turn]) for turn in range(rounds) for one in self.functions if turn < len(one.held)
        ]


def select(package: Package, examples: Sequence[Example], tasks: int, options: Options) -> Selection:
    """Hold out up to `tasks` examples, of as many functions as there are, and no more of one than can be spared."""
    by_function: dict[str, list[Example]] = {}
    for example in examples:
        by_function.setdefault(example.function, []).append(example)
    selection = Selection(package)
    names = sorted(package.functions, key=lambda name: _draw(options.seed, name))
    pools = {
        name: _usable(package.functions[name], by_function.get(name, []), selection.dropped) for name in names
    }
    wanted = {name: _hold_out(package.functions[name], pools[name], options.seed) for name in names}
    counts = _share(names, wanted, tasks)
    chosen = [_choose(package.functions[name], pools[name], wanted[name][: counts[name]]) for name in names]
    chosen.sort(key=lambda one: (not one.held, one.summary is None))
    selection.functions = [one for one in chosen if one.held or one.summary or one.shown]
    selection.held_keys = frozenset(example.key for one in chosen for example in one.held)
    return selection


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def _usable(function: Function, examples: Iterable[Example], dropped: Counter[str]) -> list[Example]:
    """Examples that fit into a question; of varied ones those that show something."""
    usable: list[Example] = []
    full = any(example.kind != "varied_example" and not _is_empty(example.value) for example in examples)
    for example in examples:
        if len(example.expression) > MAX_EXPRESSION or len(example.value) > MAX_VALUE:
            dropped["too long to ask"] += 1
        elif any(word in example.expression for word in UNSTEADY):
            dropped["depends on time or chance"] += 1
        elif example.value == "None" or (
            example.kind == "varied_example" and full and _is_empty(example.value)
        ):
            dropped["shows nothing"] += 1
        else:
            usable.append(example)
    return usable


def _is_empty(value: str) -> bool:
    return value in {"[]", "()", "{}", "set()", "''", "b''", "None"}


def _hold_out(function: Function, examples: list[Example], seed: int) -> list[Example]:
    """Examples that may be held out: the package's own before varied ones, and so many that enough remain."""
    if is_deprecated(function):
        return []
    fit = [one for one in examples if _is_task(one, function)]
    own = [one for one in fit if one.kind != "varied_example"]
    varied = [one for one in fit if one.kind == "varied_example"]
    # One example of the package's own stays in its documentation, so that a reader of the page can learn the call.
    spare = own[1:] if len([one for one in examples if one.kind != "varied_example"]) > 1 else []
    spare.sort(key=lambda one: _draw(seed, one.key))
    varied.sort(key=lambda one: _draw(seed, one.key))
    order = [*spare, *varied]
    most = min(MOST_PER_FUNCTION, len({one.value for one in examples}) - SHOWN, len(examples) - SHOWN)
    return _different(order)[: max(most, 0)]


def _different(examples: list[Example]) -> list[Example]:
    """Examples whose values all differ."""
    kept: dict[str, Example] = {}
    for example in examples:
        kept.setdefault(example.value, example)
    return list(kept.values())


def _is_task(example: Example, function: Function) -> bool:
    """Whether the value can only be got by calling: true, false and what was handed in say too little."""
    if example.value in {"True", "False"} or _is_empty(example.value) or not is_simple(example, function):
        return False
    told = tell(example, function)
    if told is None or told.count > 5:
        return False
    given = [literal_value(argument) for argument in told.arguments]
    value = literal_value(example.value)
    return not any(one == value or _same_items(one, value) or one in ([], (), {}, "", set()) for one in given)


def _same_items(one: object, other: object) -> bool:
    """Whether two values hold the same things in the same order, be it a text, a list or a tuple."""
    return _items(one) is not None and _items(one) == _items(other)


def _items(value: object) -> list[object] | None:
    return list(cast("Iterable[object]", value)) if isinstance(value, list | tuple | str) else None


def _share(names: list[str], wanted: dict[str, list[Example]], tasks: int) -> Counter[str]:
    """How many each function gives: one each in turn, then a second, until there are enough."""
    counts: Counter[str] = Counter()
    # Not more functions than can be taught: with two tasks each, half as many.
    order = [name for name in names if wanted[name]]
    two = [name for name in order if len(wanted[name]) >= PER_FUNCTION]
    functions = (two + [name for name in order if name not in two])[: max(1, round(tasks / 1.5))]
    for turn in range(PER_FUNCTION):
        _add_turn(counts, functions, wanted, turn, tasks)
    # Too few: first the functions left out, then more of each.
    for turn in range(MOST_PER_FUNCTION):
        _add_turn(counts, order, wanted, turn, tasks)
    return counts


def _add_turn(
    counts: Counter[str], names: list[str], wanted: dict[str, list[Example]], turn: int, tasks: int
) -> None:
    for name in names:
        if counts[name] == turn < len(wanted[name]) and sum(counts.values()) < tasks:
            counts[name] += 1


def _choose(function: Function, pool: list[Example], held: list[Example]) -> Chosen:
    keys = {example.key for example in held}
    shown = tuple(example for example in pool if example.key not in keys)
    text = None if is_deprecated(function) else summary(function.doc)
    return Chosen(function, text, tuple(held), shown)


def literal_value(text: str) -> object:
    """The value of a literal's text, of `range(...)` the numbers; a marker of its own for anything else."""
    tree = ast.parse(text, mode="eval").body
    try:
        match tree:
            case ast.Call(func=ast.Name(id="range"), args=arguments, keywords=[]):
                return list(range(*map(ast.literal_eval, arguments)))[:1000]
            case ast.Call(func=ast.Name(id="iter"), args=[argument], keywords=[]):
                return ast.literal_eval(argument)
            case _:
                return ast.literal_eval(tree)
    except (ValueError, TypeError, SyntaxError):
        return NotImplemented
