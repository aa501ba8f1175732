"""A worker that takes one job and exits, as Kubernetes jobs want it."""

from __future__ import annotations

import subprocess
import sys

from libs.common.db.engine import Database
from model_training.contracts.jobs import JobKind, JobState
from tests.conftest import ROOT, Stores
from tests.integration.jobs.helpers import read, submit


def test_it_takes_the_best_job_and_only_that(stores: Stores, database: Database) -> None:
    environment = {**stores.environment, "MT_CLAIM_ONE": "1", "TOY_KIND": "evaluate"}
    command = [sys.executable, "-m", "tests.integration.jobs.toy_worker", "http://127.0.0.1:1"]

    def once() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)

    while "nothing_to_claim" not in (drained := once()).stderr:  # what other tests have left
        assert drained.returncode == 0
    assert drained.returncode == 0
    jobs = [submit(database, kind=JobKind.EVALUATE, fault=fault) for fault in ("fail", "")]
    assert once().returncode == 0  # a job that fails is no failure of the worker
    assert [read(database, job).state for job in jobs] == [JobState.FAILED, JobState.QUEUED]
    assert once().returncode == 0
    assert read(database, jobs[1]).state == JobState.SUCCEEDED
