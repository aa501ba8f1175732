"""More examples from one that works: the same call with other literals, to be run for its value.

Real packages show a function once or twice. A call that is known to work, with other numbers, words and lengths, shows it
again; what it evaluates to is not guessed but executed. Every choice follows from the seed and the expression.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import random
import string
from collections.abc import Iterator
from itertools import pairwise

from model_training.datasets.package.words import NOUNS

MAX_LENGTH = 9  # elements of a varied list


def variations(expression: str, call: str, seed: int, count: int) -> Iterator[str]:
    """Up to `count` different expressions like the given one. `call` is the function whose arguments may change."""
    found = {expression}
    for attempt in range(count * 3):
        digest = hashlib.sha256(f"{seed}:{attempt}:{expression}".encode()).digest()
        varied = _vary(expression, call, random.Random(digest), attempt)
        if varied not in found:
            found.add(varied)
            yield varied
        if len(found) > count:
            return


def _vary(expression: str, call: str, rng: random.Random, attempt: int) -> str:
    """Change the data, the scalar arguments, or both, in turn."""
    tree = ast.parse(expression, mode="eval").body
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == call:
            worker = _Varier(rng, data=attempt % 3 != 1, scalars=attempt % 3 != 0)
            node.args = [worker.argument(argument) for argument in node.args]
            for keyword in node.keywords:
                keyword.value = worker.argument(keyword.value)
            break
    return ast.unparse(ast.fix_missing_locations(tree))


class _Varier:
    """Replaces literals; equal literals get equal replacements, so that a key still finds its entry."""

    def __init__(self, rng: random.Random, *, data: bool, scalars: bool) -> None:
        self.rng = rng
        self.data = data
        self.scalars = scalars
        self.words = rng.sample(NOUNS, len(NOUNS))
        self.texts: dict[str, str] = {}
        self.shift = rng.choice([1, 2, 3, 5, 7, 10])
        self.turn = rng.randint(1, 9)

    def argument(self, node: ast.expr) -> ast.expr:
        """A varied copy of one argument."""
        if isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
            return self._container(node) if self.data else node
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return ast.Constant(self._text(node.value)) if self.data else node
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in {"range", "iter", "list", "count"}
        ):
            node.args = [self.argument(argument) for argument in node.args]
            return node
        return self._scalar(node) if self.scalars else node

    def _scalar(self, node: ast.expr) -> ast.expr:
        """A number nearby with the same sign; everything else as it is."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return ast.UnaryOp(op=ast.USub(), operand=self._scalar(node.operand))
        if not isinstance(node, ast.Constant) or isinstance(node.value, bool):
            return node
        if isinstance(node.value, int):
            step = self.rng.choice([-2, -1, 1, 1, 2, 3]) * (
                1 if node.value < 20 else self.rng.choice([1, 3, 10])
            )
            # A size of 1 where 2 or more was shown mostly makes the call do nothing.
            return ast.Constant(max(node.value + step, min(node.value, 2)))
        if isinstance(node.value, float):
            return ast.Constant(node.value + self.rng.choice([0.5, 1.0, 2.0]))
        return node

    def _container(self, node: ast.List | ast.Tuple | ast.Set | ast.Dict) -> ast.expr:
        node = copy.deepcopy(node)
        if isinstance(node, ast.Dict):
            node.keys = [key and self._element(key) for key in node.keys]
            node.values = [self._element(value) for value in node.values]
            return node
        node.elts = [self._element(element) for element in node.elts]
        if isinstance(node, ast.List) and len(node.elts) > 2 and all(_is_number(one) for one in node.elts):
            node.elts = self._resize(node.elts)
        return node

    def _element(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
            return self._container(node)
        if not isinstance(node, ast.Constant) or isinstance(node.value, bool):
            return node
        if isinstance(node.value, str):
            return ast.Constant(self._text(node.value))
        if isinstance(node.value, int | float):
            return ast.Constant(node.value + self.shift if abs(node.value) > 1 else node.value)
        return node

    def _resize(self, elements: list[ast.expr]) -> list[ast.expr]:
        """A list of numbers that is longer or shorter by one or two; rising lists keep rising."""
        values: list[int | float] = [one.value for one in elements if isinstance(one, ast.Constant)]  # type: ignore[misc]
        change = self.rng.choice([-1, 0, 1, 2])
        if change < 0 and len(values) > 3:
            values = values[:change]
        rising = values == sorted(values) and len(set(values)) > 1
        while change > 0 and len(values) < MAX_LENGTH:
            values.append(values[-1] + 1 if rising else self.rng.choice(values))
            change -= 1
        return [ast.Constant(value) for value in values]

    def _text(self, text: str) -> str:
        if text not in self.texts:
            self.texts[text] = self._new_text(text)
        return self.texts[text]

    def _new_text(self, text: str) -> str:
        """Letters that stand for themselves move along the alphabet, words become other words, the rest stays."""
        if len(text) == 1 or _is_letters(text):
            return "".join(self._move(character) for character in text)
        pieces: list[str] = []
        word = ""
        for character in [*text, ""]:
            if character.isalpha() and (not word or not (character.isupper() and word[-1].islower())):
                word += character
                continue
            pieces.append(self._word(word))
            word = character if character.isalpha() else ""
            pieces.append("" if word else character)
        return "".join(pieces)

    def _word(self, word: str) -> str:
        if len(word) < 3:
            return word
        if word.lower() not in self.texts:
            self.texts[word.lower()] = self.words.pop() if self.words else word.lower()
        new = self.texts[word.lower()]
        return new.upper() if word.isupper() else new.title() if word[0].isupper() else new

    def _move(self, character: str) -> str:
        for alphabet in (string.ascii_lowercase, string.ascii_uppercase):
            if character in alphabet:
                return alphabet[(alphabet.index(character) + self.turn) % 26]
        return character


def _is_number(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, int | float)
        and not isinstance(node.value, bool)
    )


def _is_letters(text: str) -> bool:
    """Whether a text is a row of letters like `ABCDE` or `aabbb` and no word."""
    if not text.isalpha() or len(text) < 2 or not (text.isupper() or text.islower()):
        return False
    steps = [ord(after) - ord(before) for before, after in pairwise(text)]
    return text.isupper() or all(0 <= step <= 1 for step in steps)
