"""The files for Prometheus and Alertmanager: fresh, valid, and of one mind with the monitor's own evaluation."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.prometheus.build import FOLDER, files
from services.monitor.adapters.rule_files import shipped_rules
from services.monitor.domain.conditions import evaluate, reach_s, reads
from services.monitor.domain.rules import Rule, ThresholdRule
from services.monitor.domain.samples import Samples
from tests.unit.monitor.rule_cases import STEP_S, Case, between, fired_labels, firing, quiet

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)
needs_amtool = pytest.mark.skipif(
    shutil.which("amtool") is None, reason="amtool is not installed (Debian: prometheus-alertmanager)"
)
RULES = shipped_rules()


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_files_are_fresh() -> None:
    for name, text in files().items():
        stored = (FOLDER / name).read_text(encoding="utf-8")
        assert stored == text, f"run `python -m deploy.prometheus.build` ({name})"


@needs_promtool
def test_promtool_accepts_rules_and_configuration() -> None:
    assert "SUCCESS" in run("promtool", "check", "rules", "rules.yml", folder=FOLDER)
    assert "SUCCESS" in run("promtool", "check", "config", "prometheus.yml", folder=FOLDER)


@needs_amtool
def test_amtool_accepts_the_configuration() -> None:
    assert "SUCCESS" in run("amtool", "check-config", "alertmanager.yml", folder=FOLDER)


def seen(rule: Rule, case: Case) -> list[dict[str, str]]:
    """Where the monitor's own evaluation holds after a case."""
    kept = {name: reach_s(rule) for name in reads(rule)}
    samples = Samples(kept, now=0.0)
    for step in range(case.steps + 1):
        samples.add(step * STEP_S, [line.at(step) for line in case.lines])
    found = evaluate(rule, samples, float(case.steps * STEP_S))
    return [dict(labels) for labels, one in found.items() if one.holds]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_monitor_fires_and_does_not(rule: Rule) -> None:
    assert seen(rule, firing(rule)) == [fired_labels(rule)]
    assert seen(rule, quiet(rule)) == []


def promtool_case(rule: Rule, case: Case, *, fires: bool) -> dict[str, Any]:
    expected: list[dict[str, Any]] = []
    if fires:
        expected.append({"exp_labels": {"severity": rule.severity, **fired_labels(rule)}})
    return {
        "interval": f"{STEP_S}s",
        "input_series": [line.as_promtool(case.steps) for line in case.lines],
        "alert_rule_test": [
            {"eval_time": f"{case.steps * STEP_S}s", "alertname": rule.name, "exp_alerts": expected}
        ],
    }


@pytest.mark.slow
@needs_promtool
def test_prometheus_fires_and_does_not(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(bare_rules(), encoding="utf-8")
    cases = [promtool_case(rule, firing(rule), fires=True) for rule in RULES]
    cases += [promtool_case(rule, quiet(rule), fires=False) for rule in RULES]
    write_test(tmp_path, cases)
    assert "SUCCESS" in run("promtool", "test", "rules", "test.yml", folder=tmp_path)


@needs_promtool
def test_prometheus_keeps_an_alert_between_its_limits_and_begins_none(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(bare_rules(), encoding="utf-8")
    rule = next(rule for rule in RULES if rule.name == "GpuHot")
    assert isinstance(rule, ThresholdRule)
    begun = promtool_case(rule, between(rule, firing(rule)), fires=False)
    hot, warm = firing(rule).lines[0].start, between(rule, firing(rule)).lines[0].start
    kept = promtool_case(rule, firing(rule), fires=True)
    kept["input_series"][0]["values"] = f"{hot}+0x10 {warm}+0x30"
    kept["alert_rule_test"][0]["eval_time"] = "18m"
    write_test(tmp_path, [begun, kept])
    assert "SUCCESS" in run("promtool", "test", "rules", "test.yml", folder=tmp_path)


def bare_rules() -> str:
    """The shipped rules without their texts, which promtool would want to have repeated."""
    data = yaml.safe_load(files()["rules.yml"])
    for group in data["groups"]:
        for one in group["rules"]:
            one.pop("annotations", None)
    return yaml.safe_dump(data)


def write_test(folder: Path, cases: list[dict[str, Any]]) -> None:
    content = {"rule_files": ["rules.yml"], "evaluation_interval": "30s", "tests": cases}
    (folder / "test.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
