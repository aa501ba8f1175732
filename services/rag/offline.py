"""Indexes without the service, which must not run beside this: `python -m services.rag.offline snapshot|restore ID=FILE …`.

For `mt backup` and `mt restore`. Prints the ids that were there, as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from libs.common.errors import NotFound
from services.rag.adapters.qdrant_edge import QdrantEdgeStore
from services.rag.ports import VectorStore
from services.rag.settings import RagSettings
from services.rag.snapshots import read_snapshot, write_snapshot


def main(action: str, pairs: list[str]) -> list[str]:
    """Take or restore snapshots of indexes by their ids."""
    store = _store(RagSettings())  # pyright: ignore[reportCallIssue] (values come from the environment)
    done: list[str] = []
    for pair in pairs:
        index, _, path = pair.partition("=")
        try:
            if action == "snapshot":
                write_snapshot(store, index, Path(path))
            else:
                read_snapshot(store, index, Path(path))
        except NotFound:
            continue
        done.append(index)
    return done


def _store(settings: RagSettings) -> VectorStore:
    """As `main` chooses it; that module takes seconds to import, for parts that are not needed here."""
    if settings.qdrant_url is None:
        return QdrantEdgeStore(settings.home / "indexes")
    from services.rag.main import make_store

    return make_store(settings)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], sys.argv[2:])) + "\n")
