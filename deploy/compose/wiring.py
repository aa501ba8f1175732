"""Who may open connections to whom, as networks: one for each store, so that a service reaches the stores it calls alone."""

from __future__ import annotations

from deploy.inventory import SERVICES, STORES
from deploy.inventory_records import Kind, Part

EDGE, FRONT, SERVICE, WATCH, OUTSIDE = "edge", "front", "services", "watch", "outside"
NETWORKS = {
    EDGE: False,
    OUTSIDE: False,
    FRONT: True,
    SERVICE: True,
    WATCH: True,
    **{part.name: True for part in STORES},
}
"""Every network, and whether it is without a way out of this host."""

_OURS = frozenset(part.name for part in SERVICES)
_STORES = frozenset(part.name for part in STORES)
_WATCHERS = frozenset({"prometheus", "alertmanager", "grafana", "dcgm-exporter"})
_MEET_SERVICES = frozenset({"prometheus", "jaeger"})


def networks(part: Part) -> list[str]:
    """The networks that a part is on. Two parts share one exactly where one calls the other, or both are of one group."""
    found = {EDGE: part.published, OUTSIDE: bool(part.outside), WATCH: part.name in _WATCHERS}
    found[FRONT] = "gateway" in (part.name, *(part.calls if part.kind is Kind.PROXY else ()))
    found[SERVICE] = part.name in _OURS | _MEET_SERVICES
    found |= {store: store == part.name or store in part.calls for store in _STORES}
    return [name for name in NETWORKS if found.get(name)]
