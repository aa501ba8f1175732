"""Writes deploy/docker-compose.yml and what it mounts, from the inventory: `python -m deploy.compose.build [FOLDER]`.

A test proves the files fresh. What a host may want different is a variable with a default (docs/guide/compose.md).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from deploy.compose.parts import client, compose_service, operator, profiled
from deploy.compose.wiring import NETWORKS
from deploy.grafana.build import SOURCE
from deploy.inventory import PARTS, SERVICES, VOLUMES
from deploy.inventory_records import Secret

FOLDER = Path(__file__).parent.parent
HEAD = "# Written by `python -m deploy.compose.build` from deploy/inventory.py; do not edit.\n"


def files() -> dict[str, str]:
    """Every file, by its path below deploy/."""
    return {
        "docker-compose.yml": _text(compose()),
        "compose/prometheus.yml": _text(_prometheus()),
        "compose/alertmanager.yml": _text(_alertmanager()),
        "compose/grafana-datasource.yml": _text(_datasource()),
    }


def compose() -> dict[str, Any]:
    """The Compose file, as data."""
    return {
        "services": {one.name: compose_service(one) for one in profiled()}
        | {"client": client(), "operator": operator()},
        "networks": {name: {"internal": True} if internal else {} for name, internal in NETWORKS.items()},
        "volumes": {volume.name: {} for volume in VOLUMES},
        "secrets": {
            secret.value: {"file": f"${{MT_SECRETS:-./compose/secrets}}/{secret.value}"} for secret in Secret
        },
    }


def _prometheus() -> dict[str, Any]:
    several = {"gateway": ("gateway-1", "gateway-2")}
    scraped = [part for part in (*SERVICES, PARTS["prometheus"], PARTS["alertmanager"]) if part.metrics]
    jobs = [
        {
            "job_name": part.name,
            "static_configs": [
                {"targets": [f"{name}:{part.port}" for name in several.get(part.name, (part.name,))]}
            ],
        }
        for part in scraped
    ]
    optional = [
        # Names that do not resolve are no targets: nothing is reported down where these do not run.
        {"job_name": name, "dns_sd_configs": [{"names": [name], "type": "A", "port": PARTS[name].port}]}
        for name in ("qdrant", "dcgm-exporter")
    ]
    # Qdrant guards its metrics with its key.
    optional[0]["authorization"] = {"credentials_file": f"/run/secrets/{Secret.QDRANT_API_KEY}"}
    return {
        "global": {"scrape_interval": "10s", "scrape_timeout": "8s"},
        "rule_files": ["/etc/prometheus/rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": ["alertmanager:9093"]}]}]},
        "scrape_configs": jobs + optional,
    }


def _alertmanager() -> dict[str, Any]:
    """Groups alerts and sends none: the monitor tells its own channels. `MT_ALERTMANAGER_CONFIG` names another file."""
    return {
        "route": {"receiver": "nobody", "group_by": ["alertname"]},
        "inhibit_rules": [
            {
                "source_matchers": ['alertname = "ReadingsAbsent"'],
                "target_matchers": ['severity =~ "ticket|info"'],
            }
        ],
        "receivers": [{"name": "nobody"}],
    }


def _datasource() -> dict[str, Any]:
    source = {
        "name": "Prometheus",
        "access": "proxy",
        "url": "http://prometheus:9090",
        "isDefault": True,
        **SOURCE,
    }
    return {"apiVersion": 1, "datasources": [source]}


class _Plain(yaml.SafeDumper):
    """Writes shared objects out instead of naming them by anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """Always."""
        return True


def _text(data: dict[str, Any]) -> str:
    return HEAD + yaml.dump(data, Dumper=_Plain, sort_keys=False, width=120)


def main(folder: Path = FOLDER) -> None:
    """Write every file."""
    for name, text in files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
