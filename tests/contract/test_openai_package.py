"""The `openai` package as it is, against a real gateway and a worker that counts instead of training.

Chat goes through the gateway to a neighbour that answers what the description shows; the same package against the real
engine is tests/integration/inference, and the whole way tests/e2e.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from tests.conftest import ROOT, Stores, free_ports
from tests.integration.gateway.conftest import RunningGateway
from tests.integration.gateway.test_keys_and_projects import make_key
from tests.integration.gateway.test_limits_and_config import changed

MODEL = "gemma-3-270m"
ROWS = [{"question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(20)]


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> openai.OpenAI:
    return gateway.openai()


@pytest.fixture(scope="module")
def train_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def file_id(client: openai.OpenAI, train_file: Path) -> str:
    with train_file.open("rb") as stream:
        return client.files.create(file=stream, purpose="fine-tune").id


@pytest.fixture(scope="module")
def trainer(stores: Stores, gateway: RunningGateway, keeper: object) -> Iterator[None]:
    url = f"http://127.0.0.1:{free_ports(1)}"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.contract.toy_trainer", url],
        cwd=ROOT,
        env={**os.environ, **stores.environment},
        stderr=subprocess.DEVNULL,
    )
    _wait(lambda: _answers(f"{url}/readyz"))
    yield
    process.terminate()
    process.wait(timeout=60)


def test_files(client: openai.OpenAI, train_file: Path) -> None:
    with train_file.open("rb") as stream:
        file = client.files.create(file=stream, purpose="fine-tune")
    assert (file.object, file.status, file.bytes) == ("file", "processed", train_file.stat().st_size)
    assert client.files.retrieve(file.id).filename == "train.jsonl"
    assert client.files.content(file.id).content == train_file.read_bytes()
    for _ in range(3):
        with train_file.open("rb") as stream:
            client.files.create(file=stream, purpose="fine-tune")
    pages = [listed.id for listed in client.files.list(limit=2, purpose="fine-tune")]  # walks all pages
    assert file.id in pages
    assert len(pages) == len(set(pages)) >= 4
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_a_job_from_creation_to_a_model(client: openai.OpenAI, file_id: str, trainer: None) -> None:
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=file_id,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 8}}},
        seed=7,
        suffix="mine",
        metadata={"toy": json.dumps({"steps": 5})},
    )
    assert (job.object, job.seed, job.hyperparameters.n_epochs) == ("fine_tuning.job", 7, 1)
    job = _until(client, job.id, "succeeded")
    assert (job.trained_tokens, job.finished_at is not None, job.error) == (1000, True, None)
    assert job.id in [listed.id for listed in client.fine_tuning.jobs.list(limit=2)]

    events = list(client.fine_tuning.jobs.list_events(job.id, limit=3))  # walks all pages, newest first
    assert events[-1].message == "The job is queued."
    assert [e.id for e in events] == [f"{job.id}-{n}" for n in range(len(events), 0, -1)]
    assert len(client.fine_tuning.jobs.list_events(job.id, limit=3).data) == 3

    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id, limit=2))
    assert [c.step_number for c in checkpoints] == [5, 4, 3, 2, 1]
    assert checkpoints[0].metrics.train_loss == 1.5

    assert job.fine_tuned_model
    model = client.models.retrieve(job.fine_tuned_model)
    assert (model.id, model.object) == (job.fine_tuned_model, "model")
    assert model.id in [listed.id for listed in client.models.list()]
    assert client.models.delete(model.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(model.id)


def test_a_job_is_paused_resumed_and_cancelled(client: openai.OpenAI, file_id: str, trainer: None) -> None:
    def create(**toy: Any) -> str:
        job = client.fine_tuning.jobs.create(
            model=MODEL, training_file=file_id, metadata={"toy": json.dumps(toy)}
        )
        _until(client, job.id, "running")
        return job.id

    paused = create(steps=30, sleep_s=0.1)
    assert client.fine_tuning.jobs.pause(paused).status in ("pausing", "paused")
    _until(client, paused, "paused")
    done = len(client.fine_tuning.jobs.checkpoints.list(paused, limit=100).data)
    client.fine_tuning.jobs.resume(paused)
    _until(client, paused, "running")
    assert client.fine_tuning.jobs.cancel(paused).status in ("cancelling", "cancelled")
    ended = _until(client, paused, "cancelled")
    assert ended.finished_at is not None
    kept = client.fine_tuning.jobs.checkpoints.list(paused, limit=100).data
    assert len(kept) >= done  # what was committed stays
    with pytest.raises(openai.ConflictError) as again:
        client.fine_tuning.jobs.resume(paused)
    assert again.value.code == "illegal_transition"


def test_a_failed_job_says_why(client: openai.OpenAI, file_id: str, trainer: None) -> None:
    toy = json.dumps({"steps": 5, "fault": "fail"})
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=file_id, metadata={"toy": toy})
    job = _until(client, job.id, "failed")
    assert job.error is not None
    assert (job.error.code, job.error.message) == ("bad_data", "Row 3 is bad.")


def test_chat_whole_and_in_pieces(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "Hi"}]
    whole = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=8, temperature=0)
    assert whole.object == "chat.completion"
    assert whole.choices[0].message.role
    pieces = client.chat.completions.create(model=MODEL, messages=messages, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "Hello there"
    text = client.completions.create(model=MODEL, prompt="def add(a, b):")
    assert text.object == "text_completion"


def test_every_error_has_its_class(gateway: RunningGateway, client: openai.OpenAI, file_id: str) -> None:
    messages: Any = [{"role": "user", "content": "Hi"}]
    with gateway.http() as admin:
        reader = gateway.openai(make_key(admin, scopes=["read"])["key"])
        hasty = gateway.openai(make_key(admin, scopes=["read"])["key"])
    with pytest.raises(openai.AuthenticationError) as wrong:
        gateway.openai("mt-wrong").models.list()
    assert wrong.value.code == "invalid_api_key"
    with pytest.raises(openai.PermissionDeniedError):
        reader.chat.completions.create(model=MODEL, messages=messages)
    with pytest.raises(openai.NotFoundError) as missing:
        client.fine_tuning.jobs.create(model=MODEL, training_file="file_nope")
    assert missing.value.param == "training_file"
    with pytest.raises(openai.BadRequestError) as bad:
        client.files.create(file=("x.jsonl", b'{"question": 1}\n'), purpose="fine-tune")
    assert bad.value.code == "invalid_file"
    assert "row 1" in bad.value.message
    with pytest.raises(openai.UnprocessableEntityError) as misshapen:
        client.fine_tuning.jobs.create(model=MODEL, training_file=file_id, seed="seven")  # pyright: ignore[reportArgumentType]
    assert misshapen.value.param == "seed"
    toy = json.dumps({"steps": 600, "sleep_s": 0.1})  # it must not be over before it is asked about
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=file_id, metadata={"toy": toy})
    with pytest.raises(openai.ConflictError) as used:
        client.files.delete(file_id)
    assert job.id in used.value.message
    client.fine_tuning.jobs.cancel(job.id)
    with pytest.raises(openai.InternalServerError) as away:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "break"}])
    assert away.value.status_code == 503
    with gateway.http() as admin, changed(admin, "limits", requests_per_s=0.5, burst=1):
        with pytest.raises(openai.RateLimitError) as fast:
            _ = [hasty.models.list() for _ in range(3)]
        assert int(fast.value.response.headers["retry-after"]) >= 1


def _until(client: openai.OpenAI, job_id: str, status: str) -> FineTuningJob:
    _wait(lambda: client.fine_tuning.jobs.retrieve(job_id).status == status)
    return client.fine_tuning.jobs.retrieve(job_id)


def _wait(check: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False
