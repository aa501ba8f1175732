"""Reads the metrics of the platform's other services over HTTP, and those of this process from its registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import httpx
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from services.monitor.domain.samples import Reading

Wanted = Callable[[str], bool]
"""Whether anybody looks at a series of this name."""

TIMEOUT_S = 5.0


class Scraper:
    """Reads `/metrics` of each service.

    Args:
        urls: where services listen, by name.
    """

    def __init__(self, urls: Mapping[str, str], registry: CollectorRegistry = REGISTRY) -> None:
        self._urls = urls
        self._registry = registry
        self._http = httpx.Client(timeout=TIMEOUT_S, trust_env=False)

    @property
    def services(self) -> list[str]:
        """Whom it asks."""
        return list(self._urls)

    def own(self, wanted: Wanted) -> list[Reading]:
        """What this process counts and measures."""
        return list(_readings(self._registry.collect(), wanted))

    def of(self, service: str, wanted: Wanted) -> list[Reading] | None:
        """What a service counts; None when it does not answer."""
        try:
            answer = self._http.get(f"{self._urls[service]}/metrics")
            answer.raise_for_status()
            return list(_readings(text_string_to_metric_families(answer.text), wanted))
        except (httpx.HTTPError, ValueError):
            return None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def _readings(families: Iterable[Metric], wanted: Wanted) -> Iterator[Reading]:
    for family in families:
        for sample in family.samples:
            if wanted(sample.name):
                yield Reading(sample.name, tuple(sorted(sample.labels.items())), float(sample.value))
