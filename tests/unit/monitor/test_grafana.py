"""The dashboards: fresh, and without a query that nobody can answer."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.grafana.build import FOLDER, files, series_in
from deploy.grafana.panels import DASHBOARDS, Panel
from deploy.prometheus.build import RECORDINGS
from deploy.prometheus.catalog import series

VLLM = frozenset(
    {
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:time_to_first_token_seconds_bucket",
        "vllm:inter_token_latency_seconds_bucket",
        "vllm:prefix_cache_hits_total",
        "vllm:prefix_cache_queries_total",
        "vllm:num_preemptions_total",
    }
)
"""Names that vLLM 0.33 exports; its 0.10 called some of them otherwise."""

PANELS = [(one, panel) for one in DASHBOARDS for panel in one.panels]


def names(one: object) -> str:
    return getattr(one, "uid", None) or getattr(one, "title", "")


def test_the_files_are_fresh() -> None:
    stored = {
        path.relative_to(FOLDER).as_posix(): path.read_text(encoding="utf-8")
        for path in FOLDER.rglob("*")
        if path.suffix in (".json", ".yaml")
    }
    assert stored == files(), "run `python -m deploy.grafana.build`"


@pytest.mark.parametrize(("one", "panel"), PANELS, ids=names)
def test_every_query_names_what_a_service_exports(one: object, panel: Panel) -> None:
    known = series().keys() | dict(RECORDINGS).keys()
    for query in panel.queries:
        read = series_in(query.expr)
        assert read, query.expr
        if panel.vllm_only:
            assert read <= VLLM
        else:
            assert read <= known, query.expr
        labels = {label for name in read if name in series() for label in series()[name].labels} | {"le"}
        for shown in re.findall(r"{{(\w+)}}", query.legend):
            assert shown in labels or not read & series().keys(), f"{query.expr}: no label {shown}"
        for grouped in re.findall(r"\bby \(([^)]*)\)", query.expr):
            wanted = {label.strip() for label in grouped.split(",")}
            assert wanted <= labels or panel.vllm_only, f"{query.expr}: no label of {wanted}"


def test_recording_rules_read_what_a_service_exports() -> None:
    for _, expr in RECORDINGS:
        assert series_in(expr) <= series().keys(), expr


def test_a_query_of_an_unknown_metric_would_be_noticed() -> None:
    assert series_in('sum by (x) (rate(mt_no_such_total{y="mt_text"}[5m])) / vllm:gone') == {
        "mt_no_such_total",
        "vllm:gone",
    }


def test_panels_stand_beside_and_below_each_other() -> None:
    for name, text in files().items():
        if name.endswith(".json"):
            taken: set[tuple[int, int]] = set()
            for panel in json.loads(text)["panels"]:
                at = panel["gridPos"]
                cells = {
                    (x, y)
                    for x in range(at["x"], at["x"] + at["w"])
                    for y in range(at["y"], at["y"] + at["h"])
                }
                assert not cells & taken
                assert at["x"] + at["w"] <= 24
                taken |= cells


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_can_read_every_query(tmp_path: Path) -> None:
    queries = [query.expr for _, panel in PANELS for query in panel.queries]
    rules = [{"record": f"q:{number}", "expr": expr} for number, expr in enumerate(queries)]
    (tmp_path / "q.yml").write_text(
        yaml.safe_dump({"groups": [{"name": "q", "rules": rules}]}), encoding="utf-8"
    )
    done = subprocess.run(
        ["promtool", "check", "rules", "--lint=none", str(tmp_path / "q.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
