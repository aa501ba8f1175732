"""One round of chaos: jobs are submitted, things go wrong while they run, and everything must come out right."""

from __future__ import annotations

import random
import time
from typing import Any

from libs.common.db.tables import JobRow
from libs.common.jobs import transitions
from model_training.contracts.jobs import JobKind, JobState
from tests.integration.chaos import checks
from tests.integration.chaos.checks import Expected
from tests.integration.chaos.clients import Client
from tests.integration.chaos.faults import FAULTS
from tests.integration.chaos.site import Site, wait_for

FAULTS_A_ROUND = 2
JOBS_A_ROUND = 4


def plan(seed: int, rounds: int) -> list[list[str]]:
    """Which faults happen in each round: all of them in turn, shuffled anew each time."""
    rng = random.Random(seed)
    names: list[str] = []
    while len(names) < rounds * FAULTS_A_ROUND:
        names += rng.sample(sorted(FAULTS), len(FAULTS))
    return [names[i * FAULTS_A_ROUND : (i + 1) * FAULTS_A_ROUND] for i in range(rounds)]


class Round:
    """One round. `log` tells what happened, for the reader of a failure."""

    def __init__(self, site: Site, client: Client, name: str, faults: list[str]) -> None:
        self._site = site
        self._client = client
        self._faults = faults
        self._rng = random.Random(name)
        self._began = time.monotonic()
        self.expected: dict[str, Expected] = {}
        self.log: list[str] = [f"round {name}: {', '.join(faults)}"]

    def run(self) -> None:
        """Play the round and check what came out.

        Raises:
            AssertionError: something is wrong; the message is the log and the histories of the jobs at fault.
        """
        try:
            self._submit()
            paused = self._steer()
            for fault in self._faults:
                time.sleep(self._rng.uniform(0.0, 0.5))
                self._do(fault)
            self._resume(paused)
            wait_for(lambda: checks.unfinished(self._site.database) == 0, "every job to reach its end")
            wait_for(lambda: self._site.children() == [], "every child to be gone", timeout_s=60)
            found = checks.tickets_used_twice(self._site.database)
            for job_id, expected in self.expected.items():
                found += checks.faults_of(self._site.database, job_id, expected)
            assert not found, "\n".join(found)
        except Exception as error:
            raise AssertionError("\n".join([*self.log, str(error), *self._site.last_words()])) from error
        self._say("all is well")

    def _submit(self) -> None:
        specs: list[tuple[dict[str, Any], Expected]] = [
            (self._toy(), Expected()) for _ in range(JOBS_A_ROUND - 1)
        ]
        if "fill_disk" in self._faults:
            specs.append((self._toy(fault="fill_disk"), Expected((JobState.FAILED,), "disk_full")))
        for toy, expected in specs:
            self.expected[self._client.submit(toy)] = expected
        with self._site.database.session() as session:
            toy = self._toy(fault=self._rng.choice(["", "die", "fail"]))
            job = transitions.create(
                session, JobKind.TRAIN, "proj_default", toy, max_attempts=8, priority=self._rng.randint(0, 2)
            )
        failed = Expected((JobState.FAILED,), "bad_data")
        self.expected[job.id] = failed if toy["fault"] == "fail" else Expected()
        self._say(f"{len(self.expected)} jobs accepted")

    def _toy(self, fault: str = "") -> dict[str, Any]:
        # A worker that is stopped past the lease must find its job in other hands, and not already done.
        steps = self._rng.randint(25, 30) if "stop_worker" in self._faults else self._rng.randint(4, 12)
        return {"steps": steps, "sleep_s": 0.08, "fault": fault}

    def _steer(self) -> str | None:
        """Sometimes somebody cancels a job, or pauses one."""
        job_id = next(iter(self.expected))
        match self._rng.choice(["cancel", "pause", "", ""]):
            case "cancel":
                status = self._client.steer(job_id, "cancel")
                self.expected[job_id] = Expected((JobState.CANCELLED, JobState.SUCCEEDED))
                self._say(f"cancel answered {status}")
            case "pause":
                status = self._client.steer(job_id, "pause")
                self._say(f"pause answered {status}")
                return job_id
            case _:
                pass
        return None

    def _resume(self, job_id: str | None) -> None:
        if job_id is None:
            return

        def resumed() -> bool:
            return self._client.steer(job_id, "resume") == 200 or not self._stops(job_id)

        wait_for(resumed, "the paused job to go on")

    def _stops(self, job_id: str) -> bool:
        """Whether the job is paused or will be; it may also have ended before anybody could stop it."""
        with self._site.database.session() as session:
            return session.get_one(JobRow, job_id).state in ("pausing", "paused")

    def _do(self, fault: str) -> None:
        try:
            self._say(FAULTS[fault](self._site, self._rng, list(self.expected)))
        except Exception as error:  # what it needs is down because of the fault before
            self._say(f"{fault} could not be done: {str(error).partition(chr(10))[0]}")

    def _say(self, what: str) -> None:
        self.log.append(f"  {time.monotonic() - self._began:5.2f} s  {what}")
