"""Artifacts without a service, for backups: `python -m libs.common.artifacts_offline fetch ID… | store FOLDER…`.

`fetch` has each artifact lie in `artifacts` of the data directory, also those of a bucket; one that is nowhere is left out.
`store` puts folders that are named by their ids where `MT_ARTIFACTS_URL` says.
"""

from __future__ import annotations

import sys
from pathlib import Path

from libs.common.artifacts import ArtifactStore, open_artifacts
from libs.common.errors import NotFound
from libs.common.settings import PlatformSettings


def fetch(store: ArtifactStore, artifacts: list[str]) -> None:
    """Have local copies."""
    for artifact in artifacts:
        try:
            store.path(artifact)
        except NotFound:
            continue


def keep(store: ArtifactStore, folders: list[Path]) -> None:
    """Store each folder; those that are there already are sent nowhere.

    Raises:
        ValueError: a folder's content is not what its name says.
    """
    for folder in folders:
        if store.commit(folder) != folder.name:
            raise ValueError(f"{folder} holds other content than its name says")


def main(arguments: list[str]) -> None:
    """Do the one or the other."""
    store = open_artifacts(PlatformSettings())  # pyright: ignore[reportCallIssue] (the environment fills it)
    what, *names = arguments
    if what == "fetch":
        fetch(store, names)
    else:
        keep(store, [Path(name) for name in names])


if __name__ == "__main__":
    main(sys.argv[1:])
