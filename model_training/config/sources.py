"""Where a value came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SourceKind = Literal[
    "default", "preset", "file", "overlay", "environment", "override", "argument", "assignment"
]


@dataclass(frozen=True)
class Source:
    """The origin of one value. `line` counts from 1 and is known for values from files."""

    kind: SourceKind
    name: str = ""
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()

    @property
    def where(self) -> str:
        """The source with its line, for messages: `file run.yaml, line 3`."""
        return f"{self}, line {self.line}" if self.line else str(self)


DEFAULT = Source("default")
ARGUMENT = Source("argument")
OVERRIDE = Source("override")
ASSIGNMENT = Source("assignment")
