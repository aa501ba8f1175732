"""Commands that look at and steer what the platform has, against a scripted gateway, in eighty columns."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from model_training.cli import console, dry_run
from model_training.cli.main import app
from model_training.contracts.dry_runs import DataFigures, DryRun, Estimate, Refusal
from model_training.contracts.fine_tuning import EffectiveSetting
from tests.unit.client.test_client import Answer, ScriptedServer, page, problem, serving

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC).isoformat()
runner = CliRunner()


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    with serving() as server:
        monkeypatch.setenv("MT_GATEWAY_URL", server.url)
        monkeypatch.setenv("MT_API_KEY", "mt-test")
        monkeypatch.setenv("COLUMNS", "80")
        yield server


def mt(*arguments: str) -> tuple[int, str]:
    result = runner.invoke(app, list(arguments))
    assert "Traceback" not in result.output
    return result.exit_code, result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs", "show", "x"),
        ("jobs", "watch", "x"),
        ("jobs", "logs", "x", "--follow"),
        ("jobs", "cancel", "x"),
        ("files", "show", "x"),
        ("files", "delete", "x"),
        ("models", "show", "x"),
        ("models", "promote", "x"),
        ("models", "rollback"),
        ("models", "delete", "x"),
        ("keys", "list"),
        ("keys", "revoke", "x"),
        ("projects", "show", "x"),
        ("projects", "set", "x", "--priority", "3"),
    ],
)
def test_a_refusal_is_a_sentence_a_hint_and_no_success(
    gateway: ScriptedServer, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    class Refusing(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            return [problem(403, hint="ask for a key with the scope admin")]

    monkeypatch.setattr(gateway, "answers", Refusing())
    code, said = mt(*arguments)
    assert code == 1
    assert said.splitlines() == ["Error: what is wrong", "Hint: ask for a key with the scope admin"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("keys", "create", "ci", "--scope", "write"), "scope 'write' is none."),
        (("keys", "create", "ci", "--expires", "soon"), "--expires 'soon' is no length of time."),
        (("jobs", "logs", "../../etc/passwd", "--process"), "There is no process log"),
    ],
)
def test_what_is_wrong_by_itself_is_never_sent(
    gateway: ScriptedServer, arguments: tuple[str, ...], message: str
) -> None:
    code, said = mt(*arguments)
    assert code == 1
    assert message in " ".join(said.split())
    assert "Hint: " in said
    assert not gateway.asked


def test_a_new_key_stands_alone_on_standard_output(gateway: ScriptedServer) -> None:
    key = {"id": "key_1", "name": "ci", "project": "proj_1", "scopes": ["read"], "created_at": NOW}
    gateway.on("POST /v1/api_keys", Answer(body=json.dumps({**key, "key": "mt-secret"})))
    result = runner.invoke(app, ["keys", "create", "ci", "--expires", "2h"])
    assert result.stdout == "mt-secret\n"
    assert "key_1 for proj_1: read" in result.stderr
    assert json.loads(gateway.asked[0].body)["expires_in_s"] == 7200


def test_a_project_keeps_the_quotas_that_are_not_named(gateway: ScriptedServer) -> None:
    project = {
        "id": "proj_1", "name": "search", "priority": 0, "weight": 1.0, "version": 7, "created_at": NOW,
        "quotas": {"max_open_jobs": 5},
    }  # fmt: skip
    gateway.on("GET /v1/projects/proj_1", Answer(body=json.dumps(project)))
    gateway.on("PATCH /v1/projects/proj_1", Answer(body=json.dumps(project)))
    code, _ = mt("projects", "set", "proj_1", "--max-running-jobs", "2")
    assert code == 0
    sent = gateway.asked[-1]
    assert sent.headers["If-Match"] == '"7"'
    quotas = json.loads(sent.body)["quotas"]
    assert (quotas["max_open_jobs"], quotas["max_running_jobs"]) == (5, 2)
    assert "name" not in json.loads(sent.body)


def test_the_history_of_a_job_is_a_line_an_event(gateway: ScriptedServer) -> None:
    events = [
        {"job_id": "j", "sequence": n, "created_at": NOW, "type": "message", "message": f"event {n} [/x]"}
        for n in (1, 2)
    ]
    gateway.on("GET /v1/jobs/j/events", Answer(body=page(events)))
    code, said = mt("jobs", "logs", "j")
    assert code == 0
    assert [line.partition("  ")[2] for line in said.splitlines()] == ["event 1 [/x]", "event 2 [/x]"]


def shown(answer: DryRun, monkeypatch: pytest.MonkeyPatch) -> str:
    recorder = Console(width=80, record=True, file=io.StringIO())
    for module in (dry_run, console):
        monkeypatch.setattr(module, "out", recorder)
    dry_run.show(answer)
    return recorder.export_text()


def test_a_dry_run_is_one_page(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = DryRun(
        model="gemma-3-270m",
        accepted=True,
        data=DataFigures(
            rows=630, train_rows=567, validation_rows=63, tokens=34_600, tokens_basis="2.5 characters a token",
            rows_per_step=16, steps=72,
        ),
        effective=[EffectiveSetting(field="device", asked="auto", applied="cpu", reason="there is no GPU")],
        time_s=Estimate(expected=200, low=150, high=310, basis="383 tokens/s, measured in 3 earlier jobs"),
        memory_bytes=Estimate(expected=3.4e9, low=2.9e9, high=4.1e9, basis="arithmetic on the model's shapes"),
        cost_usd=Estimate(expected=0.0056, low=0.0042, high=0.0086, basis="that time at $0.10 an hour"),
    )  # fmt: skip
    text = shown(answer, monkeypatch)
    assert all(len(line) <= 80 for line in text.splitlines())
    for words in ("72 steps of 16 rows", "3:20", "2:30 to 5:10", "3.4 GB", "$0.0056", "would be accepted"):
        assert words in text


def test_a_refused_dry_run_names_every_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = [
        Refusal(code="invalid_input", message=f"{name} = 0: must be greater than 0.", hint="Raise it.")
        for name in ("lora_r", "epochs")
    ]
    text = shown(DryRun(model="m", accepted=False, refusals=refusals), monkeypatch)
    assert "would be refused, for 2 reasons" in text
    assert "lora_r = 0" in text
    assert "epochs = 0" in text
