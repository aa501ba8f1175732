"""Which panels of the shipped dashboards a Prometheus has data for.

    python -m deploy.grafana.check http://127.0.0.1:9090 [--minutes 60]

A panel is full when each of its queries gave a number at some time in the last minutes. Panels that need a GPU or vLLM are
named apart. Ends with 1 when another one is empty: on a platform that is used, a broken query or a target not scraped.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

from deploy.grafana.panels import DASHBOARDS, Dashboard, Panel

POINTS = 240
"""Moments that are looked at; Prometheus gives 11,000 at most."""


@dataclass(frozen=True)
class Look:
    """What a Prometheus says of a panel: the queries that gave nothing."""

    dashboard: Dashboard
    panel: Panel
    empty: tuple[str, ...]

    @property
    def excused(self) -> str:
        """Why it may be empty; nothing where it may not."""
        return "needs a GPU" if self.panel.gpu_only else "needs vLLM" if self.panel.vllm_only else ""


def look(prometheus: str, start: float, end: float) -> Iterator[Look]:
    """Every panel of every dashboard, between two times in seconds since 1970.

    Raises:
        httpx.HTTPError: Prometheus does not answer, or refuses a query.
    """
    with httpx.Client(base_url=prometheus, timeout=60) as client:
        for dashboard in DASHBOARDS:
            for panel in dashboard.panels:
                exprs = [query.expr for query in panel.queries]
                empty = tuple(expr for expr in exprs if not _has_data(client, expr, start, end))
                yield Look(dashboard, panel, empty)


def _has_data(client: httpx.Client, expr: str, start: float, end: float) -> bool:
    asked = {"query": expr, "start": start, "end": end, "step": max(1.0, (end - start) / POINTS)}
    answer = client.get("/api/v1/query_range", params=asked).raise_for_status()
    series = answer.json()["data"]["result"]
    return any(value != "NaN" for one in series for _, value in one["values"])


def main() -> None:
    """Ask, print, and end with 1 if a panel is empty that should not be."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.grafana.check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("prometheus", help="its address: http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=float, default=60, help="how far back to look (default 60)")
    given = parser.parse_args()
    end = time.time()
    looks = list(look(given.prometheus, end - 60 * given.minutes, end))
    wrong = [one for one in looks if one.empty and not one.excused]
    excused = [one for one in looks if one.empty and one.excused]
    sys.stdout.write(f"{len(looks) - len(wrong) - len(excused)} of {len(looks)} panels have data.\n")
    for one in [*excused, *wrong]:
        why = one.excused or "EMPTY"
        sys.stdout.write(f"{why:12} {one.dashboard.title}: {one.panel.title}\n")
        sys.stdout.writelines(f"{'':12}   {expr}\n" for expr in one.empty if not one.excused)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
