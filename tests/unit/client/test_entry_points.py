"""The parts of the four entry points that need no platform; the whole runs in the end-to-end tests."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from model_training.client.client import Client
from model_training.client.errors import ApiError
from model_training.client.resources.models import Models
from model_training.comparison_service import main as comparison
from model_training.config.comparison_config import ComparisonConfig
from model_training.config.evaluation_config import EvaluationConfig
from model_training.config.monitoring_config import MonitoringConfig
from model_training.contracts.base import Page
from model_training.contracts.evaluations import EvaluationItem, SuiteSummary
from model_training.contracts.files import FilePurpose
from model_training.contracts.jobs import Job, JobKind, JobState
from model_training.contracts.models import ModelObject
from model_training.contracts.monitoring import GpuUsage, HostUsage, Resources
from model_training.contracts.problems import Problem
from model_training.errors import UserError
from model_training.monitoring_service.main import alerts_of
from model_training.testing_service.main import metrics_of, resolve_model, suites_of

NOW = datetime.now(UTC)
TUNED = ModelObject(id="model_2", created=2, root="gemma-3-270m")
BASE = ModelObject(id="gemma-3-270m", created=1)


class FixedModels(Models):
    """Knows the models that a test names, and remembers what was imported."""

    def __init__(self, *models: ModelObject) -> None:
        self._models = models
        self.imported: list[Path] = []

    def list(self) -> Page[ModelObject]:
        """All of them."""
        return Page(data=[*self._models])

    def get(self, model_id: str) -> ModelObject:
        """One of them, or the gateway's 404."""
        for model in self._models:
            if model.id == model_id:
                return model
        raise ApiError(Problem(title="t", status=404, detail="none", code="not_found"))

    def import_adapter(self, directory: Path | str) -> ModelObject:
        """Pretend to bring it in."""
        self.imported.append(Path(directory))
        return TUNED


@pytest.fixture
def client() -> Client:
    client = Client("http://127.0.0.1:1", "k")
    client.models = FixedModels(TUNED, BASE)
    return client


def test_a_model_path_may_be_a_folder_or_a_model(client: Client, tmp_path: Path) -> None:
    assert resolve_model(client, str(tmp_path)) == "model_2"
    assert resolve_model(client, "model_2") == "model_2"
    assert resolve_model(client, "rag:docs@gemma-3-270m") == "rag:docs@gemma-3-270m"
    assert isinstance(client.models, FixedModels)
    assert client.models.imported == [tmp_path]


@pytest.mark.parametrize("named", ["checkpoints/best_model", "model_9"])
def test_a_model_path_that_is_nothing_is_one_sentence(client: Client, named: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve_model(client, named)
    assert caught.value.message == (
        f"model_path = '{named}' is neither a folder on this machine nor a model of the platform."
    )
    assert "model_2" in (caught.value.hint or "")


def test_a_suite_without_items_is_named_before_anything_is_uploaded(client: Client, tmp_path: Path) -> None:
    items = tmp_path / "items.jsonl"
    items.write_text(json.dumps({"suite": "qa_accuracy"}) + "\nbroken\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"names 'code_generation', and .* has no item of it") as caught:
        suites_of(client, ["qa_accuracy", "code_generation"], str(items), None)
    assert "It has qa_accuracy" in (caught.value.hint or "")


def test_suites_with_items_of_their_own_need_no_file(client: Client) -> None:
    (suite,) = suites_of(client, ["humaneval"], EvaluationConfig().evaluation_file, 5)
    assert (suite.name, suite.file, suite.limit) == ("humaneval", None, 5)


def test_tasks_of_a_benchmark_are_uploaded_as_items_of_the_one_suite_for_them(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[list[EvaluationItem]] = []

    def upload(path: Path, purpose: FilePurpose) -> SimpleNamespace:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        sent.append([EvaluationItem.model_validate_json(line) for line in lines])
        return SimpleNamespace(id="file_1")

    monkeypatch.setattr(client.files, "upload", upload)
    tasks = tmp_path / "tasks.json"
    task = {
        "task_id": 2,
        "prompt": "Add.",
        "code": "def add(a, b):\n    return a + b",
        "test_list": ["assert add(1, 2) == 3"],
    }
    tasks.write_text(json.dumps([task]), encoding="utf-8")
    suites = suites_of(client, ["humaneval", "mbpp"], str(tasks), None)
    assert [(suite.name, suite.file) for suite in suites] == [("humaneval", None), ("mbpp", "file_1")]
    assert [(item.id, item.suite) for item in sent[0]] == [("MBPP/2", "mbpp")]
    with pytest.raises(UserError, match="names 2 suites"):
        suites_of(client, ["mbpp", "qa_accuracy"], str(tasks), None)


def test_metrics_are_flat() -> None:
    suite = SuiteSummary(
        suite="s", n=4, correct=1, pass_rate=0.25, ci_low=0.1, ci_high=0.5, scores={"f1": 0.3}
    )
    assert metrics_of([suite]) == {"s.pass_rate": 0.25, "s.ci_low": 0.1, "s.ci_high": 0.5, "s.f1": 0.3}


def test_arms_follow_from_what_there_is() -> None:
    config = ComparisonConfig(test_queries=["q"])
    assert {arm.name: arm.model for arm in comparison.make_arms(config, TUNED, "docs")} == {
        "base": "gemma-3-270m",
        "rag": "rag:docs@gemma-3-270m",
        "tuned": "model_2",
        "tuned+rag": "rag:docs@model_2",
    }
    assert [arm.name for arm in comparison.make_arms(config, None, "docs")] == ["base", "rag"]
    only = ComparisonConfig(test_queries=["q"], arms=["tuned"])
    with pytest.raises(UserError, match="there is none"):
        comparison.make_arms(only, None, None)


def resources(**host: float) -> Resources:
    values = {
        "cpu_percent": 1.0,
        "cpu_count": 2,
        "memory_used": 10,
        "memory_total": 100,
        "disk_used": 10,
        "disk_total": 100,
        "load_1m": 0.0,
    }
    gpu = GpuUsage(
        index=0, name="g", utilization_percent=0, memory_used=1, memory_total=100, temperature_c=95
    )
    return Resources(taken_at=NOW, host=HostUsage.model_validate({**values, **host}), gpus=[gpu])


def test_alerts_name_what_passes_its_limit() -> None:
    waiting = Job(
        id="ftjob_1", kind=JobKind.TRAIN, state=JobState.QUEUED, created_at=NOW - timedelta(seconds=1000)
    )
    alerts = {
        a.name: a.message for a in alerts_of(MonitoringConfig(), (waiting,), resources(memory_used=95), NOW)
    }
    assert set(alerts) == {"queue_wait", "memory", "gpu_temperature"}
    assert "95%" in alerts["memory"]
    assert "has waited 16:40" in alerts["queue_wait"]
    calm = MonitoringConfig(queue_wait_alert_s=2000, memory_alert=0.96, gpu_temperature_alert_c=110)
    calm.update(gpu_temperature_warning_c=100)
    assert not list(alerts_of(calm, (waiting,), resources(memory_used=95), NOW))
