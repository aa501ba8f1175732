"""Writes Grafana's files: `python -m deploy.grafana.build`. A test proves them fresh, and that every query can be answered.

`provisioning/` names the data source and the folder of dashboards; mount it at /etc/grafana/provisioning, and `dashboards/`
at /var/lib/grafana/dashboards.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from deploy.grafana.panels import DASHBOARDS, Dashboard, Panel

FOLDER = Path(__file__).parent
ACROSS = 24
HEIGHT = 8
SOURCE = {"type": "prometheus", "uid": "mt-prometheus"}
_NAME = re.compile(r"\b(?:mt|vllm|process|python)[_:][a-z0-9_:]*\b")
_QUOTED = re.compile(r'"[^"]*"')


def series_in(expr: str) -> set[str]:
    """The series that a query reads."""
    return set(_NAME.findall(_QUOTED.sub("", expr)))


def files() -> dict[str, str]:
    """Every file, by its path below this folder."""
    found = {f"dashboards/{one.uid}.json": _json(_dashboard(one)) for one in DASHBOARDS}
    source = {
        "name": "Prometheus",
        "access": "proxy",
        "url": "http://localhost:9090",
        "isDefault": True,
        **SOURCE,
    }
    provider = {
        "name": "model-training",
        "folder": "Model training",
        "type": "file",
        "allowUiUpdates": False,
        "options": {"path": "/var/lib/grafana/dashboards"},
    }
    found["provisioning/datasources/prometheus.yaml"] = _yaml({"apiVersion": 1, "datasources": [source]})
    found["provisioning/dashboards/model-training.yaml"] = _yaml({"apiVersion": 1, "providers": [provider]})
    return found


def _dashboard(one: Dashboard) -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    column = row = 0
    for number, panel in enumerate(one.panels, start=1):
        if column + panel.width > ACROSS:
            column, row = 0, row + HEIGHT
        panels.append(_panel(panel, number, column, row))
        column += panel.width
    return {
        "uid": one.uid,
        "title": one.title,
        "tags": ["model-training"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": []},
        "annotations": {"list": []},
        "links": [
            {
                "type": "dashboards",
                "tags": ["model-training"],
                "title": "All",
                "asDropdown": True,
                "keepTime": True,
            }
        ],
        "panels": panels,
    }


def _panel(panel: Panel, number: int, column: int, row: int) -> dict[str, Any]:
    notes = [
        text
        for applies, text in (
            (panel.gpu_only, "Empty without a GPU."),
            (panel.vllm_only, "Empty without vLLM."),
        )
        if applies
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": " ".join(notes),
        "datasource": SOURCE,
        "gridPos": {"x": column, "y": row, "w": panel.width, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": None}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
                "datasource": SOURCE,
            }
            for index, query in enumerate(panel.queries)
        ],
    }


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def _yaml(data: dict[str, Any]) -> str:
    return "# Written by `python -m deploy.grafana.build`; do not edit.\n" + yaml.safe_dump(
        data, sort_keys=False
    )


def main(folder: Path = FOLDER) -> None:
    """Write every file."""
    for name, text in files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
