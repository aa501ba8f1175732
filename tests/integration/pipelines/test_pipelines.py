"""Pipelines over the real gateway, PostgreSQL, Valkey and workers; only what the four kinds of job do is made up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from sqlalchemy import func, select
from typer.testing import CliRunner

from libs.common.db.engine import Database
from libs.common.db.tables import (
    ArtifactRow,
    IndexRow,
    JobEventRow,
    JobRow,
    ModelRow,
    OutboxRow,
    PipelineStepRow,
)
from model_training.cli.main import app
from model_training.client.client import Client
from model_training.client.errors import ApiError
from model_training.contracts.jobs import JobState
from model_training.contracts.pipelines import StepState
from tests.integration.pipelines.chains import (
    STEPS,
    Upload,
    chain,
    jobs,
    jobs_of,
    reused,
    states,
    step_events,
)
from tests.integration.pipelines.conftest import KEY, Lab, wait_until


def everything(database: Database) -> dict[str, int]:
    """How many rows each table has that creating a pipeline might touch."""
    tables = (JobRow, PipelineStepRow, JobEventRow, OutboxRow, IndexRow, ModelRow, ArtifactRow)
    with database.session() as session:
        return {t.__tablename__: session.scalar(select(func.count()).select_from(t)) or 0 for t in tables}


def test_a_chain_runs_to_its_end_and_is_reused_afterwards(gateway: Lab, files: Upload) -> None:
    with gateway.client() as client:
        ids = files(client)
        created = client.pipelines.create(chain(ids))
        assert created.state == JobState.QUEUED
        assert states(created) == dict.fromkeys(STEPS, StepState.WAITING)
        done = gateway.ended(created.id)
        assert states(done) == dict.fromkeys(STEPS, StepState.SUCCEEDED), done.error
        assert (done.state, done.progress.fraction, reused(done)) == (JobState.SUCCEEDED, 1.0, [])
        assert [step.depends_on for step in done.steps] == [[], [], ["train"], ["index", "train", "evaluate"]]
        by_name = {step.name: step for step in done.steps}
        spec = client.jobs.get(str(by_name["compare"].job_id)).spec
        assert spec["arms"][0]["model"] == f"rag:{by_name['index'].job_id}@gemma-3-270m"
        assert spec["arms"][1]["model"] == (by_name["train"].result or {})["fine_tuned_model"]
        assert spec["arms"][1]["evaluation"] == by_name["evaluate"].job_id
        assert done.id in [pipeline.id for pipeline in client.pipelines.list(limit=3).data]
        said = step_events(gateway, done.id)
        assert said[:2] == [f"Step {n} starts as {by_name[n].job_id}." for n in ("index", "train")]
        assert said[-1] == f"Step compare succeeded ({by_name['compare'].job_id})."
        result = client.jobs.get(done.id).result
        assert result is not None
        assert result["steps"]["train"]["id"] == by_name["train"].job_id

        # The same bytes uploaded again are the same input, whatever their ids and the pipeline's name.
        again = {name: _again(client, id) for name, id in ids.items()}
        twin = gateway.ended(client.pipelines.create(chain(again, name="another", metadata={"a": "b"})).id)
        assert (twin.state, reused(twin), jobs(twin)) == (JobState.SUCCEEDED, STEPS, jobs(done))
        assert step_events(gateway, twin.id) == [
            f"Step {n} is reused from {by_name[n].job_id}." for n in STEPS
        ]
        assert jobs_of(gateway, twin.id) == 0

        # Another seed is another training; the index does not depend on it.
        other = chain(ids)
        other.steps[1].body.seed = 7  # type: ignore[union-attr]
        different = gateway.ended(client.pipelines.create(other).id)
        assert reused(different) == ["index"]

        # Asked not to, nothing is reused; and what does not exist any more cannot be.
        fresh = gateway.ended(client.pipelines.create(chain(ids, reuse=False)).id)
        assert (fresh.state, reused(fresh)) == (JobState.SUCCEEDED, [])
        with gateway.database.session() as session:
            for model in session.scalars(select(ModelRow)):
                model.state = "refused"
        assert reused(gateway.ended(client.pipelines.create(chain(ids)).id)) == ["index"]


def _again(client: Client, file_id: str) -> str:
    file = client.files.get(file_id)
    content = client.transport.request("GET", f"/v1/files/{file_id}/content").content
    form = {"file": (f"again-{file.filename}", content)}
    headers = dict(client.transport._http.headers)  # pyright: ignore[reportPrivateUsage]
    url = f"{client.base_url}/v1/files"
    return httpx.post(url, files=form, data={"purpose": file.purpose.value}, headers=headers).json()["id"]


def test_a_retry_repeats_only_what_did_not_succeed(gateway: Lab, files: Upload) -> None:
    """Even where nothing else may be reused."""
    gateway.set("evaluate", fault="Row 3 is bad.")
    with gateway.client() as client:
        failed = gateway.ended(client.pipelines.create(chain(files(client), reuse=False)).id)
        assert failed.state == JobState.FAILED
        assert list(states(failed).values()) == ["succeeded", "succeeded", "failed", "skipped"]
        assert failed.error is not None
        assert (failed.error.code, failed.error.param, failed.error.blame) == (
            "step_failed",
            "steps.evaluate",
            "user",
        )
        assert failed.error.message == "Step evaluate failed: Row 3 is bad."
        assert failed.id in str(failed.error.hint)
        gateway.set("evaluate")
        retried = client.pipelines.retry(failed.id)
        assert (retried.retry_of, retried.files) == (failed.id, failed.files)
        done = gateway.ended(retried.id)
        assert (done.state, reused(done)) == (JobState.SUCCEEDED, ["index", "train"]), done.error
        assert {n: j for n, j in jobs(done).items() if n in reused(done)}.items() <= jobs(failed).items()
        assert jobs_of(gateway, done.id) == 2
        with pytest.raises(ApiError) as refusal:
            client.pipelines.retry(done.id)
        assert (refusal.value.status, refusal.value.code) == (409, "conflict")


def test_what_runs_beside_a_failing_step_finishes_and_nothing_else_starts(
    gateway: Lab, files: Upload
) -> None:
    gateway.set("index", fault="Row 3 is bad.")
    gateway.set("train", seconds=1.0)
    with gateway.client() as client:
        failed = gateway.ended(client.pipelines.create(chain(files(client))).id)
    assert list(states(failed).values()) == ["failed", "succeeded", "skipped", "skipped"]
    assert failed.state == JobState.FAILED


def test_cancelling_cancels_the_running_steps(gateway: Lab, files: Upload) -> None:
    gateway.set("train", seconds=20.0)
    with gateway.client() as client:
        pipeline = client.pipelines.create(chain(files(client)))
        wait_until(lambda: client.pipelines.get(pipeline.id).steps[1].job_state == JobState.RUNNING)
        client.jobs.cancel(pipeline.id)
        done = gateway.ended(pipeline.id)
        assert done.state == JobState.CANCELLED
        assert list(states(done).values())[1:] == ["cancelled", "skipped", "skipped"]
        assert client.jobs.get(str(done.steps[1].job_id)).state == JobState.CANCELLED
        retried = client.pipelines.retry(done.id)
        with pytest.raises(ApiError) as refusal:
            client.pipelines.retry(done.id)
        assert refusal.value.status == 409
        assert f"is being retried already, by {retried.id}" in refusal.value.message
        client.jobs.cancel(retried.id)
        gateway.ended(retried.id)


def test_pausing_pauses_the_running_steps_and_resuming_goes_on(gateway: Lab, files: Upload) -> None:
    gateway.set("train", seconds=3.0)
    with gateway.client() as client:
        pipeline = client.pipelines.create(chain(files(client)))
        wait_until(lambda: client.pipelines.get(pipeline.id).steps[1].job_state == JobState.RUNNING)
        client.jobs.pause(pipeline.id)
        gateway.state(pipeline.id, JobState.PAUSED)
        assert client.pipelines.get(pipeline.id).steps[1].job_state == JobState.PAUSED
        gateway.set("train")
        client.jobs.resume(pipeline.id)
        done = gateway.ended(pipeline.id)
        assert done.state == JobState.SUCCEEDED, done.error
        assert jobs_of(gateway, done.id) == 4

        # Cancelled while it rests, its resting jobs end too.
        gateway.set("index", seconds=20.0)
        pipeline = client.pipelines.create(chain(files(client)))
        wait_until(lambda: client.pipelines.get(pipeline.id).steps[0].job_state == JobState.RUNNING)
        client.jobs.pause(pipeline.id)
        gateway.state(pipeline.id, JobState.PAUSED)
        client.jobs.cancel(pipeline.id)
        wait_until(lambda: client.pipelines.get(pipeline.id).steps[0].state == StepState.CANCELLED)


def test_the_stream_of_a_pipeline_tells_what_happens_and_ends(gateway: Lab, files: Upload) -> None:
    with gateway.client() as client:
        pipeline = client.pipelines.create(chain(files(client)))
        told = [(event.sequence, event.type) for event in client.jobs.watch(pipeline.id)]
        assert [sequence for sequence, _ in told] == list(range(1, len(told) + 1))
        assert told[-1][1] == "state"
        assert client.jobs.get(pipeline.id).state == JobState.SUCCEEDED


def test_the_command_line_uploads_follows_shows_and_retries(
    gateway: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MT_GATEWAY_URL", gateway.url)
    monkeypatch.setenv("MT_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text(
        '{"question": "of the command line", "answer": "a"}\n', encoding="utf-8"
    )
    wanted = chain({"train": "rows.jsonl"}).model_dump(mode="json", exclude_unset=True)
    wanted["steps"] = wanted["steps"][1:3]
    file = tmp_path / "learn.yaml"
    file.write_text(yaml.safe_dump(wanted), encoding="utf-8")
    gateway.set("evaluate", fault="Row 3 is bad.")
    failed = CliRunner().invoke(app, ["pipelines", "create", str(file)])
    assert failed.exit_code == 1
    assert "Step evaluate failed: Row 3 is bad." in failed.output
    assert "mt pipelines retry pipe_" in " ".join(failed.output.split())
    gateway.set("evaluate")
    listed = CliRunner().invoke(app, ["pipelines", "list", "--limit", "1"]).output
    pipeline_id = listed.splitlines()[1].split()[0]
    retried = CliRunner().invoke(app, ["pipelines", "retry", pipeline_id])
    assert retried.exit_code == 0, retried.output
    assert f"retries {pipeline_id}" in retried.output
    assert re.search(r"train +train +reused +100%", retried.output)


def _bad(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    *way, last = path.split(".")

    def change(body: dict[str, Any]) -> None:
        place: Any = body
        for part in way:
            place = place[int(part) if part.isdigit() else part]
        place[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "status", "param"),
    [
        ("files.train", "file_nope", 404, "files.train"),
        ("steps.1.body.training_file", "file_nope", 404, "steps.train.body.training_file"),
        ("steps.1.body.training_file", "{{ files.chunks }}", 400, "steps.train.body.training_file"),
        ("steps.1.body.training_file", "{{ steps.index.id }}", 404, "steps.train.body.training_file"),
        ("steps.1.body.training", {"learning_rate": -1}, 400, "steps.train.body.training.learning_rate"),
        ("steps.0.body.files", ["{{ files.train }}"], 400, "steps.index.body.files.0"),
        ("steps.2.body.model", "gpt-4", 404, "steps.evaluate.body.model"),
        ("steps.2.body.model", "rag:nowhere@gemma-3-270m", 404, "steps.evaluate.body.model"),
        ("steps.2.body.model", "{{ steps.train.id }}", 404, "steps.evaluate.body.model"),
        ("steps.2.body.model", "{{ steps.train.loss }}", 400, "steps.evaluate.body.model"),
        ("steps.2.body.model", "{{ steps.tune.id }}", 400, "steps.evaluate.body.model"),
        (
            "steps.2.body.prompt",
            {"examples_file": "file_nope"},
            404,
            "steps.evaluate.body.prompt.examples_file",
        ),
        ("steps.3.body.training_job", "ftjob_nope", 404, "steps.compare.body.training_job"),
        ("steps.3.name", "train", 400, "steps.train.name"),
        ("steps.0.depends_on", ["compare"], 400, "depends_on"),
        ("steps.2.body.seed", "x", 422, "seed"),
        ("steps.2.kind", "dance", 422, "steps.2"),
        ("surprise", 1, 422, "surprise"),
    ],
)
def test_a_pipeline_that_cannot_run_is_refused_and_leaves_nothing(
    gateway: Lab, shared_files: dict[str, str], path: str, value: Any, status: int, param: str
) -> None:
    body = chain(shared_files).model_dump(mode="json", exclude_none=True)
    _bad(path, value)(body)
    before = everything(gateway.database)
    with gateway.http() as http:
        answer = http.post("/v1/pipelines", json=body)
    assert answer.status_code == status, answer.text
    assert param in answer.json()["param"]
    assert everything(gateway.database) == before


@pytest.fixture(scope="module")
def shared_files(gateway: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    directory = tmp_path_factory.mktemp("files")
    rows = {
        "train": ("fine-tune", '{"question": "q", "answer": "a"}\n'),
        "chunks": ("chunks", '{"id": "1", "title": "t", "text": "t"}\n'),
    }
    with gateway.client() as client:
        ids: dict[str, str] = {}
        for name, (purpose, row) in rows.items():
            (directory / name).write_text(row, encoding="utf-8")
            ids[name] = client.files.upload(directory / name, purpose).id
        yield ids


def test_the_same_request_sent_twice_creates_one_pipeline(gateway: Lab, files: Upload) -> None:
    with gateway.client() as client, gateway.http() as http:
        body = chain(files(client)).model_dump(mode="json", exclude_none=True)
        headers = {"Idempotency-Key": f"key-{body['files']['train']}"}
        first, again = (http.post("/v1/pipelines", json=body, headers=headers).json() for _ in range(2))
        assert first == again
        http.post(f"/v1/jobs/{first['id']}/cancel")
        gateway.ended(first["id"])
        headers["Idempotency-Key"] += "-retry"
        retries = [http.post(f"/v1/pipelines/{first['id']}/retry", headers=headers).json() for _ in range(2)]
        assert retries[0] == retries[1]
        assert gateway.ended(retries[0]["id"]).retry_of == first["id"]
