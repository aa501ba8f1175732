"""Every metric of the platform follows Prometheus's rules, has bounded labels, and stands in the guide."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from deploy.prometheus.catalog import EVERY_SERVICE, LABELS, PAGE, Metric, metrics, page
from model_training.contracts.jobs import JobKind
from model_training.contracts.monitoring import (
    Finding,
    GpuUsage,
    HostUsage,
    JobUsage,
    ModelUsage,
    ProcessUsage,
    QueueUsage,
    Remaining,
    Resources,
    RunningJob,
)
from services.monitor.metrics import ResourceCollector

NO_BASE_UNIT = re.compile(
    r"_(percent|ms|milliseconds|minutes|hours|kb|mb|mib|gb|gib|kilobytes|megabytes|mhz|wh|kwh)(_|$)"
)


def all_at_once() -> Resources:
    """A look in which everything that can be measured was."""
    return Resources(
        taken_at=datetime.now(UTC),
        host=HostUsage(
            cpu_percent=50, cpu_count=2, memory_used=1, memory_total=2, disk_used=1, disk_total=2, load_1m=1
        ),
        services=[ProcessUsage(name="rag", pid=1, cpu_percent=120, memory=5, processes=1)],
        gpus=[
            GpuUsage(
                index=0, name="H", utilization_percent=70, memory_used=1, memory_total=2, temperature_c=60,
                power_w=300, energy_j=5, clocks_hz={"sm": 1e9}, slowed_by=["power_cap"], ecc_errors=0,
            )
        ],
        queues=[QueueUsage(kind=JobKind.TRAIN, queued=1)],
        jobs=[
            RunningJob(
                id="ftjob_1", kind=JobKind.TRAIN, remaining=Remaining(low=1, median=2, high=3),
                values={"loss": 1.0, "eval_loss": 2.0, "learning_rate": 0.1, "grad_norm": 1.0, "tokens_per_s": 9},
                findings=[Finding(finding="plateau", message="flat")], usage=JobUsage(cpu_s=1),
            )
        ],
        models={"ready": 1},
    )  # fmt: skip


def shown(now: Resources | None) -> str:
    """What Prometheus would read."""
    registry = CollectorRegistry()
    registry.register(ResourceCollector(lambda: now, lambda: [ModelUsage(model="base")]))
    return generate_latest(registry).decode()


@pytest.mark.parametrize("metric", metrics(), ids=lambda metric: metric.name)
def test_names_and_labels(metric: Metric) -> None:
    assert re.fullmatch(r"mt_[a-z][a-z0-9_]*", metric.name)
    assert not NO_BASE_UNIT.search(metric.name), "use base units: seconds, bytes, ratio, hertz, joules"
    assert (metric.type == "counter") == metric.name.endswith("_total")
    assert metric.meaning.endswith((".", "?"))
    assert not set(metric.labels) - LABELS.keys(), (
        "say in catalog.LABELS what the label holds and why it is bounded"
    )
    assert not {"job", "instance", "le", "quantile"} & set(metric.labels), (
        "Prometheus has a label of this name"
    )
    assert set(metric.services) <= set(EVERY_SERVICE)


def test_the_guide_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m deploy.prometheus.catalog`"


def test_the_collector_shows_what_the_catalog_says() -> None:
    text = shown(all_at_once())
    found = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    listed = {m.name: m.type for m in metrics() if m.where == "services/monitor/metrics.py"}
    assert found == listed
    for metric in metrics():
        if metric.where == "services/monitor/metrics.py" and metric.labels:
            labels = re.search(rf"^{metric.name}{{(.*?)}} ", text, re.MULTILINE)
            assert labels, metric.name
            assert set(re.findall(r"(\w+)=", labels[1])) == set(metric.labels)


def test_values_are_in_base_units() -> None:
    text = shown(all_at_once())
    assert "mt_host_cpu_ratio 0.5\n" in text
    assert 'mt_service_cpu_cores{service="rag"} 1.2\n' in text
    assert 'mt_gpu_utilization_ratio{gpu="0"} 0.7\n' in text
    assert 'mt_gpu_slowed{gpu="0",reason="power_cap"} 1.0\n' in text
    assert 'mt_training_finding{finding="plateau",job_id="ftjob_1"} 1.0\n' in text
    assert 'mt_training_finding{finding="diverging",job_id="ftjob_1"} 0.0\n' in text


def test_a_database_that_is_away_leaves_the_readings_out() -> None:
    assert shown(None) == ""


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_finds_nothing_to_complain_about() -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=shown(all_at_once()),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
