"""What the Prometheus operator is told: whom to scrape, and the rules of deploy/prometheus."""

from __future__ import annotations

import yaml

from deploy import inventory
from deploy.k8s.pods import NAME_LABEL, NAMESPACE, Manifest, manifest
from deploy.prometheus.build import files as prometheus_files

RELEASE = {"release": "prometheus"}
"""What the operator's chart selects by; change it where yours is named otherwise."""


def service_monitor() -> Manifest:
    """Every service that has metrics. Its own labels win: `service` in our metrics is not Kubernetes' service."""
    names = [part.name for part in (*inventory.SERVICES, *inventory.STORES) if part.metrics]
    spec = {
        "namespaceSelector": {"matchNames": [NAMESPACE]},
        "selector": {"matchExpressions": [{"key": NAME_LABEL, "operator": "In", "values": names}]},
        "jobLabel": NAME_LABEL,
        "endpoints": [
            {
                "port": "http",
                "path": "/metrics",
                "interval": "10s",
                "scrapeTimeout": "8s",
                "honorLabels": True,
            }
        ],
    }
    return _selected(manifest("monitoring.coreos.com/v1", "ServiceMonitor", NAMESPACE, spec=spec))


def rules() -> Manifest:
    """The rules that the monitor has, word for word."""
    groups = yaml.safe_load(prometheus_files()["rules.yml"])["groups"]
    return _selected(
        manifest("monitoring.coreos.com/v1", "PrometheusRule", NAMESPACE, spec={"groups": groups})
    )


def _selected(made: Manifest) -> Manifest:
    made["metadata"]["labels"] |= RELEASE
    return made
