"""Every change of state in every state: it is legal and does what it says, or it is refused by name and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy.orm import Session

from libs.common.db.engine import Database
from libs.common.db.tables import JobRow
from libs.common.errors import IllegalTransition, LeaseLost
from libs.common.jobs import transitions
from libs.common.jobs.keeper import take_from_lost_workers
from libs.common.jobs.transitions import LEGAL
from model_training.contracts.jobs import FINAL_STATES, JobError, JobKind, JobState

S = JobState
LOST = JobError(code="worker_lost", message="It fell silent.")


def _last_lose(session: Session, job: JobRow) -> None:
    job.attempt = job.max_attempts
    transitions.lose(session, job, LOST)


OPERATIONS: dict[str, Callable[[Session, JobRow], object]] = {
    "start": lambda session, job: transitions.start(session, job, "worker", 60.0),
    "begin": lambda session, job: transitions.begin(session, job, "It starts."),
    "request_cancel": transitions.request_cancel,
    "request_pause": transitions.request_pause,
    "resume": transitions.resume,
    "succeed": lambda session, job: transitions.succeed(session, job, {"n": 1}),
    "fail": lambda session, job: transitions.fail(session, job, LOST),
    "stopped": transitions.stopped,
    "release": lambda session, job: transitions.release(session, job, "The worker leaves."),
    "lose": lambda session, job: transitions.lose(session, job, LOST),
    "lose the last": _last_lose,
}

CHANGES: dict[str, dict[JobState, JobState]] = {
    "start": {S.QUEUED: S.RUNNING},
    "begin": {S.QUEUED: S.RUNNING},
    "request_cancel": {
        S.VALIDATING_FILES: S.CANCELLED,
        S.QUEUED: S.CANCELLED,
        S.PAUSED: S.CANCELLED,
        S.RUNNING: S.CANCELLING,
        S.PAUSING: S.CANCELLING,
        S.CANCELLING: S.CANCELLING,
        S.CANCELLED: S.CANCELLED,
    },
    "request_pause": {S.QUEUED: S.PAUSED, S.RUNNING: S.PAUSING, S.PAUSING: S.PAUSING, S.PAUSED: S.PAUSED},
    "resume": {S.PAUSED: S.QUEUED},
    "succeed": {S.RUNNING: S.SUCCEEDED, S.PAUSING: S.SUCCEEDED, S.CANCELLING: S.SUCCEEDED},
    "fail": {
        S.VALIDATING_FILES: S.FAILED,
        S.QUEUED: S.FAILED,
        S.RUNNING: S.FAILED,
        S.PAUSING: S.FAILED,
        S.CANCELLING: S.FAILED,
    },
    "stopped": {S.PAUSING: S.PAUSED, S.CANCELLING: S.CANCELLED},
    "release": {S.RUNNING: S.QUEUED, S.PAUSING: S.PAUSED, S.CANCELLING: S.CANCELLED},
    "lose": {S.RUNNING: S.QUEUED, S.PAUSING: S.PAUSED, S.CANCELLING: S.CANCELLED},
    "lose the last": {S.RUNNING: S.FAILED, S.PAUSING: S.PAUSED, S.CANCELLING: S.CANCELLED},
}
"""What each operation makes of each state; a state that is missing refuses it."""

UNREACHED = {(S.VALIDATING_FILES, S.QUEUED)}
"""Legal, and made by nobody: files are checked before a job is made."""


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with database.session() as session:
        yield session
        session.rollback()


def job_in(session: Session, state: JobState) -> JobRow:
    job = transitions.create(session, JobKind.COMPARE, "proj_default", {})
    session.flush()
    job.state = state.value
    job.attempt = 1
    job.pause_requested = state in (S.PAUSING, S.PAUSED)
    job.cancel_requested = state in (S.CANCELLING, S.CANCELLED)
    session.flush()
    return job


@pytest.mark.parametrize("state", list(JobState))
@pytest.mark.parametrize("operation", list(OPERATIONS))
def test_each_operation_in_each_state(session: Session, operation: str, state: JobState) -> None:
    job = job_in(session, state)
    wanted = CHANGES[operation].get(state)
    last = job.last_sequence
    if wanted is not None:
        OPERATIONS[operation](session, job)
        assert job.state == wanted.value
        assert (job.last_sequence > last) == (wanted is not state)
        assert (job.finished_at is not None) == (wanted in FINAL_STATES and wanted is not state)
        return
    if operation == "lose the last":
        job.attempt = job.max_attempts
    session.flush()
    with pytest.raises(IllegalTransition, match=f"is {state.value} and cannot become"):
        OPERATIONS[operation](session, job)
    assert not session.is_modified(job), "a refused change has left traces"
    assert (job.state, job.last_sequence) == (state.value, last)


def test_the_list_of_legal_changes_is_what_the_operations_do() -> None:
    made = {(a, b) for changes in CHANGES.values() for a, b in changes.items() if a is not b}
    assert made | UNREACHED == {(a, b) for a, others in LEGAL.items() for b in others}


@pytest.mark.parametrize("to", list(JobState))
@pytest.mark.parametrize("state", list(JobState))
def test_every_pair_of_states_is_legal_or_refused(session: Session, state: JobState, to: JobState) -> None:
    job = JobRow(id="ftjob_x", state=state.value)
    if to in LEGAL[state]:
        transitions.require(job, to)
    else:
        with pytest.raises(IllegalTransition) as refusal:
            transitions.require(job, to)
        assert (refusal.value.code, refusal.value.status) == ("illegal_transition", 409)


def test_a_pause_and_a_shutdown_do_not_count_as_attempts(session: Session) -> None:
    job = transitions.create(session, JobKind.COMPARE, "proj_default", {}, max_attempts=1)
    for _ in range(3):
        transitions.start(session, job, "worker", 60.0)
        transitions.request_pause(session, job)
        transitions.stopped(session, job)
        transitions.resume(session, job)
        transitions.start(session, job, "worker", 60.0)
        transitions.release(session, job, "The worker leaves.")
    assert (job.attempt, job.fence, job.state) == (0, 6, "queued")


def test_a_job_that_is_lost_too_often_is_dead_and_tells_why(database: Database) -> None:
    with database.session() as session:
        job_id = transitions.create(session, JobKind.COMPARE, "proj_default", {}, max_attempts=2).id
    for _ in range(2):
        with database.session() as session:
            assert transitions.claim(session, job_id, "worker-7", lease_s=0.0) is not None
        with database.session() as session:
            take_from_lost_workers(session)
    with database.session() as session:
        job = session.get_one(JobRow, job_id)
        assert (job.state, job.attempt) == ("failed", 2)
        assert job.error is not None
        assert job.error["code"] == "worker_lost"
        assert "worker-7" in job.error["message"]
        assert "2 times" in job.error["message"]


def test_a_zombie_writes_nothing(database: Database) -> None:
    with database.session() as session:
        job_id = transitions.create(session, JobKind.COMPARE, "proj_default", {}).id
    with database.session() as session:
        zombie = transitions.claim(session, job_id, "zombie", lease_s=0.0)
    assert zombie is not None
    old_fence = zombie.fence
    with database.session() as session:
        assert take_from_lost_workers(session) >= 1
    with database.session() as session:
        claimed = transitions.claim(session, job_id, "heir", lease_s=60.0)
        assert claimed is not None
        assert claimed.fence == old_fence + 1
    with pytest.raises(LeaseLost), database.session() as session:
        transitions.fenced(session, job_id, old_fence)
    with database.session() as session:
        transitions.succeed(session, transitions.fenced(session, job_id, old_fence + 1), {})
