"""`mt eval gate`: which baseline is meant, and what a file of one must look like."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from model_training.cli import evaluations
from model_training.contracts.base import Page
from model_training.contracts.evaluations import Evaluation, PromptSpec
from model_training.contracts.evaluations_gate import GateReply, GateRequest, GateSuite, Verdict
from model_training.contracts.jobs import JobState

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def evaluation(
    name: str, hours: int, model: str = "gemma-3-270m", state: JobState = JobState.SUCCEEDED
) -> Evaluation:
    created = NOON + timedelta(hours=hours)
    return Evaluation(id=name, state=state, created_at=created, model=model, prompt=PromptSpec())


EVALUATIONS = [
    evaluation("eval_later", 9),
    evaluation("eval_new", 5),
    evaluation("eval_failed", 4, state=JobState.FAILED),
    evaluation("eval_tuned", 3, model="model_1"),
    evaluation("eval_base", 2),
]


class FakeClient:
    """Knows EVALUATIONS; the gate's verdict is set by the test."""

    def __init__(self, verdict: Verdict = "no_fall") -> None:
        self.asked: GateRequest | None = None
        self._verdict: Verdict = verdict
        self.evaluations = self

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def get(self, name: str) -> Evaluation:
        return next(one for one in EVALUATIONS if one.id == name)

    def list(self, **_: Any) -> Page[Evaluation]:
        return Page(data=EVALUATIONS, first_id=None, last_id=None, has_more=False)

    def gate(self, evaluation_id: str, request: GateRequest) -> GateReply:
        self.asked = request
        suite = GateSuite(
            suite="code", verdict=self._verdict, reason="because", n=10, rate=0.5, baseline_rate=0.6, difference=-0.1,
            low=-0.3, high=0.1, p=0.2, smallest_visible=0.4, wins=["a"], losses=["b", "c"], only_new=1, only_baseline=0,
        )  # fmt: skip
        passed = self._verdict != "fell"
        return GateReply(
            evaluation=evaluation_id,
            baseline=request.baseline,
            passed=passed,
            verdict=self._verdict,
            suites=[suite],
        )


def run(monkeypatch: pytest.MonkeyPatch, client: FakeClient, *arguments: str) -> Any:
    monkeypatch.setattr(evaluations, "connect", lambda: client)
    return CliRunner().invoke(evaluations.app, ["gate", "eval_new", *arguments])


@pytest.mark.parametrize(
    ("named", "meant"),
    [
        ("eval_base", "eval_base"),
        ("previous", "eval_tuned"),
        ("gemma-3-270m", "eval_base"),
        ("model_1", "eval_tuned"),
    ],
)
def test_baselines_by_name(monkeypatch: pytest.MonkeyPatch, named: str, meant: str) -> None:
    client = FakeClient()
    assert run(monkeypatch, client, "--baseline", named).exit_code == 0
    assert client.asked is not None
    assert client.asked.baseline == meant


def test_a_baseline_that_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(monkeypatch, FakeClient(), "--baseline", "no-such")
    assert found.exit_code == 1
    assert "no such file" in found.output


def test_a_file_is_read_and_its_faults_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    row = '{"item_id": "a", "suite": "s", "group": "g", "correct": true, "output": "more"}\n'
    path.write_text(row + "\n" + row.replace('"a"', '"b"'), encoding="utf-8")
    client = FakeClient()
    assert run(monkeypatch, client, "--baseline", str(path)).exit_code == 0
    assert client.asked is not None
    assert [item.item_id for item in client.asked.items or []] == ["a", "b"]
    path.write_text(row + "{}\n", encoding="utf-8")
    found = run(monkeypatch, client, "--baseline", str(path))
    assert found.exit_code == 1
    assert "row 2" in " ".join(found.output.split())


@pytest.mark.parametrize(
    ("verdict", "options", "code", "words"),
    [
        ("no_fall", [], 0, "open"),
        ("fell", [], 1, "closed"),
        ("cannot_tell", [], 0, "open"),
        ("cannot_tell", ["--strict"], 3, "cannot tell"),
    ],
)
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch, verdict: Verdict, options: list[str], code: int, words: str
) -> None:
    found = run(monkeypatch, FakeClient(verdict), "--baseline", "previous", *options)
    assert found.exit_code == code
    assert words in found.output
    assert "lost: b, c" in found.output
