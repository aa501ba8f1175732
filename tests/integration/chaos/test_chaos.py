"""Rounds of chaos on real processes: no accepted job is lost, none acts twice, and nothing is left over.

The disk quota is a limit on the size of the child's files (RLIMIT_FSIZE), which fails in the same calls as a full quota and
needs no file system of its own. `CHAOS_SEED` chooses another order of faults.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import free_ports
from tests.integration.chaos.clients import Client
from tests.integration.chaos.rounds import Round, plan
from tests.integration.chaos.site import PORTS, Site, wait_for

SEED = int(os.environ.get("CHAOS_SEED", "1"))


@pytest.fixture
def site() -> Iterator[Site]:
    # Not below pytest's own directory: PostgreSQL's user could not pass.
    with tempfile.TemporaryDirectory(prefix="mt-chaos-") as directory:
        site = Site(Path(directory), free_ports(PORTS))
        try:
            site.start()
            yield site
        finally:
            site.stop()
        wait_for(lambda: site.left_over() == [], f"nothing to be left over of {site.home.root}", 10)


@pytest.mark.parametrize(
    "rounds",
    [
        pytest.param(10, id="10 rounds"),
        pytest.param(100, id="100 rounds", marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
    ],
)
def test_jobs_survive_anything(site: Site, rounds: int) -> None:
    client = Client(site.gateway_url)
    try:
        for number, faults in enumerate(plan(SEED, rounds), start=1):
            played = Round(site, client, f"{SEED}/{number}", faults)
            try:
                played.run()
            finally:
                print("\n".join(played.log))  # noqa: T201 (shown by pytest when a round fails, or with -s)
    finally:
        client.close()
