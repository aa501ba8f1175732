"""A small package that shows every kind of example, good and bad, installed into a temporary directory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from model_training.datasets.package.build import build_from_packages
from model_training.datasets.package.records import Options
from model_training.datasets.package.report import DatasetReport

LISTS = '''
"""Functions that have examples."""
import itertools
from operator import add

__all__ = ["fold", "pairs", "rotate", "squeeze", "Bag"]


def pairs(items, size=2):
    """Split *items* into lists of ``size`` elements.

        >>> pairs([1, 2, 3, 4])
        [[1, 2], [3, 4]]

    The last list may be shorter:

        >>> data = [1, 2, 3]
        >>> pairs(data)
        [[1, 2], [3]]
        >>> pairs('abcde', size=3)
        [['a', 'b', 'c'], ['d', 'e']]
        >>> pairs([5, 6, 7, 8, 9], 4)
        [[5, 6, 7, 8], [9]]
    """
    items = list(items)
    return [items[start : start + size] for start in range(0, len(items), size)]


def rotate(text, by=1):
    """Move the first letters of a text to its end.

    >>> rotate('abcd')
    'bcda'
    >>> rotate('abcd', 2)
    'cdab'
    >>> print(rotate('river', by=3))
    erriv
    """
    return text[by:] + text[:by]


def fold(function, items):
    """Combine all items with a function of two arguments.

    >>> def double_add(x, y): return 2 * (x + y)
    >>> fold(double_add, [1, 2, 3])
    18
    >>> fold(add, [1, 2, 3, 4])
    10
    >>> fold(max, [3, 9, 4])
    9
    """
    return list(itertools.accumulate(items, function))[-1]


def squeeze(items):
    """Remove neighbours that are equal from a list of items."""
    return [key for key, _ in itertools.groupby(items)]


class Bag:
    """A collection that counts what is put into it.

    >>> Bag('aab').count('a')
    2
    """

    def __init__(self, items: str) -> None:
        self.items = list(items)

    def count(self, item: str) -> int:
        """How often an item is in the bag."""
        return self.items.count(item)

    @property
    def distinct(self) -> int:
        """How many different items are in the bag."""
        return len(set(self.items))
'''

ODD = '''
"""Functions whose examples must not get through."""
import itertools, os, random, time

__all__ = ["colours", "forever", "lucky", "lying", "place", "slow_sum", "moment", "nap", "silent", "wipe"]


def forever(start=0):
    """Count upwards from a number without an end.

    >>> list(forever())
    [0, 1, 2]
    >>> list(itertools.islice(forever(), 3))
    [0, 1, 2]
    """
    return itertools.count(start)


def slow_sum():
    """Add up numbers until the end of time.

    >>> slow_sum()
    0
    """
    return sum(itertools.count())


def lucky():
    """Draw a number that nobody can foresee.

    >>> lucky() >= 0
    True
    >>> lucky()
    4
    """
    return random.random()


def place():
    """Tell where this function lives in memory.

    >>> place()
    12345
    """
    return id(place)


def moment():
    """Tell the year in which it is called.

    >>> moment()
    2024
    """
    return time.gmtime(time.time()).tm_year


def colours():
    """List the names of three colours in any order.

    >>> colours()
    ['red', 'green', 'blue']
    """
    return list({"red", "green", "blue"})


def lying(number):
    """Return a number that is one higher than claimed.

    >>> lying(1)
    1
    """
    return number + 1


def nap():
    """Sleep for a moment and return a number.

    >>> nap()
    7
    """
    time.sleep(5)
    return 7


def wipe(path):
    """Remove a file and return how many were removed.

    >>> wipe('CANARY')
    1
    """
    os.remove(path)
    return 1


def silent(x):
    return x
'''

TESTS = """
import pytest
from samplekit import pairs, rotate, squeeze


def iseven(x):
    return x % 2 == 0


def test_squeeze():
    assert squeeze([1, 1, 2, 2, 1]) == [1, 2, 1]
    assert squeeze('aabbb') == ['a', 'b']
    data = [0, 0, 5]
    assert squeeze(data) == [0, 5]
    assert squeeze([iseven(2)]) == [True]


@pytest.mark.parametrize(("text", "by", "expected"), [("maple", 2, "plema"), pytest.param("stone", 1, "tones", id="x")])
def test_rotate(text, by, expected):
    assert rotate(text, by) == expected


def test_raises():
    with pytest.raises(ValueError):
        assert pairs([1], 0) == []
"""

README = """Metadata-Version: 2.1
Name: sample-kit
Version: 1.2.3
Description-Content-Type: text/markdown

# samplekit

A package to try things with, and this sentence is long enough to be a passage of its own.

```python
from samplekit import squeeze
squeeze([4, 4, 7])  # [4, 7]
```
"""


@dataclass(frozen=True)
class SamplePackage:
    """Where the package is installed, and a file that one of its examples tries to remove."""

    site: Path
    canary: Path


@pytest.fixture(scope="session")
def sample_package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SamplePackage]:
    """`samplekit`, installed as the distribution `sample-kit`."""
    site = tmp_path_factory.mktemp("site")
    canary = site / "canary.txt"
    canary.write_text("still here", encoding="utf-8")
    package = site / "samplekit"
    (package / "tests").mkdir(parents=True)
    files = {
        "__init__.py": "from .lists import *\nfrom .odd import *\n",
        "lists.py": LISTS,
        "odd.py": ODD.replace("CANARY", str(canary)),
        "broken.py": "def broken(:\n",
        "tests/__init__.py": "",
        "tests/test_lists.py": TESTS,
    }
    for name, text in files.items():
        (package / name).write_text(text, encoding="utf-8")
    info = site / "sample_kit-1.2.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(README, encoding="utf-8")
    (info / "top_level.txt").write_text("samplekit\n", encoding="utf-8")
    (info / "RECORD").write_text("".join(f"samplekit/{name},,\n" for name in files), encoding="utf-8")
    sys.path.insert(0, str(site))
    yield SamplePackage(site, canary)
    sys.path.remove(str(site))


@dataclass(frozen=True)
class Built:
    """A data set on disk with its report."""

    directory: Path
    report: DatasetReport


@pytest.fixture(scope="session")
def built(sample_package: SamplePackage, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sample package's data set."""
    directory = tmp_path_factory.mktemp("built")
    return Built(
        directory, build_from_packages(["samplekit"], directory, Options(tasks=12, questions=12, rows=60))
    )


@pytest.fixture(scope="session")
def built_toolz(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The data set of a real small package that ships its tests."""
    directory = tmp_path_factory.mktemp("toolz")
    return Built(
        directory, build_from_packages(["toolz"], directory, Options(tasks=40, questions=40, rows=200))
    )
