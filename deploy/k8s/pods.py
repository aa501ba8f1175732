"""Pods and their metadata, made of the inventory's parts: what every manifest of ours has in common.

All pods fit Pod Security's `restricted`: no root, no capabilities, no escalation, seccomp, a read-only root, no token.
"""

from __future__ import annotations

from typing import Any

from deploy import inventory
from deploy.inventory_records import Kind, Part, Probe, Secret

Manifest = dict[str, Any]

NAMESPACE = "model-training"
VERSION = "0.1.0"
NAME_LABEL = "app.kubernetes.io/name"
PART_OF = {"app.kubernetes.io/part-of": NAMESPACE}
HOST_LISTS = {"gateway": "MT_ALLOWED_HOSTS", "dashboard": "MT_DASHBOARD_HOSTS"}
"""Services that answer to names they know only. Prometheus asks them by the pod's address."""
DRAIN_S = 5
"""Between the wish to stop and SIGTERM: so long may a proxy still send requests to a pod that leaves."""


def labels(name: str) -> dict[str, str]:
    """What selects the pods of a part."""
    return {NAME_LABEL: name}


def manifest(api: str, kind: str, name: str, **body: Any) -> Manifest:
    """A manifest with our labels; the namespace is added by Kustomize."""
    metadata = {"name": name, "labels": {**labels(name), **PART_OF}, **body.pop("metadata", {})}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **body}


def secret_name(secret: Secret) -> str:
    """The name of the Kubernetes secret with this one value."""
    return secret.value.replace("_", "-")


def image(part: Part) -> str:
    """What is run; overlays set registry, tag and digest."""
    return f"model-training/{part.image.target}:{VERSION}" if part.image.target else part.image.upstream


def pod(part: Part, **more: Any) -> Manifest:
    """A pod template for a part."""
    spec: Manifest = {
        "serviceAccountName": part.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": part.stop_s + (DRAIN_S if part.ports else 0),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": part.user,
            "runAsGroup": part.user,
            "fsGroup": part.user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"initContainers": [_wait_for_migrations(part)]} if "migrate" in part.needs else {}),
        "containers": [container(part)],
        "volumes": _volumes(part),
        **more,
    }
    return {"metadata": {"labels": {**labels(part.name), **PART_OF}}, "spec": spec}


def container(part: Part) -> Manifest:
    """The one container of a part."""
    built: Manifest = {
        "name": part.name,
        "image": image(part),
        "imagePullPolicy": "IfNotPresent",
        **_command(part),
        "env": _environment(part),
        "resources": _resources(part),
        "securityContext": _locked(),
        "volumeMounts": _mounts(part),
    }
    if part.ports:
        built["ports"] = [{"name": port.name, "containerPort": port.number} for port in part.ports]
    if part.probe is not None:
        built |= _probes(part, part.probe)
    if part.stateless and part.ports:
        built["lifecycle"] = {"preStop": {"sleep": {"seconds": DRAIN_S}}}
    return {name: value for name, value in built.items() if value not in ([], {})}


def _command(part: Part) -> Manifest:
    if part.module:
        return {"command": ["python", "-m", part.module, *part.arguments]}
    return {"command": [*part.command], "args": [*part.arguments]}


def _wait_for_migrations(part: Part) -> Manifest:
    """Hold a new version back until the database has its tables; the old one serves meanwhile."""
    small = inventory.PARTS["migrate"]
    return {
        "name": "wait-for-migrations",
        "image": image(part),
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "migrations.upgrade", "--wait"],
        "env": [{"name": name, "value": value} for name, value in small.env.items()],
        "resources": _resources(small),
        "securityContext": _locked(),
        "volumeMounts": [mount for mount in _mounts(part) if mount["name"] in ("secrets", "tmp")],
    }


def _environment(part: Part) -> list[Manifest]:
    listed = [{"name": name, "value": value} for name, value in inventory.environment(part).items()]
    if part.name in HOST_LISTS:
        names = f'["{part.name}", "localhost", "127.0.0.1", "$(PUBLIC_HOST)", "$(POD_IP)"]'
        listed = [
            {"name": "PUBLIC_HOST", "value": "localhost"},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            *listed,
            {"name": HOST_LISTS[part.name], "value": names},
        ]
    return listed


def _resources(part: Part) -> Manifest:
    wanted = part.resources
    gpus = {"nvidia.com/gpu": str(wanted.gpus)} if wanted.gpus else {}
    return {
        "requests": {
            "cpu": f"{wanted.cpu_m}m",
            "memory": f"{wanted.memory_mb}Mi",
            "ephemeral-storage": "64Mi",
            **gpus,
        },
        "limits": {
            "cpu": f"{wanted.cpu_limit_m}m",
            "memory": f"{wanted.memory_limit_mb}Mi",
            "ephemeral-storage": f"{wanted.scratch_mb + 256}Mi",
            **gpus,
        },
    }


def _locked() -> Manifest:
    return {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _probes(part: Part, probe: Probe) -> Manifest:
    pause = 5
    shared = {"periodSeconds": probe.every_s, "timeoutSeconds": probe.timeout_s}
    return {
        "startupProbe": {
            **_asked(part, probe, probe.alive),
            "periodSeconds": pause,
            "timeoutSeconds": probe.timeout_s,
            "failureThreshold": -(-probe.start_s // pause),
        },
        # A process that is stuck for a minute is started again; one that only cannot serve is left out for a while.
        "livenessProbe": {
            **_asked(part, probe, probe.alive),
            **shared,
            "failureThreshold": 2 * probe.failures,
        },
        "readinessProbe": {**_asked(part, probe, probe.ready), **shared, "failureThreshold": probe.failures},
    }


def _asked(part: Part, probe: Probe, path: str) -> Manifest:
    if probe.command:
        return {"exec": {"command": list(probe.command)}}
    asked: Manifest = {"path": path, "port": part.ports[0].name}
    if part.kind is Kind.SERVICE:
        asked["httpHeaders"] = [{"name": "Host", "value": "localhost"}]
    return {"httpGet": asked}


def _mounts(part: Part) -> list[Manifest]:
    mounted = [
        {
            "name": mount.volume,
            "mountPath": mount.path,
            **({"readOnly": True} if mount.read_only else {}),
            **({"subPath": mount.subfolder} if mount.subfolder else {}),
        }
        for mount in part.mounts
    ]
    if part.secrets:
        mounted.append({"name": "secrets", "mountPath": inventory.SECRETS, "readOnly": True})
    mounted += [{"name": _folder(path), "mountPath": path} for path in part.writable]
    return [*mounted, {"name": "tmp", "mountPath": "/tmp"}]


def _volumes(part: Part) -> list[Manifest]:
    shared = {volume.name for volume in inventory.VOLUMES if volume.shared}
    volumes: list[Manifest] = [
        {"name": mount.volume, "persistentVolumeClaim": {"claimName": mount.volume}}
        for mount in part.mounts
        if mount.volume in shared
    ]
    if part.secrets:
        sources = [
            {"secret": {"name": secret_name(one), "items": [{"key": one.value, "path": one.value}]}}
            for one in part.secrets
        ]
        volumes.append({"name": "secrets", "projected": {"defaultMode": 0o440, "sources": sources}})
    for path in part.writable:
        memory = {"medium": "Memory"} if path == "/dev/shm" else {}
        volumes.append({"name": _folder(path), "emptyDir": {**memory, "sizeLimit": "256Mi"}})
    return [*volumes, {"name": "tmp", "emptyDir": {"sizeLimit": f"{part.resources.scratch_mb}Mi"}}]


def _folder(path: str) -> str:
    return path.strip("/").replace("/", "-")
