"""A worker that takes one job and exits, as Kubernetes jobs want it."""

from __future__ import annotations

import subprocess
import sys

from libs.common.db.engine import Database
from libs.common.jobs import transitions
from model_training.contracts.jobs import JobState
from tests.conftest import ROOT, Stores
from tests.integration.jobs.helpers import read, submit


def test_it_takes_the_best_job_and_only_that(stores: Stores, own_database: Database) -> None:
    url = own_database.engine.url.render_as_string(hide_password=False)
    environment = {**stores.environment, "MT_DATABASE_URL": url, "MT_CLAIM_ONE": "1"}
    command = [sys.executable, "-m", "tests.integration.jobs.toy_worker", "http://127.0.0.1:1"]

    def once() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)

    jobs = [submit(own_database, fault=fault) for fault in ("", "fail")]
    with own_database.session() as session:
        transitions.locked(session, jobs[1]).priority = 1
    assert once().returncode == 0  # a job that fails is no failure of the worker
    assert [read(own_database, job).state for job in jobs] == [JobState.QUEUED, JobState.FAILED]
    assert once().returncode == 0
    assert read(own_database, jobs[0]).state == JobState.SUCCEEDED
    idle = once()
    assert idle.returncode == 0
    assert "nothing_to_claim" in idle.stderr
