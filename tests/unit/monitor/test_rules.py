"""Rule files: what they may say, and how complaints read."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.prometheus.catalog import ROOT, series
from libs.common.egress import Egress
from services.monitor.adapters.apprise_channels import AppriseSender
from services.monitor.adapters.rule_files import load, shipped_rules
from services.monitor.domain.conditions import reads
from services.monitor.domain.rules import InvalidRule, read_rules
from services.monitor.service.alerting import runbook_of

HOT = {"name": "Hot", "kind": "threshold", "severity": "page", "summary": "hot", "metric": "mt_x", "above": 3}


def test_shipped_rules_read_metrics_that_exist() -> None:
    known = series()
    for rule in shipped_rules():
        assert set(reads(rule)) <= known.keys(), f"{rule.name} reads a metric that no service exports"
        for name in reads(rule):
            assert set(rule.by) <= {*known[name].labels}, f"{rule.name}: {name} has no such label"
            assert set(rule.match) <= {*known[name].labels, "le"}, rule.name


def test_every_shipped_rule_has_a_runbook() -> None:
    for rule in shipped_rules():
        page, _, anchor = runbook_of(rule).partition("#")
        headings = [
            line.lstrip("# ").strip().lower()
            for line in (ROOT / page).read_text(encoding="utf-8").splitlines()
            if line.startswith("#")
        ]
        assert anchor in headings, f"write `## {rule.name}` in {page}"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"above": None}, "exactly one of `above` and `below`"),
        ({"below": 1}, "exactly one of `above` and `below`"),
        ({"clear": 5}, "`clear` must lie on the quiet side"),
        ({"kind": "treshold"}, "Hot"),
        ({"severity": "high"}, "Hot: severity ('high')"),
        ({"abov": 1}, "Hot: abov"),
        ({"for_s": -1}, "Hot: for_s (-1)"),
        ({"name": "hot"}, "name ('hot')"),
    ],
)
def test_a_wrong_rule_is_named(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidRule) as caught:
        read_rules([{**HOT, **change}], "mine.yaml")
    assert "mine.yaml" in str(caught.value)
    assert complaint in str(caught.value)


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidRule, match="Hot stands twice"):
        read_rules([HOT, HOT])


def test_own_rules_replace_add_and_leave_out(tmp_path: Path) -> None:
    own = tmp_path / "alerts.yaml"
    own.write_text(
        """
rules:
  - {name: GpuHot, kind: threshold, severity: info, metric: mt_gpu_temperature_celsius, above: 50, summary: warm}
  - {name: Mine, kind: rate, severity: info, metric: mt_jobs_ended_total, window_s: 60, above: 1, summary: many}
without: [DiskFull]
channels: [{name: hook, urls: ["json://localhost/${HOOK}"]}]
manners: {group_wait_s: 1}
""",
        encoding="utf-8",
    )
    config = load(own, ("json://localhost/other",), {"HOOK": "secret"})
    rules = {rule.name: rule for rule in config.rules}
    assert rules["GpuHot"].severity == "info"
    assert "Mine" in rules
    assert "DiskFull" not in rules
    assert [channel.urls for channel in config.channels] == [
        ("json://localhost/secret",),
        ("json://localhost/other",),
    ]
    assert config.manners.group_wait_s == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("without: [Nothing]", "Nothing, which is no rule"),
        ("channel: []", "'channel' is unknown"),
        ("channels: [{name: hook, urls: ['json://${NOT_THERE}']}]", "has no NOT_THERE"),
        ("channels: [{name: hook, urls: []}]", "urls"),
        ("manners: {group_wait_s: -1}", "group_wait_s"),
        ("rules: [", "cannot be read"),
        ("- a list", "write a mapping"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    own = tmp_path / "alerts.yaml"
    own.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRule) as caught:
        load(own, (), {})
    assert complaint in str(caught.value)


def test_a_url_that_apprise_does_not_know_is_refused_without_its_secret(tmp_path: Path) -> None:
    own = tmp_path / "alerts.yaml"
    own.write_text("channels: [{name: hook, urls: ['nosuch://secret@host']}]", encoding="utf-8")
    with pytest.raises(ValueError, match="hook") as caught:
        AppriseSender(load(own).channels, Egress())
    assert "secret" not in str(caught.value)
