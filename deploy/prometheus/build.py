"""Writes the files of this folder: `python -m deploy.prometheus.build [FOLDER]`. A test proves that they are fresh.

Prometheus scrapes each service and evaluates the rules that the monitor has; Alertmanager groups and sends. Where both run,
the monitor's own channels are left empty, or everything is told twice.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from deploy.prometheus.catalog import EVERY_SERVICE
from deploy.prometheus.promql import alert
from services.monitor.adapters.rule_files import shipped_rules
from services.monitor.domain.notices import Manners
from services.monitor.domain.rules import Rule

FOLDER = Path(__file__).parent
RUNBOOKS = "https://github.com/model-training/model-training/blob/main/"
HEAD = "# Written by `python -m deploy.prometheus.build`; do not edit.\n"
PORTS = {
    "gateway": 8000,
    "inference": 8001,
    "rag": 8002,
    "comparator": 8003,
    "monitor": 8004,
    "evaluator": 8005,
    "trainer": 8006,
    "keeper": 8007,
}
RECORDINGS = (
    ("mt:http_requests:rate5m", "sum by (service) (rate(mt_http_requests_total[5m]))"),
    (
        "mt:http_errors:ratio5m",
        'sum by (service) (rate(mt_http_requests_total{status=~"5.."}[5m]))'
        " / sum by (service) (rate(mt_http_requests_total[5m]))",
    ),
    (
        "mt:inference_first_token_seconds:p95_5m",
        "histogram_quantile(0.95, sum by (le, model) (rate(mt_inference_first_token_seconds_bucket[5m])))",
    ),
    ("mt:inference_tokens:rate5m", "sum by (direction) (rate(mt_inference_tokens_total[5m]))"),
    ("mt:jobs_ended:rate1h", "sum by (kind, outcome) (rate(mt_jobs_ended_total[1h]))"),
)
"""Queries that dashboards ask again and again, with the names under which Prometheus keeps their answers."""


def files(rules: list[Rule] | None = None) -> dict[str, str]:
    """Every file, by name."""
    chosen = rules if rules is not None else shipped_rules()
    return {
        "rules.yml": _text({"groups": [_recordings(), _alerts(chosen)]}),
        "prometheus.yml": _text(_prometheus()),
        "alertmanager.yml": _text(_alertmanager(Manners())),
    }


def _recordings() -> dict[str, Any]:
    return {
        "name": "model-training-recordings",
        "interval": "30s",
        "rules": [{"record": name, "expr": query} for name, query in RECORDINGS],
    }


def _alerts(rules: list[Rule]) -> dict[str, Any]:
    return {
        "name": "model-training",
        "interval": "10s",
        "rules": [*(alert(rule, RUNBOOKS) for rule in rules), _monitor_down()],
    }


def _monitor_down() -> dict[str, Any]:
    """The one rule that the monitor cannot evaluate."""
    return {
        "alert": "MonitorDown",
        "expr": 'up{job="monitor"} == 0',
        "for": "30s",
        "labels": {"severity": "page"},
        "annotations": {
            "summary": "the monitor does not answer",
            "runbook": f"{RUNBOOKS}docs/guide/runbooks.md#servicedown",
        },
    }


def _prometheus() -> dict[str, Any]:
    return {
        "global": {"scrape_interval": "10s", "scrape_timeout": "8s"},
        "rule_files": ["rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": ["localhost:9093"]}]}]},
        "scrape_configs": [
            {"job_name": name, "static_configs": [{"targets": [f"localhost:{PORTS[name]}"]}]}
            for name in EVERY_SERVICE
        ],
    }


def _alertmanager(manners: Manners) -> dict[str, Any]:
    webhook = {"url": "http://localhost:9000/alerts", "send_resolved": True}
    return {
        "route": {
            "receiver": "webhook",
            "group_by": ["alertname"],
            "group_wait": f"{manners.group_wait_s:g}s",
            "group_interval": f"{manners.group_interval_s:g}s",
            "repeat_interval": f"{manners.repeat_every_s / 3600:g}h",
            "routes": [{"receiver": "nobody", "matchers": ['severity = "info"']}],
        },
        "inhibit_rules": [
            {
                "source_matchers": ['alertname = "ReadingsAbsent"'],
                "target_matchers": ['severity =~ "ticket|info"'],
            }
        ],
        "receivers": [{"name": "webhook", "webhook_configs": [webhook]}, {"name": "nobody"}],
    }


def _text(data: dict[str, Any]) -> str:
    return HEAD + yaml.safe_dump(data, sort_keys=False, width=120)


def main(folder: Path = FOLDER) -> None:
    """Write every file."""
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
