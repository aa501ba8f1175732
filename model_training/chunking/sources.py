"""What passages are cut from: files, folders, installed packages. Nothing is imported or run."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from model_training.chunking.code import GRAMMARS
from model_training.errors import UserError

MARKDOWN = (".md", ".markdown")
HTML = (".html", ".htm")
PLAIN = (".txt", ".rst")
PASSAGES = ".jsonl"
READ = (*MARKDOWN, *HTML, *PLAIN, *GRAMMARS, PASSAGES)
LEFT_OUT = frozenset({"__pycache__", "node_modules", "site-packages", "dist", "build", "venv"})
MAX_BYTES = 2_000_000


@dataclass(frozen=True)
class Document:
    """A text and where it is from. `module` is the dotted name that code is imported by."""

    path: str
    text: str
    suffix: str
    package: str | None = None
    version: str | None = None
    module: str | None = None


@dataclass
class Skipped:
    """Files that were left out, by reason."""

    reasons: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def add(self, reason: str, path: str) -> None:
        """Note a file."""
        self.reasons.setdefault(reason, []).append(path)


def read_sources(names: Sequence[str], skipped: Skipped) -> Iterator[Document]:
    """The documents of files, folders and packages; a name that is no path is looked for among installed packages.

    Raises:
        UserError: a name is neither.
    """
    for name in names:
        path = Path(name)
        if path.is_file():
            yield from _file(path, path.name, skipped)
        elif path.is_dir():
            yield from _folder(path, skipped)
        else:
            yield from _package(name, skipped)


def _folder(root: Path, skipped: Skipped) -> Iterator[Document]:
    for path in sorted(root.rglob("*")):
        inner = path.relative_to(root)
        hidden = any(part.startswith(".") or part in LEFT_OUT for part in inner.parts)
        if path.is_file() and not hidden:
            yield from _file(path, f"{root.resolve().name}/{inner.as_posix()}", skipped)


def _file(path: Path, shown: str, skipped: Skipped) -> Iterator[Document]:
    suffix = path.suffix.lower()
    if suffix not in READ:
        skipped.add("of a kind that is not read", shown)
    elif path.stat().st_size > MAX_BYTES and suffix != PASSAGES:
        skipped.add(f"larger than {MAX_BYTES:,} bytes", shown)
    else:
        try:
            yield Document(shown, path.read_text(encoding="utf-8-sig"), suffix)
        except UnicodeDecodeError:
            skipped.add("not UTF-8", shown)


def _package(name: str, skipped: Skipped) -> Iterator[Document]:
    """Source files and README of an installed package, by import name."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise UserError(
            f"{name!r} is no file, no folder and no installed package.",
            hint="Give a path, or the import name of a package, such as toolz.",
        )
    owners = importlib.metadata.packages_distributions().get(name.split(".")[0], [])
    distribution = importlib.metadata.distribution(owners[0]) if owners else None
    version = distribution.version if distribution else None
    root = Path((spec.submodule_search_locations or [spec.origin])[0])
    for document in _folder(root, skipped) if root.is_dir() else _file(root, root.name, skipped):
        if document.suffix in GRAMMARS:
            module = document.path.removesuffix(document.suffix).replace("/", ".").removesuffix(".__init__")
            yield replace(document, package=name, version=version, module=module)
    if distribution is not None:
        described = distribution.metadata.json
        readme, kind = described.get("description"), described.get("description_content_type", "")
        suffix = ".md" if "markdown" in kind else ".rst"
        if isinstance(readme, str) and readme.strip():
            yield Document(f"{name}/README{suffix}", readme, suffix, name, version)
