"""Every panel of the shipped dashboards on a platform that is used, as a real Prometheus sees it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.grafana.check import look
from model_training.client import Client
from model_training.contracts.chat import Retrieval
from model_training.contracts.comparisons import ArmSpec, ComparisonCreate
from model_training.contracts.evaluations import PromptSpec, SuiteSpec
from model_training.contracts.files import FilePurpose
from model_training.contracts.indexes import SearchOptions
from model_training.contracts.jobs import JobState
from model_training.datasets.package.build import build_from_packages
from model_training.datasets.package.records import Options
from model_training.embedded.platform import Platform
from model_training.embedded.units import SERVICES
from tests.conftest import free_ports
from tests.e2e.conftest import TINY
from tests.integration.monitor.conftest import wait_for
from tests.integration.monitor.prometheus import configured, running_prometheus, wants_prometheus, webhook
from tests.tiny_bert import save_tiny_reranker

pytestmark = [pytest.mark.slow, wants_prometheus]

RERANKER = "ms-marco-minilm-l6-v2"
ALERTS = {
    "rules": [
        {"name": "EverythingIsThere", "kind": "threshold", "severity": "ticket", "metric": "mt_service_up",
         "aggregate": "min", "above": 0, "for_s": 0, "summary": "so that a message is sent"},
    ],
    "manners": {"group_wait_s": 0},
}  # fmt: skip


@pytest.fixture
def watched(model_dir: Path, tmp_path: Path) -> Iterator[tuple[Platform, str]]:
    """A platform that looks at itself every second, and the address of the Prometheus that scrapes it."""
    save_tiny_reranker(model_dir / RERANKER)
    base = free_ports(9)
    prometheus = free_ports(2)
    with (
        tempfile.TemporaryDirectory(prefix="mt-panels-") as home,
        webhook() as (hook, _),
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in {
            "MODEL_DIR": str(model_dir),
            "HOME": home,
            "MONITOR_INTERVAL_S": "1",
            "CANARY_EVERY_S": "10",
            "ALERT_URLS": f'["{hook.replace("http", "json")}"]',
        }.items():
            patch.setenv(f"MT_{name}", value)
        patch.delenv("MT_GATEWAY_URL", raising=False)
        Path(home, "alerts.yaml").write_text(yaml.safe_dump(ALERTS), encoding="utf-8")
        targets = {service.name: f"http://127.0.0.1:{base + service.offset}" for service in SERVICES}
        configured(tmp_path, targets, prometheus + 1, hook)
        platform = Platform(home, port_base=base, model=TINY)
        with running_prometheus(tmp_path, prometheus) as url, platform.running():
            yield platform, url


def test_every_panel_of_a_platform_that_is_used_has_data(
    watched: tuple[Platform, str], tmp_path: Path
) -> None:
    platform, prometheus = watched
    started = time.time()
    with Client(home=platform.home.root) as client:
        use(client, tmp_path / "dataset")
        wait_for(
            lambda: any(one.distance_nats is not None for one in client.monitoring.canaries().data),
            "a second round of canaries",
        )
    time.sleep(5)  # the last readings are scraped
    looks = list(look(prometheus, started, time.time()))
    assert len(looks) > 70
    assert [
        f"{one.dashboard.title}: {one.panel.title}" for one in looks if one.empty and not one.excused
    ] == []


def use(client: Client, dataset: Path) -> None:
    """The main job, and what people do besides: search, order again, chat with sources."""
    build_from_packages(["toolz"], dataset, Options(tasks=6, questions=6, rows=40))
    train, chunks, evaluation = (
        client.files.upload(dataset / f"{name}.jsonl", purpose).id
        for name, purpose in (
            ("train", FilePurpose.FINE_TUNE),
            ("chunks", FilePurpose.CHUNKS),
            ("evaluation", FilePurpose.EVALUATION),
        )
    )
    index = client.indexes.create("toolz", [chunks]).id
    job = client.fine_tuning.create(TINY, train, training={"max_steps": 40, "batch_size": 4, "eval_steps": 5})
    done(client, index)
    done(client, job.id)
    tuned = str(client.fine_tuning.get(job.id).fine_tuned_model)
    for _ in range(3):
        client.indexes.query(index, "how are dicts merged?", options=SearchOptions(rerank=RERANKER))
        asked = client.chat.follow(
            f"rag:{index}@{tuned}", "What does take do?", max_tokens=8, retrieval=Retrieval(citations=True)
        )
        assert list(asked)
        time.sleep(2)  # a counter's growth is seen between two scrapes
    arms = [ArmSpec(name="base", model=TINY), ArmSpec(name="tuned", model=tuned)]
    comparison = client.comparisons.create(
        ComparisonCreate(
            arms=arms,
            suites=[SuiteSpec(name="code_generation", file=evaluation, limit=3)],
            prompt=PromptSpec(examples_file=train, max_tokens=16),
        )
    )
    done(client, comparison.id)


def done(client: Client, job_id: str) -> None:
    job = client.jobs.wait(job_id, timeout_s=280)
    assert job.state == JobState.SUCCEEDED, job.error
