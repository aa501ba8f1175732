"""`mt` without a platform: complaints are sentences, exit codes are right, progress is readable."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from model_training.cli import console
from model_training.cli.console import duration, run_script, size
from model_training.cli.main import app
from model_training.cli.progress import Detached, watch
from model_training.client.client import Client
from model_training.client.errors import JobFailed
from model_training.client.resources.jobs import Jobs, JobUpdate
from model_training.contracts.jobs import Job, JobError, JobEvent, JobKind, JobProgress, JobState, MetricPoint
from model_training.errors import UserError

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
runner = CliRunner()


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MT_GATEWAY_URL", "MT_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (["jobs", "list"], 1, "No platform was ever started in", "mt up"),
        (["logs", "gateway"], 1, "There is no log of 'gateway'", "none yet"),
        (["train", "--set", "learning_rate=-1"], 1, "learning_rate = '-1'", ""),
        (["train", "--set", "lerning_rate=1"], 1, "lerning_rate", "learning_rate"),
        (["evaluate", "--config", "nowhere.yaml"], 1, "nowhere.yaml", ""),
        (["up", "--port-base", "99999"], 1, "--port-base 99999 must be a number between 1 and 65527", ""),
    ],
)
def test_complaints_are_sentences(arguments: list[str], code: int, message: str, hint: str) -> None:
    result = runner.invoke(app, arguments)
    said = " ".join(result.output.split())
    assert result.exit_code == code
    assert message in said
    assert hint in said
    assert "Traceback" not in said


def test_status_of_nothing_is_not_a_success() -> None:
    result = runner.invoke(app, ["status"])
    assert result.exit_code == 3
    assert "No platform runs" in result.output
    assert runner.invoke(app, ["down"]).output == "No platform runs.\n"


def test_every_command_has_help() -> None:
    top = runner.invoke(app, ["--help"]).output
    for command in (
        "up",
        "down",
        "status",
        "logs",
        "jobs",
        "files",
        "models",
        "train",
        "evaluate",
        "compare",
        "chat",
    ):
        assert command in top
        assert runner.invoke(app, [command, "--help"]).exit_code == 0


def test_a_program_ends_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise UserError("The disk is full.", hint="Free some space.", exit_code=7)

    def interrupted() -> None:
        raise KeyboardInterrupt

    def broken() -> None:
        raise RuntimeError("a bug")

    console.err.file = None  # the console that was made at import must follow pytest's capture
    assert run_script(fail) == 7
    assert capsys.readouterr().err.splitlines() == ["Error: The disk is full.", "Hint: Free some space."]
    assert run_script(interrupted) == 130
    with pytest.raises(RuntimeError):
        run_script(broken)


def test_disk_full_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> None:
        with Path("/dev/full").open("w", encoding="utf-8") as file:
            file.write("x")

    assert run_script(full) == 1
    assert "No space left on device" in capsys.readouterr().err


def make_job(state: JobState, fraction: float = 0.0, **more: object) -> Job:
    progress = JobProgress(fraction=fraction, step=int(fraction * 10), total=10, message="halfway", eta_s=65)
    values = {"id": "ftjob_1", "kind": JobKind.TRAIN, "state": state, "created_at": NOW, "progress": progress}
    return Job.model_validate({**values, **more})


class ScriptedJobs(Jobs):
    """Follows a job that is written down."""

    def __init__(self, updates: list[JobUpdate | BaseException]) -> None:
        self._updates = updates

    def follow(self, job_id: str, *, poll_s: float = 0) -> Iterator[JobUpdate]:
        """The updates in order; an exception among them is raised."""
        for update in self._updates:
            if isinstance(update, BaseException):
                raise update
            yield update


def watched(updates: list[JobUpdate | BaseException], *, terminal: bool = False) -> tuple[Job, str]:
    client = Client("http://127.0.0.1:1", "k")
    client.jobs = ScriptedJobs(updates)
    shown = io.StringIO()
    screen = Console(file=shown, force_terminal=terminal, width=120, highlight=False)
    try:
        return watch(client, "ftjob_1", screen, title="train"), shown.getvalue()
    except UserError as error:
        raise AssertionError(shown.getvalue()) from error


DONE = make_job(JobState.SUCCEEDED, 1.0, started_at=NOW, finished_at=NOW + timedelta(seconds=75))
RUN = [
    JobUpdate(make_job(JobState.QUEUED, queue_position=2)),
    JobUpdate(
        make_job(JobState.RUNNING, 0.5),
        (JobEvent(job_id="ftjob_1", sequence=1, created_at=NOW, type="message", message="warming up"),),
        (MetricPoint(step=5, created_at=NOW, values={"loss": 1.25}),),
    ),
    JobUpdate(DONE),
]


def test_without_a_terminal_progress_is_plain_lines() -> None:
    job, shown = watched([*RUN])
    assert job is DONE
    lines = shown.splitlines()
    assert "train ftjob_1   0% queued · position 2" in lines[0]
    assert lines[1] == "  warming up"
    assert lines[2] == "train ftjob_1  50% halfway · 5/10 · loss 1.250 · 1:05 left"
    assert "100%" in lines[3]
    assert "\x1b" not in shown


def test_what_the_jobs_message_says_is_not_said_twice() -> None:
    progress = JobProgress(fraction=0.5, step=5, total=10, message="step 5/10, loss 1.2")
    point = MetricPoint(step=5, created_at=NOW, values={"loss": 1.2})
    _, shown = watched(
        [JobUpdate(make_job(JobState.RUNNING, progress=progress), (), (point,)), JobUpdate(DONE)]
    )
    assert shown.splitlines()[0] == "train ftjob_1  50% step 5/10, loss 1.2"


def test_parts_of_a_way_that_nobody_counts_are_percent_only() -> None:
    progress = JobProgress(fraction=0.045, step=45, total=1000, message="base is being asked")
    job = make_job(JobState.RUNNING, progress=progress, kind=JobKind.COMPARE)
    _, shown = watched([JobUpdate(job), JobUpdate(DONE)])
    assert "45/1000" not in shown
    assert "4% base is being asked" in shown


def test_in_a_terminal_there_is_a_bar() -> None:
    _, shown = watched([*RUN], terminal=True)
    assert "━" in shown
    assert "took 1:15" in shown
    assert "loss 1.25" in shown


def test_ctrl_c_leaves_the_job_and_says_how_to_come_back(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError) as caught:
        watched([RUN[0], KeyboardInterrupt()])
    left = caught.value.__cause__
    assert isinstance(left, Detached)
    assert left.exit_code == 130
    assert "mt jobs watch ftjob_1" in (left.hint or "")
    console.err.file = None
    console.complain(left)
    assert "Error" not in capsys.readouterr().err


def test_a_failed_job_is_an_error() -> None:
    failed = make_job(JobState.FAILED, error=JobError(code="c", message="no memory", hint="buy some"))
    with pytest.raises(AssertionError) as caught:
        watched([JobUpdate(failed)])
    assert isinstance(caught.value.__cause__, JobFailed)
    assert str(caught.value.__cause__) == "Job ftjob_1 failed: no memory buy some"


@pytest.mark.parametrize(("seconds", "text"), [(None, "-"), (5, "0:05"), (65, "1:05"), (3665, "1:01:05")])
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e12, "2500.0 GB")]
)
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text
