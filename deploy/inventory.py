"""The one inventory: every service, task, store and watcher, with its doors, variables, secrets, probes and resources.

Compose and Kubernetes are generated from it or checked against it by tests; what is here is written nowhere else. It says
what is true everywhere; what differs by place (replicas, accelerators, storage classes) is in the overlays. Resources were
measured on two cores with Gemma 3 270M, and have room above: at rest the gateway takes 135 MB, keeper 97, monitor 106,
dashboard 150, evaluator 121; a LoRA step of 4 x 256 tokens 4.1 GB. Larger bases need more (docs/guide/multi-gpu.md).
"""

from __future__ import annotations

from importlib import import_module

from deploy.inventory_others import PROXIES, STORES, WATCHERS
from deploy.inventory_ours import HOME, MODELS, PORT_BASE, SECRETS, SERVICES, TASKS, USER
from deploy.inventory_records import Kind, Part, Volume

__all__ = [
    "HOME",
    "MODELS",
    "PARTS",
    "PORT_BASE",
    "PROXIES",
    "SECRETS",
    "SERVICES",
    "STORES",
    "TASKS",
    "USER",
    "VOLUMES",
    "WATCHERS",
]

VOLUMES = (
    Volume("home", 100, shared=True, holds="files, artifacts, checkpoints, logs of jobs"),
    Volume("models", 100, shared=True, holds="prepared base models; written by the task prepare-model only"),
    Volume("postgres", 20, shared=False, holds="the database"),
    Volume("redis", 2, shared=False, holds="doorbells and rates; what is lost is rung again"),
    Volume("qdrant", 50, shared=False, holds="vectors"),
    Volume("prometheus", 20, shared=False, holds="fifteen days of metrics"),
    Volume("grafana", 1, shared=False, holds="users and preferences; dashboards are provisioned"),
)

PARTS = {part.name: part for part in (*SERVICES, *TASKS, *STORES, *WATCHERS, *PROXIES)}


def url(part: Part) -> str:
    """Where a part is reached by the others."""
    return f"http://{part.name}:{part.port}"


def addresses(part: Part) -> dict[str, str]:
    """The addresses that a service is told: its own, whose port it takes, and those that it may call."""
    ours = [one.name for one in SERVICES]
    if part.name not in ours:
        return {}
    return {f"MT_{name.upper()}_URL": url(PARTS[name]) for name in (part.name, *part.calls) if name in ours}


def environment(part: Part) -> dict[str, str]:
    """Everything that a part is told that is no secret and the same in every place."""
    threads = {part.threads: str(max(1, part.resources.cpu_limit_m // 1000))} if part.threads else {}
    return {**part.env, **threads, **addresses(part)}


def traced(part: Part) -> bool:
    """Whether a part can send spans. The monitor is on nobody's way, and its image does without the libraries."""
    return part.kind is Kind.SERVICE and part.name != "monitor"


def variables(part: Part) -> frozenset[str]:
    """The names of all variables that a part of ours reads. Imports its settings."""
    fields: frozenset[str] = frozenset()
    if part.settings:
        module, _, name = part.settings.partition(":")
        kind = getattr(import_module(module), name)
        fields = frozenset(f"MT_{field}".upper() for field in kind.model_fields)
    return fields | {*part.reads}


def callers(name: str) -> tuple[str, ...]:
    """Who may open connections to a part."""
    return tuple(part.name for part in PARTS.values() if name in part.calls)
