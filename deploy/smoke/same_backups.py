"""Whether two backups hold the same: `python3 deploy/smoke/same_backups.py FIRST SECOND`. The standard library only.

Tables, files, artifacts and checkpoints by their SHA-256; an index by the files in its snapshot.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
from typing import Any


def content(path: str) -> dict[str, Any]:
    """What a backup holds, by name."""
    with tarfile.open(path) as archive:
        manifest = json.loads(_bytes(archive, "manifest.json"))
        found: dict[str, Any] = {
            f"table {one['name']}": (one["rows"], one["sha256"]) for one in manifest["tables"]
        }
        for name, member in manifest["members"].items():
            kind = name.partition("/")[0]
            if kind == "indexes":
                found[name] = _index(_bytes(archive, name))
            elif kind != "database":
                found[name] = member["sha256"]
    return found


def _bytes(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    assert member is not None, name
    return member.read()


def _index(snapshot: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(snapshot)) as archive:
        return {one.name: _bytes(archive, one.name) for one in archive if one.isfile()}


def main(first: str, second: str) -> int:
    """Compare and tell."""
    one, other = content(first), content(second)
    different = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    for name in different:
        sys.stdout.write(f"not the same: {name}\n")
    indexes = sum(name.startswith("indexes/") for name in one)
    sys.stdout.write(
        f"{len(one) - len(different)} of {len(one)} are the same, {indexes} indexes among them\n"
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
