"""Every metric of the platform, read from the code that makes it: no process is started and no service imported.

A metric is a call of one of prometheus_client's types with its name, help and labels written out. `python -m
deploy.prometheus.catalog` writes the table of `docs/guide/metrics.md`; tests check that it is fresh, that names follow
Prometheus's rules and that every label is known to be bounded.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "guide" / "metrics.md"
SOURCES = ("services", "libs/common")

TYPES = {
    "Counter": "counter",
    "CounterMetricFamily": "counter",
    "Gauge": "gauge",
    "GaugeMetricFamily": "gauge",
    "Histogram": "histogram",
    "HistogramMetricFamily": "histogram",
}
UNITS = {
    "seconds": "seconds",
    "bytes": "bytes",
    "ratio": "0 to 1",
    "celsius": "degrees Celsius",
    "watts": "watts",
    "joules": "joules",
    "hertz": "hertz",
    "dollars": "US dollars",
    "nats": "nats per token",
    "cores": "processor cores",
}
"""Base units by the word that a name ends with (before `_total`); all other names count things."""

LABELS = {
    "service": "a service of the platform (8)",
    "method": "an HTTP method",
    "route": "a route's template, never a path that was asked for",
    "status": "an HTTP status",
    "kind": "a kind of job (6), or of model: base and tuned",
    "state": "a state of a job (9), a model or an alert",
    "verdict": "what a check found",
    "outcome": "how an attempt or a delivery ended",
    "reason": "why an answer ended, or a GPU slowed down: lists in the code",
    "direction": "read or written, received or sent",
    "model": "a model in memory now, or one that canaries ask",
    "index": "an index in memory now, or one that was measured",
    "endpoint": "an endpoint of others that an admin made known",
    "mode": "a way of searching",
    "job_id": "a job that runs now (100 at most)",
    "bound": "low, median or high end of an estimate",
    "finding": "what can be noticed of a training (4)",
    "gpu": "a GPU's number on its machine",
    "clock": "sm or memory",
    "rule": "an alert rule",
    "severity": "page, ticket or info",
    "channel": "a notification channel of the configuration",
    "signal": "a signal of answer quality: a list in the code",
    "side": "input or output",
    "engine": "an inference engine",
    "stage": "a stage of a request",
    "process": "a process of a service",
}
"""What each label holds, and so why it is bounded. A label that is not here fails the tests."""

EVERY_SERVICE = ("comparator", "evaluator", "gateway", "inference", "keeper", "monitor", "rag", "trainer")
WORKERS = ("comparator", "evaluator", "rag", "trainer")


@dataclass(frozen=True)
class Metric:
    """One metric, as Prometheus shows it; a counter's name ends with `_total`."""

    name: str
    type: str
    labels: tuple[str, ...]
    meaning: str
    services: tuple[str, ...]
    where: str

    @property
    def unit(self) -> str:
        """Its base unit."""
        return UNITS.get(self.name.removesuffix("_total").rpartition("_")[2], "count")

    @property
    def series(self) -> tuple[str, ...]:
        """The names that queries may use."""
        if self.type == "histogram":
            return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.name,)


@cache
def metrics() -> tuple[Metric, ...]:
    """Every metric, by name.

    Raises:
        ValueError: a metric's name is not written out, or two places disagree about it.
    """
    found: dict[str, Metric] = {}
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for metric in _in_file(path):
                known = found.setdefault(metric.name, metric)
                if (known.type, known.labels) != (metric.type, metric.labels):
                    raise ValueError(
                        f"{metric.name} differs between {known.where} and {metric.where}; give one a name of its own"
                    )
    return tuple(found[name] for name in sorted(found))


def series() -> dict[str, Metric]:
    """The metric behind each name that a query may use."""
    return {name: metric for metric in metrics() for name in metric.series}


def page() -> str:
    """The guide's page."""
    lines = [
        "# Metrics",
        "",
        "Written by `python -m deploy.prometheus.catalog` from the code; do not edit. Every service answers `GET",
        "/metrics` with those that name it (`all` is every service, `workers` those that run jobs), and with Python's",
        "own `process_*` and `python_*`.",
        "",
        "| metric | type | unit | labels | service | meaning |",
        "|---|---|---|---|---|---|",
    ]
    for metric in metrics():
        labels = ", ".join(metric.labels) or "–"
        services = {EVERY_SERVICE: "all", WORKERS: "workers"}.get(metric.services, ", ".join(metric.services))
        lines.append(
            f"| `{metric.name}` | {metric.type} | {metric.unit} | {labels} | {services} | {metric.meaning} |"
        )
    used = sorted({label for metric in metrics() for label in metric.labels})
    lines += ["", "## Labels", "Every label has few values:", "", "| label | holds |", "|---|---|"]
    lines += [f"| `{label}` | {LABELS.get(label, '?')} |" for label in used]
    return "\n".join(lines) + "\n"


def _in_file(path: Path) -> Iterator[Metric]:
    text = path.read_text(encoding="utf-8")
    if "prometheus_client" not in text:
        return
    where = path.relative_to(ROOT).as_posix()
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in TYPES
            and node.args
        ):
            yield _metric(node, TYPES[node.func.id], where)


def _metric(call: ast.Call, kind: str, where: str) -> Metric:
    given = dict(zip(("name", "documentation", "labels"), call.args, strict=False))
    given |= {
        {"labelnames": "labels"}.get(keyword.arg, keyword.arg): keyword.value
        for keyword in call.keywords
        if keyword.arg
    }
    try:
        name = ast.literal_eval(given["name"])
        meaning = ast.literal_eval(given["documentation"])
        labels = tuple(ast.literal_eval(given["labels"])) if "labels" in given else ()
    except (KeyError, ValueError) as error:
        raise ValueError(f"{where}:{call.lineno}: write the metric's name, help and labels out") from error
    if kind == "counter" and not name.endswith("_total"):
        name += "_total"  # prometheus_client adds it
    return Metric(name, kind, labels, " ".join(meaning.split()), _services(where), where)


def _services(where: str) -> tuple[str, ...]:
    first, second, *rest = where.split("/")
    if first == "services":
        return (second,)
    return WORKERS if rest and rest[0] == "jobs" else EVERY_SERVICE


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
