"""One part of the inventory as a service of the Compose file: limits, hardening, order of start, and the two profiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from deploy.compose.upstream import UPSTREAM, Upstream
from deploy.compose.wiring import FRONT, SERVICE, networks
from deploy.inventory import (
    HOME,
    PARTS,
    PROXIES,
    SERVICES,
    STORES,
    TASKS,
    USER,
    WATCHERS,
    environment,
    traced,
    url,
)
from deploy.inventory_records import Image, Kind, Part, Secret

VERSION = "0.1.0"
LOGS = {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}
GPU = {"driver": "nvidia", "capabilities": ["gpu"]}
PROFILES = {"qdrant": "gpu", "grafana": "grafana", "dcgm-exporter": "dcgm", "jaeger": "tracing"}
HARDENED: dict[str, Any] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "init": True,
    "pids_limit": 512,
}
GATEWAYS = ("gateway", "gateway-2")
CLIENT_HOME = "/run/client"
EVERY_S = 5
"""Between two looks at a container: one look costs milliseconds, and the others wait for the first good one."""
MODEL = "${MT_MODEL:-gemma-3-270m}"

PASSED_ON = {
    "prepare-model": {"HF_TOKEN": "${HF_TOKEN:-}"},
    "inference": {"MT_INFERENCE_PRELOAD": MODEL},
    "gateway": {
        # By the last two Prometheus tells them apart.
        "MT_ALLOWED_HOSTS": "${MT_ALLOWED_HOSTS:-"
        '["127.0.0.1","localhost","[::1]","gateway","proxy","gateway-1","gateway-2"]}'
    },
    "dashboard": {
        "MT_DASHBOARD_HOSTS": '${MT_DASHBOARD_HOSTS:-["127.0.0.1","localhost","[::1]","dashboard"]}'
    },
}
"""What whoever starts the platform may want to say; an empty variable counts as not set."""
TRACES = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "${OTEL_EXPORTER_OTLP_ENDPOINT:-}",
    "OTEL_TRACES_SAMPLER": "${OTEL_TRACES_SAMPLER:-parentbased_always_on}",
    "OTEL_TRACES_SAMPLER_ARG": "${OTEL_TRACES_SAMPLER_ARG:-1.0}",
}
"""Off unless a collector is named: http://jaeger:4318 is that of the profile `tracing`."""


@dataclass(frozen=True)
class Placed:
    """A part under the name that it has in the Compose file, with what differs between the profiles."""

    part: Part
    name: str
    profile: str = ""
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    needs: tuple[str, ...] = ()
    gpus: str = ""


def profiled() -> list[Placed]:
    """Every service of the file; what a GPU changes stands there twice, and answers to one name."""
    found: list[Placed] = []
    for part in (*STORES, *TASKS, *SERVICES, *PROXIES, *WATCHERS):
        if part.name == "gateway":
            # Two, replaced one after the other (`make compose-upgrade`); the proxy is the door to both.
            inside = replace(part, published=False)
            found += [Placed(inside, name) for name in GATEWAYS]
        elif part.name in ("inference", "trainer"):
            with_gpu = replace(part, image=Image(target=f"{part.name}-gpu"))
            gpus = f"MT_{part.name.upper()}_GPUS"
            found += [
                Placed(part, part.name, "cpu"),
                Placed(with_gpu, f"{part.name}-gpu", "gpu", gpus=gpus),
            ]
        elif part.name == "rag":
            with_server = replace(part, secrets=(*part.secrets, Secret.QDRANT_API_KEY))
            url = {"MT_QDRANT_URL": f"http://qdrant:{PARTS['qdrant'].port}"}
            found += [Placed(part, "rag", "cpu"), Placed(with_server, "rag-gpu", "gpu", url, ("qdrant",))]
        else:
            found.append(Placed(part, part.name, PROFILES.get(part.name, "")))
    return found


def compose_service(one: Placed) -> dict[str, Any]:
    """What stands under the service's name."""
    part, theirs = one.part, UPSTREAM.get(one.part.name)
    body: dict[str, Any] = {
        "profiles": [one.profile] if one.profile else None,
        **_image(part, theirs),
        "command": _command(one, theirs),
        "environment": _environment(one),
        "secrets": [secret.value for secret in (*part.secrets, *(theirs.secrets if theirs else ()))],
        "depends_on": {name: {"condition": _condition(name)} for name in (*part.needs, *one.needs)},
        "networks": _networks(one),
        "volumes": _volumes(part, theirs),
        "ports": _ports(part),
        "healthcheck": _healthcheck(part, theirs),
        **_hardened(part, theirs),
        **_devices(one),
    }
    return {key: value for key, value in body.items() if value}


def client() -> dict[str, Any]:
    """`docker-compose run --rm client`: `mt` beside the platform, with the first key; the smoke test runs in it."""
    return {
        "profiles": ["tools"],
        **_ours("client"),
        "environment": {"MT_GATEWAY_URL": url(PARTS["gateway"]), "MT_HOME": CLIENT_HOME},
        "secrets": [{"source": Secret.BOOTSTRAP_API_KEY.value, "target": f"{CLIENT_HOME}/api_key"}],
        "networks": [SERVICE, FRONT],
        "volumes": ["./smoke:/smoke:ro"],
        "user": f"${{MT_USER:-{USER}}}:0",
        **HARDENED,
        "tmpfs": ["/tmp:mode=1777,size=1024m"],
        "mem_limit": "2048m",
        "logging": LOGS,
    }


def operator() -> dict[str, Any]:
    """`docker-compose run --rm -T operator backup - > FILE`: `mt` with the database, the data and retrieval in reach."""
    rag = PARTS["rag"]
    given = environment(rag) | {"TMPDIR": HOME, "MT_QDRANT_URL": "${MT_QDRANT_URL:-}"}
    return {
        "profiles": ["tools"],
        **_ours(rag.image.target),
        "entrypoint": ["python", "-m", "model_training.cli.main"],
        "environment": {name: value for name, value in given.items() if name != rag.threads},
        "secrets": [secret.value for secret in (*rag.secrets, Secret.QDRANT_API_KEY)],
        "networks": [SERVICE, "postgres", "qdrant"],
        "volumes": _volumes(rag, None),
        "healthcheck": {"disable": True},
        **_hardened(rag, None),
        "restart": "no",
    }


def _image(part: Part, theirs: Upstream | None) -> dict[str, Any]:
    return {"image": f"${{{theirs.variable}:-{part.image.upstream}}}"} if theirs else _ours(part.image.target)


def _ours(target: str) -> dict[str, Any]:
    return {
        "image": f"${{MT_IMAGES:-model-training}}/{target}:${{MT_VERSION:-{VERSION}}}",
        "build": {"context": "..", "dockerfile": "deploy/images/Dockerfile", "target": target},
    }


def _command(one: Placed, theirs: Upstream | None) -> list[str]:
    if theirs:
        return [_literal(word) for word in theirs.command or one.part.command]
    python = "/opt/venv/bin/python" if one.name == "inference-gpu" else "python"
    arguments = [MODEL] if one.name == "prepare-model" else list(one.part.arguments)
    return [python, "-m", one.part.module, *arguments]


def _literal(word: str) -> str:
    """The word as Compose must read it to leave it alone."""
    return word.replace("$", "$$")


def _environment(one: Placed) -> dict[str, str]:
    said = PASSED_ON.get(one.part.name, {})
    level = {"MT_LOG_LEVEL": "${MT_LOG_LEVEL:-INFO}"} if one.part.kind is Kind.SERVICE else {}
    traces = TRACES if traced(one.part) else {}
    env = {**environment(one.part), **one.env, **said, **level, **traces}
    # Without a limit on processors the host's own number of them is the right number of threads.
    return {name: value for name, value in env.items() if name != one.part.threads}


def _condition(name: str) -> str:
    return "service_completed_successfully" if PARTS[name].kind is Kind.TASK else "service_healthy"


def _networks(one: Placed) -> Any:
    found = networks(one.part)
    if one.name == "gateway":
        return {name: {"aliases": ["gateway-1"]} for name in found}
    return found if one.name == one.part.name else {name: {"aliases": [one.part.name]} for name in found}


def _volumes(part: Part, theirs: Upstream | None) -> list[str]:
    named = [f"{mount.volume}:{mount.path}{':ro' if mount.read_only else ''}" for mount in part.mounts]
    return [*named, *(theirs.files if theirs else ())]


def _ports(part: Part) -> list[str]:
    door = "gateway" if part.kind is Kind.PROXY else part.name
    variable = f"MT_{door.upper()}_PORT"
    return [f"${{MT_BIND:-127.0.0.1}}:${{{variable}:-{part.port}}}:{part.port}"] if part.published else []


def _healthcheck(part: Part, theirs: Upstream | None) -> dict[str, Any]:
    probe = part.probe
    if probe is None:
        return {"disable": True}  # the image's own would ask a door that a task does not open
    asked = (theirs.probe if theirs else ()) or probe.command or ("healthy", str(part.port))
    return {
        "test": ["CMD", *map(_literal, asked)],
        "interval": f"{min(probe.every_s, EVERY_S)}s",
        "timeout": f"{probe.timeout_s}s",
        "retries": probe.failures,
        "start_period": f"{probe.start_s}s",
    }


def _hardened(part: Part, theirs: Upstream | None) -> dict[str, Any]:
    # Weights and no hard limits of processor time: Docker refuses a limit above what the host has.
    group = (theirs.group or str(part.user)) if theirs else "0"
    user = str(part.user) if theirs else f"${{MT_USER:-{part.user}}}"
    # A folder that the image has keeps its mode and loses its owner, so the owner is said too.
    owner = f"uid={part.user},gid={part.user}," if theirs else ""
    folders = [f"{path}:{owner}mode=1777,size=64m" for path in part.writable if path != "/dev/shm"]
    return {
        "user": f"{user}:{group}",
        **HARDENED,
        "tmpfs": [f"/tmp:mode=1777,size={part.resources.scratch_mb}m", *folders],
        "mem_limit": f"{part.resources.memory_limit_mb}m",
        "cpu_shares": max(2, part.resources.cpu_m * 1024 // 1000),
        "stop_grace_period": f"{part.stop_s + 5}s",
        "restart": "no" if part.kind is Kind.TASK else "unless-stopped",
        "logging": LOGS,
    }


def _devices(one: Placed) -> dict[str, Any]:
    if one.name == "dcgm-exporter":
        cards = {**GPU, "count": "all"}
        return {"cap_add": ["SYS_ADMIN"], "deploy": {"resources": {"reservations": {"devices": [cards]}}}}
    if not one.gpus:
        return {}
    # Training and serving each hold cards of their own; on a host with one card, run one of them at a time.
    cards = {**GPU, "device_ids": [f"${{{one.gpus}:-0}}"]}
    return {"shm_size": "8g", "deploy": {"resources": {"reservations": {"devices": [cards]}}}}
