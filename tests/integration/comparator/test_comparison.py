"""A comparison through real gateway, evaluator and comparator processes; only the served model is a stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from libs.common.artifacts import hash_directory
from libs.common.db.engine import Database
from libs.common.service import BackgroundServer, create_app
from model_training.cli.main import app
from model_training.contracts.base import Page
from model_training.contracts.comparisons import Comparison, ComparisonReport, SideBySide
from tests.conftest import ROOT, Stores, free_ports

ITEMS = 40
WEAK, STRONG = "gemma-3-270m", "gemma-3-270m-it"


class Served:
    """A served model: the instructed one knows most answers, the base one few; `gate` holds answers back."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.asked = 0
        self.known = {WEAK: 1, STRONG: 8}
        """Of ten numbers, how many a model knows."""

    def answer(self, model: str, question: str) -> str:
        self.gate.wait(60)
        if "=== Answer A" in question:
            return "clarity: T\ncompleteness: T\nusefulness: T"
        self.asked += 1
        number = int("".join(c for c in question if c.isdigit()) or 0)
        return f"value {number}" if number % 10 < self.known[model] else "something else"


def evaluation_file() -> bytes:
    rows = [
        {
            "id": f"qa-{i}", "suite": "qa_accuracy", "form": "what_does", "question": f"What is number {i}?",
            "answer": f"value {i}", "group": f"function_{i // 2}", "check": {"type": "text", "metric": "exact"},
        }
        for i in range(ITEMS + 5)
    ]  # fmt: skip
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture(scope="module")
def served() -> Served:
    return Served()


@pytest.fixture(scope="module")
def client(stores: Stores, database: Database, served: Served) -> Iterator[httpx.Client]:
    """The gateway's public API with evaluator and comparator behind it."""
    app = create_app("inference")

    @app.post("/v1/chat/completions")
    def chat(body: dict[str, Any]) -> dict[str, Any]:
        text = served.answer(body["model"], body["messages"][-1]["content"])
        usage = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
        choices = [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]
        return {
            "id": "c",
            "created": 1,
            "model": body["model"],
            "choices": choices,
            "usage": usage,
            "prompt": "as read",
        }

    base = free_ports(8)
    names = ["GATEWAY", "INFERENCE", "RAG", "COMPARATOR", "MONITOR", "EVALUATOR", "TRAINER", "KEEPER"]
    urls = {f"MT_{name}_URL": f"http://127.0.0.1:{base + i}" for i, name in enumerate(names)}
    inference = BackgroundServer(app, urls["MT_INFERENCE_URL"])
    inference.start()
    environment = {**os.environ, **stores.environment, **urls, "MT_COMPARATOR_POLL_S": "0.2"}
    processes = [
        subprocess.Popen([sys.executable, "-m", f"services.{name}"], cwd=ROOT, env=environment)
        for name in ("gateway.main", "gateway.keeper", "evaluator.main", "comparator.main")
    ]
    try:
        for name in ("GATEWAY", "EVALUATOR", "COMPARATOR"):
            wait_ready(urls[f"MT_{name}_URL"], processes)
        token = stores.settings.internal_token.get_secret_value()
        with httpx.Client(
            base_url=urls["MT_GATEWAY_URL"], headers={"Authorization": f"Bearer {token}"}, timeout=120
        ) as http:
            yield http
    finally:
        served.gate.set()
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=60)
        inference.stop()


def wait_ready(url: str, processes: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert all(process.poll() is None for process in processes), "a service ended"
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{url} did not become ready")


def wait_for(client: httpx.Client, job_id: str, *states: str) -> dict[str, Any]:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        job = client.get(f"/v1/jobs/{job_id}").json()
        if job["state"] in states:
            return job
        assert job["state"] not in {"failed", "cancelled", "succeeded"}, job
        time.sleep(0.1)
    raise AssertionError(f"{job_id} is not {states}: {job}")


@pytest.fixture(scope="module")
def file_id(client: httpx.Client) -> str:
    answer = client.post(
        "/v1/files", files={"file": ("items.jsonl", evaluation_file())}, data={"purpose": "evaluation"}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def order(file_id: str, **changes: Any) -> dict[str, Any]:
    arms = [{"name": "base", "model": WEAK}, {"name": "instructed", "model": STRONG}]
    suites = [{"name": "qa_accuracy", "file": file_id, "limit": ITEMS}]
    return {"arms": arms, "suites": suites, "test_queries": ["What is number 3?"], **changes}


@pytest.fixture(scope="module")
def finished(client: httpx.Client, file_id: str) -> Comparison:
    """A comparison of both models that has succeeded."""
    judge = {"model": STRONG, "items": 5}
    created = client.post("/v1/comparisons", json=order(file_id, judge=judge)).json()
    wait_for(client, created["id"], "succeeded")
    return Comparison.model_validate(client.get(f"/v1/comparisons/{created['id']}").json())


def test_a_comparison_from_request_to_report(
    client: httpx.Client, stores: Stores, finished: Comparison
) -> None:
    report, job = finished.report, client.get(f"/v1/jobs/{finished.id}").json()
    assert report is not None
    by_name = {arm.name: arm for arm in report.arms}
    assert (by_name["base"].correct, by_name["instructed"].correct, by_name["base"].n) == (4, 32, ITEMS)
    assert report.verdict.recommended == "instructed"
    assert report.verdict.items_available == 5
    assert report.pairs[0].test.startswith("sign-flip by function (exact, 20 groups)")
    assert report.prompts["base"]["examples"]["qa_accuracy"] == "as read"
    assert report.environment["isolation"]
    assert report.judge is not None
    assert (report.judge.items, report.judge.calls, report.judge.unreadable) == (5, 10, 0)
    assert "could not be checked against the grader" in report.judge.words
    assert job["result"]["verdict"]["recommended"] == "instructed"

    path = f"/v1/comparisons/{finished.id}"
    assert ComparisonReport.model_validate(client.get(f"{path}/report.json").json()) == report
    html, markdown = client.get(f"{path}/report.html"), client.get(f"{path}/report.md")
    assert html.headers["content-type"].startswith("text/html")
    assert "Deploy instructed" in html.text
    assert markdown.text.startswith("# Deploy instructed")
    first = Page[SideBySide].model_validate(client.get(f"{path}/items?limit=30").json())
    rest = Page[SideBySide].model_validate(client.get(f"{path}/items?limit=30&after={first.last_id}").json())
    assert (len(first.data), first.has_more, len(rest.data), rest.has_more) == (
        30,
        True,
        ITEMS + 1 - 30,
        False,
    )
    assert rest.data[-1].answers["instructed"].output == "value 3"
    assert rest.data[-1].answers["instructed"].status == "not_graded"

    artifact: str = job["result"]["artifact"]
    directory: Path = stores.home / "artifacts" / artifact
    assert hash_directory(directory) == artifact
    events = client.get(f"/v1/jobs/{finished.id}/events?limit=100").json()["data"]
    assert any(event["type"] == "verdict" for event in events)
    assert sum("Evaluating" in event["message"] for event in events) == 2


def test_finished_evaluations_are_used_again(client: httpx.Client, finished: Comparison) -> None:
    assert finished.report is not None
    arms = [
        {"name": arm.name, "model": arm.model, "evaluation": arm.evaluation} for arm in finished.report.arms
    ]
    before = client.get("/v1/evaluations").json()["data"]
    created = client.post(
        "/v1/comparisons", json={"arms": arms[::-1], "test_queries": ["What is number 3?"]}
    ).json()
    wait_for(client, created["id"], "succeeded")
    again = Comparison.model_validate(client.get(f"/v1/comparisons/{created['id']}").json()).report
    assert again is not None
    assert [arm.correct for arm in again.arms] == [32, 4], (
        "arms of equal effort keep the order of the request"
    )
    assert again.verdict.recommended == "instructed"
    assert client.get("/v1/evaluations").json()["data"] == before


@pytest.mark.slow
def test_items_come_in_blocks_and_stop_once_it_is_decided(client: httpx.Client, file_id: str) -> None:
    created = client.post("/v1/comparisons", json=order(file_id, blocks=2, stop_early=True)).json()
    wait_for(client, created["id"], "succeeded")
    report = Comparison.model_validate(client.get(f"/v1/comparisons/{created['id']}").json()).report
    assert report is not None
    assert report.verdict.recommended == "instructed"
    assert [look.block for look in report.looks] == list(range(1, len(report.looks) + 1))
    assert report.looks[-1].stopped in {"decided", "end"}
    assert report.arms[0].n == report.looks[-1].items == ITEMS * len(report.looks) // 2
    assert len(report.arms[0].evaluations) == len(report.looks)
    groups = [
        {
            item["group"]
            for item in client.get(f"/v1/evaluations/{part}/items", params={"limit": 100}).json()["data"]
        }
        for part in report.arms[0].evaluations
    ]
    assert len(groups) == 1 or not groups[0] & groups[1], "a function lies in one block"
    cost = client.get(f"/v1/evaluations/{report.arms[0].evaluations[0]}").json()["cost"]
    assert cost["items"] == ITEMS // 2
    assert cost["usd_per_item"] > 0


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"stop_early": True}, "blocks"),
        ({"budget_usd": 1.0}, "blocks"),
        ({"arms": [{"name": "oracle", "model": WEAK, "passages": "right"}]}, "arms.0.passages"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_queued(
    client: httpx.Client, file_id: str, changes: dict[str, Any], param: str
) -> None:
    answer = client.post("/v1/comparisons", json=order(file_id, **changes))
    assert (answer.status_code, answer.json()["param"]) == (400, param), answer.text


@pytest.fixture
def at_the_gateway(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line talks to this gateway."""
    monkeypatch.setenv("MT_GATEWAY_URL", str(client.base_url))
    monkeypatch.setenv("MT_API_KEY", client.headers["Authorization"].removeprefix("Bearer "))


@pytest.mark.usefixtures("at_the_gateway")
def test_a_comparison_is_run_again_and_what_changed_is_said(
    finished: Comparison, served: Served, tmp_path: Path
) -> None:
    served.known = {WEAK: 3, STRONG: 8}
    command = ["compare", "--again", finished.id, "--set", f"output_dir={tmp_path}"]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, command)
    served.known = {WEAK: 1, STRONG: 8}
    assert result.exit_code == 0, result.output
    assert "Recommended is instructed, as before." in result.output
    assert "base: " in result.output
    assert "base: 8 of 41 answers are worded otherwise; 8 became right, 0 wrong." in result.output
    assert {path.name for path in tmp_path.iterdir()} == {
        "report.jsonl",
        "report.csv",
        "report.html",
        "report.json",
        "report.md",
    }


@pytest.mark.usefixtures("at_the_gateway")
def test_the_recommended_arm_is_deployed_and_taken_back(finished: Comparison) -> None:
    run = CliRunner(env={"COLUMNS": "200"}).invoke
    dry = run(app, ["deploy", "--from", finished.id, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert f'mt models promote "{STRONG}"' in dry.output
    done = run(app, ["deploy", "--from", finished.id])
    assert done.exit_code == 0, done.output
    assert f"champion is {STRONG}" in done.output
    missing = run(app, ["deploy", "--from", "cmp_nothing"])
    assert missing.exit_code != 0


def test_what_is_not_there_is_said(client: httpx.Client, finished: Comparison) -> None:
    assert client.get("/v1/comparisons/cmp_0").status_code == 404
    path = f"/v1/comparisons/{finished.id}"
    assert client.get(f"{path}/items?after=nothing").json()["param"] == "after"
    assert client.get(f"{path}/report.pdf").status_code in {404, 422}


def test_cancelling_ends_the_evaluations_too(client: httpx.Client, served: Served, file_id: str) -> None:
    served.gate.clear()
    try:
        created = client.post("/v1/comparisons", json=order(file_id)).json()
        wait_for(client, created["id"], "running")
        while len(started := client.get("/v1/evaluations?limit=2").json()["data"]) < 2 or not all(
            row["state"] in {"queued", "running"} for row in started
        ):
            time.sleep(0.1)
        early = client.get(f"/v1/comparisons/{created['id']}/report.html")
        assert early.status_code == 409
        assert "has no report; its state is running" in early.json()["detail"]
        client.post(f"/v1/jobs/{created['id']}/cancel")
        wait_for(client, created["id"], "cancelled")
    finally:
        served.gate.set()
    for row in started:
        wait_for(client, row["id"], "cancelled")


def test_a_suite_that_is_not_in_the_file_fails_with_its_reason(client: httpx.Client, file_id: str) -> None:
    suites = [{"name": "no_such_suite", "file": file_id}]
    created = client.post("/v1/comparisons", json=order(file_id, suites=suites)).json()
    job = wait_for(client, created["id"], "failed")
    assert "arm 'base'" in job["error"]["message"]
    assert "no_such_suite" in job["error"]["message"]
    assert job["error"]["blame"] == "user"
