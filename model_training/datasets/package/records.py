"""The records that pass between the steps of building a data set from a package. Data only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from model_training.contracts.indexes import Source

Progress = Callable[[str, int, int], None]
"""Called as `progress(step name, done, total)`; a step is over when done equals total."""


@dataclass(frozen=True)
class Options:
    """How large the data set shall be. Numbers count over all packages together."""

    tasks: int = 120
    questions: int = 120
    rows: int = 600
    seed: int = 0


@dataclass(frozen=True)
class Parameter:
    """A parameter; `default` is None when it has none and `...` when it has no literal form."""

    name: str
    kind: str
    default: str | None
    annotation: str = ""

    def __str__(self) -> str:
        """As it stands in a signature, without annotation."""
        star = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}.get(self.kind, "")
        return f"{star}{self.name}" + ("" if self.default is None else f"={self.default}")


@dataclass(frozen=True)
class Method:
    """A documented public method or property of a class."""

    name: str
    parameters: tuple[Parameter, ...] | None
    doc: str
    source: Source
    is_property: bool = False


@dataclass(frozen=True)
class Function:
    """A public function or class. `qualified` is the shortest public path to it."""

    package: str
    qualified: str
    module: str
    name: str
    kind: str
    parameters: tuple[Parameter, ...] | None
    doc: str | None
    origin: str
    source: Source
    methods: tuple[Method, ...] = ()

    @property
    def own_import(self) -> str:
        """The statement that makes the bare name available."""
        return f"from {self.module} import {self.name}"

    @property
    def signature(self) -> str:
        """`chunked(iterable, n, strict=False)`."""
        return f"{self.name}({signature_text(self.parameters)})"


@dataclass(frozen=True)
class Module:
    """What a module's names stand for: `names` leads to qualified functions; if `star_safe`, `import *` hides no builtin."""

    name: str
    path: str | None
    names: dict[str, str]
    star_safe: bool
    doc: str = ""


@dataclass(frozen=True)
class Package:
    """An installed package as read: `imports` are its import names, the asked one first."""

    name: str
    distribution: str
    version: str
    imports: tuple[str, ...]
    roots: tuple[str, ...]
    readme: str
    functions: dict[str, Function]
    modules: dict[str, Module]
    failed: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Candidate:
    """An expression that calls one public function, self-contained but for `imports`, not yet run.

    `wanted` is what the source says it evaluates to: `("literal" | "repr" | "printed", text)`; None where it says nothing.
    """

    function: str
    expression: str
    imports: tuple[str, ...]
    wanted: tuple[str, str] | None
    key: str
    source: Source


@dataclass(frozen=True)
class Example:
    """A candidate that ran; `value` is the literal that it evaluates to, every time."""

    function: str
    expression: str
    imports: tuple[str, ...]
    value: str
    key: str
    source: Source

    @property
    def kind(self) -> str:
        """Which source it came from: doctest, test, readme, call_site, varied_example."""
        return self.source.kind or "unknown"


def signature_text(parameters: tuple[Parameter, ...] | None) -> str:
    """The parameters as in a `def`, with the bare `*` and `/` where they belong."""
    if parameters is None:
        return "..."
    parts: list[str] = []
    starred = False
    for index, one in enumerate(parameters):
        if one.kind == "KEYWORD_ONLY" and not starred:
            parts.append("*")
            starred = True
        starred = starred or one.kind == "VAR_POSITIONAL"
        parts.append(str(one))
        last = index + 1 == len(parameters) or parameters[index + 1].kind != "POSITIONAL_ONLY"
        if one.kind == "POSITIONAL_ONLY" and last:
            parts.append("/")
    return ", ".join(parts)
