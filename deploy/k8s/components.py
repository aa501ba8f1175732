"""Kustomize's components: what an overlay may add to the base. Each is a folder of manifests and patches."""

from __future__ import annotations

import json
from typing import Any

from deploy import inventory
from deploy.inventory_records import Part, Volume
from deploy.k8s import quota, watching
from deploy.k8s.network import from_namespace, to_addresses, to_namespace
from deploy.k8s.pods import Manifest, manifest, secret_name
from deploy.k8s.scaling import (
    FLEETS,
    KEDA_NAMESPACE,
    authentication,
    autoscaler,
    fleet_name,
    scaled_job,
    stand_by,
)
from deploy.k8s.workloads import claim, disruption_budget, service, stateful_set

Files = dict[str, Any]
"""A folder's files by name: one manifest or several a file; `kustomization.yaml` is made of them."""

TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
GPU_SHARED_MEMORY = "8Gi"
"""What processes of one pod pass each other (NCCL, data loaders); a container's own /dev/shm has 64 MB."""
LEAST_IN_PRODUCTION = {"gateway": 2}
ARTIFACT_USERS = ("gateway", "inference", "trainer", "comparator")
"""Services that open the store of artifacts (`libs.common.artifacts.open_artifacts`)."""
MANAGED_PORTS = {"postgres": 5432, "redis": 6379}


def component(resources: Files, patches: list[Manifest] | None = None, **more: Any) -> Files:
    """A component with its resources, each a file, and its patches in line."""
    head = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        **({"resources": sorted(resources)} if resources else {}),
        **({"patches": patches} if patches else {}),
        **more,
    }
    return {**resources, "kustomization.yaml": head}


def all_components() -> dict[str, Files]:
    """Every component, by the name of its folder."""
    return {
        "stores": _stores(("postgres", "redis")),
        "qdrant": _qdrant(),
        "embedded-vectors": _embedded_vectors(),
        "single-node": _single_node(),
        "managed-stores": _managed_stores(),
        "gpu": _gpu(),
        "autoscaling": _autoscaling(),
        "keda": _keda(),
        "kueue": _kueue(),
        "monitoring": _monitoring(),
        "s3": _s3(),
        "tracing": _tracing(),
        "ingress": _ingress(),
    }


def _stores(names: tuple[str, ...]) -> Files:
    parts = [inventory.PARTS[name] for name in names]
    return component(
        {
            f"{part.name}.yaml": [service(part, headless=True), stateful_set(part), disruption_budget(part)]
            for part in parts
        }
    )


def _qdrant() -> Files:
    made = _stores(("qdrant",))
    secret = "mt_qdrant_api_key"
    source = {"secret": {"name": secret_name(_QDRANT), "items": [{"key": secret, "path": secret}]}}
    rag = inventory.PARTS["rag"]
    operations = [
        _add(f"{_CONTAINER}/env/-", {"name": "MT_QDRANT_URL", "value": "http://qdrant:6333"}),
        _add(f"/spec/template/spec/volumes/{_secrets_at(rag)}/projected/sources/-", source),
    ]
    made["kustomization.yaml"]["patches"] = [_patch("Deployment", "rag", operations)]
    return made


def _embedded_vectors() -> Files:
    """The engine inside the service, which is the only one that may write its files."""
    volume = Volume("indexes", 20, shared=False, holds="vectors of the engine inside rag")
    home = inventory.HOME
    operations = [
        _add("/spec/template/spec/volumes/-", _claimed(volume.name)),
        _add(f"{_CONTAINER}/volumeMounts/-", {"name": volume.name, "mountPath": f"{home}/indexes"}),
        {"op": "replace", "path": "/spec/strategy", "value": {"type": "Recreate"}},
    ]
    return component({"indexes.yaml": [claim(volume)]}, [_patch("Deployment", "rag", operations)])


def _single_node() -> Files:
    """One node has everything, so that a disk of its own does for what is shared."""
    once = [{"op": "replace", "path": "/spec/accessModes", "value": ["ReadWriteOnce"]}]
    shared = [volume.name for volume in inventory.VOLUMES if volume.shared]
    few = [{"op": "replace", "path": "/spec/replicas", "value": 1}]
    several = [part.name for part in inventory.SERVICES if part.replicas > 1]
    return component(
        {},
        [
            *(_patch("PersistentVolumeClaim", name, once) for name in shared),
            *(_patch("Deployment", name, few) for name in several),
        ],
    )


def _managed_stores() -> Files:
    """PostgreSQL and Redis of somebody else: their addresses are in the secrets, and the network lets them through."""
    from deploy.k8s.network import PRIVATE

    ranges = PRIVATE[:3]
    policies = [
        to_addresses(f"managed-{name}", inventory.callers(name), ranges, port)
        for name, port in MANAGED_PORTS.items()
    ]
    return component({"policies.yaml": policies})


def _gpu() -> Files:
    trainer, inference = inventory.PARTS["trainer"], inventory.PARTS["inference"]
    serving = [
        *_on_gpu("/spec/template", inference, "inference-gpu"),
        # The door has an environment of its own beside vLLM's; it starts vLLM and stops it.
        {"op": "replace", "path": f"{_CONTAINER}/command/0", "value": "/opt/venv/bin/python"},
        {
            "op": "replace",
            "path": "/spec/template/spec/initContainers/0/command/0",
            "value": "/opt/venv/bin/python",
        },
        # A second one would need a second GPU.
        {"op": "replace", "path": "/spec/strategy", "value": {"type": "Recreate"}},
        *(_add(f"{_CONTAINER}/env/-", {"name": name, "value": value}) for name, value in VLLM.items()),
    ]
    training = _on_gpu("/spec/template", trainer, "trainer-gpu")
    fleet = _on_gpu("/spec/jobTargetRef/template", trainer, "trainer-gpu")
    return component(
        {},
        [
            _patch("Deployment", "inference", serving),
            _patch("Deployment", "trainer", training),
            _patch("ScaledJob", fleet_name("trainer"), fleet),
        ],
    )


VLLM = {
    "MT_INFERENCE_ENGINE": "vllm",
    "MT_INFERENCE_VLLM_COMMAND": "/usr/bin/python3",
    # One process a GPU: with --tensor-parallel-size 2 the pod needs two (docs/guide/multi-gpu.md).
    "MT_INFERENCE_VLLM_ARGUMENTS": "--gpu-memory-utilization 0.9",
}


def _on_gpu(template: str, part: Part, target: str) -> list[Manifest]:
    """Operations that give the pod at `template` a GPU, its image and room to use it."""
    box = f"{template}/spec/containers/0"
    image = f"model-training/{target}:0.1.0"
    init = f"{template}/spec/initContainers/0"
    return [
        {"op": "replace", "path": f"{box}/image", "value": image},
        {"op": "replace", "path": f"{init}/image", "value": image},
        *(
            {"op": "replace", "path": f"{box}/resources/{kind}", "value": wanted}
            for kind, wanted in GPU_RESOURCES.items()
        ),
        _add(f"{template}/spec/tolerations", [TOLERATION]),
        _add(
            f"{template}/spec/volumes/-",
            {"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": GPU_SHARED_MEMORY}},
        ),
        _add(f"{box}/volumeMounts/-", {"name": "dshm", "mountPath": "/dev/shm"}),
    ]


GPU_RESOURCES = {
    "requests": {"cpu": "4", "memory": "24Gi", "ephemeral-storage": "1Gi", "nvidia.com/gpu": "1"},
    "limits": {"cpu": "16", "memory": "64Gi", "ephemeral-storage": "20Gi", "nvidia.com/gpu": "1"},
}


def _autoscaling() -> Files:
    made = {
        f"{name}.yaml": [autoscaler(inventory.PARTS[name], least)]
        for name, least in LEAST_IN_PRODUCTION.items()
    }
    # The autoscaler owns the number; a value here would set it back with each apply.
    unset = [{"op": "remove", "path": "/spec/replicas"}]
    return component(made, [_patch("Deployment", name, unset) for name in LEAST_IN_PRODUCTION])


def _keda() -> Files:
    fleets = {f"{fleet.part}.yaml": [scaled_job(inventory.PARTS[fleet.part], fleet)] for fleet in FLEETS}
    shared = [
        authentication(),
        from_namespace("keda-reads-the-queue", inventory.PARTS["postgres"], KEDA_NAMESPACE),
    ]
    away = [{"patch": _inline(stand_by(inventory.PARTS["trainer"]))}]
    gone = [
        {
            "patch": _inline(
                {"apiVersion": api, "kind": kind, "metadata": {"name": "trainer"}, "$patch": "delete"}
            )
        }
        for api, kind in (("v1", "Service"), ("policy/v1", "PodDisruptionBudget"))
    ]
    return component({**fleets, "database.yaml": shared}, [*away, *gone])


def _kueue() -> Files:
    patch = {"patch": _inline(quota.into_queue(fleet_name("trainer")))}
    return component({"quota.yaml": [quota.flavor(), quota.cluster_queue(), quota.local_queue()]}, [patch])


def _monitoring() -> Files:
    return component({"scrape.yaml": [watching.service_monitor()], "rules.yaml": [watching.rules()]})


def _s3() -> Files:
    """Artifacts in a bucket. Keys are in the secret `artifacts`; with a workload identity there need be none."""
    settings = manifest(
        "v1", "ConfigMap", "artifacts", data={"MT_ARTIFACTS_URL": "s3://model-training/artifacts"}
    )
    sources = [
        {"configMapRef": {"name": "artifacts"}},
        {"secretRef": {"name": "artifacts", "optional": True}},
    ]
    everywhere = to_addresses("artifacts", ARTIFACT_USERS, ("0.0.0.0/0",), 443)
    patches = [
        _patch("Deployment", name, [_add(f"{_CONTAINER}/envFrom", sources)])
        for name in ARTIFACT_USERS
        if name != "trainer"
    ]
    for kind, name, template in (
        ("Deployment", "trainer", "/spec/template"),
        ("ScaledJob", fleet_name("trainer"), "/spec/jobTargetRef/template"),
    ):
        patches.append(_patch(kind, name, [_add(f"{template}/spec/containers/0/envFrom", sources)]))
    return component({"bucket.yaml": [settings, everywhere]}, patches)


def _tracing() -> Files:
    """Spans to a collector of the cluster's own, in the namespace `observability` unless an overlay says another."""
    sources = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel-collector.observability:4318",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.1",
    }
    senders = [part.name for part in inventory.SERVICES if inventory.traced(part)]
    pods = [("Deployment", name, _CONTAINER) for name in senders]
    pods += [
        ("ScaledJob", fleet_name(name), "/spec/jobTargetRef/template/spec/containers/0") for name in FLEETS
    ]
    patches = [
        _patch(kind, name, [_add(f"{at}/env/-", {"name": n, "value": v}) for n, v in sources.items()])
        for kind, name, at in pods
    ]
    allowed = to_namespace("traces", tuple(senders), "observability", 4318)
    return component({"policy.yaml": [allowed]}, patches)


def _ingress() -> Files:
    """The two doors to the outside, with TLS. Streams of answers and events are not held back, and last."""
    published = [part for part in inventory.SERVICES if part.published]
    doors: list[Manifest] = []
    known: list[Manifest] = []
    for part in published:
        host = f"{part.name}.example.org"
        known.append(
            _patch(
                "Deployment",
                part.name,
                [{"op": "replace", "path": f"{_CONTAINER}/env/0/value", "value": host}],
            )
        )
        backend = {"service": {"name": part.name, "port": {"name": "http"}}}
        rule = {"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
        doors.append(
            manifest(
                "networking.k8s.io/v1",
                "Ingress",
                part.name,
                metadata={
                    "annotations": {
                        "nginx.ingress.kubernetes.io/proxy-buffering": "off",
                        "nginx.ingress.kubernetes.io/proxy-read-timeout": "3600",
                        "nginx.ingress.kubernetes.io/proxy-body-size": "512m",
                    }
                },
                spec={
                    "ingressClassName": "nginx",
                    "tls": [{"hosts": [host], "secretName": f"{part.name}-tls"}],
                    "rules": [rule],
                },
            )
        )
    return component({"doors.yaml": doors}, known)


_CONTAINER = "/spec/template/spec/containers/0"
_QDRANT = next(one for one in inventory.PARTS["qdrant"].secrets)


def _secrets_at(part: Part) -> int:
    shared = {volume.name for volume in inventory.VOLUMES if volume.shared}
    return sum(mount.volume in shared for mount in part.mounts)


def _claimed(name: str) -> Manifest:
    return {"name": name, "persistentVolumeClaim": {"claimName": name}}


def _add(path: str, value: Any) -> Manifest:
    return {"op": "add", "path": path, "value": value}


def _patch(kind: str, name: str, operations: list[Manifest]) -> Manifest:
    return {"target": {"kind": kind, "name": name}, "patch": json.dumps(operations, indent=2)}


def _inline(patch: Manifest) -> str:
    return json.dumps(patch, indent=2)
