"""Deployments, StatefulSets, Jobs, Services, accounts, claims and disruption budgets of the inventory's parts."""

from __future__ import annotations

from deploy import inventory
from deploy.inventory_records import Part, Volume
from deploy.k8s.pods import NAMESPACE, Manifest, labels, manifest, pod

RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
SLOW_TO_MOVE = ("trainer", "evaluator")
"""Workers whose jobs last: whoever makes room on a node should take others first."""
TASK_KEPT_S = 300


def namespace() -> Manifest:
    """Where everything lies. Whatever is not `restricted` is refused there."""
    made = manifest("v1", "Namespace", NAMESPACE)
    made["metadata"]["labels"] |= RESTRICTED
    return made


def account(part: Part) -> Manifest:
    """An account of its own for each part, which is allowed nothing and gets no token."""
    return manifest("v1", "ServiceAccount", part.name, automountServiceAccountToken=False)


def service(part: Part, *, headless: bool = False) -> Manifest:
    """The name that the others call."""
    ports = [
        {"name": port.name, "port": port.number, "targetPort": port.name, "protocol": "TCP"}
        for port in part.ports
    ]
    spec: Manifest = {"selector": labels(part.name), "ports": ports}
    return manifest("v1", "Service", part.name, spec=({"clusterIP": "None"} if headless else {}) | spec)


def deployment(part: Part) -> Manifest:
    """A service of ours."""
    template = pod(part)
    if part.name in SLOW_TO_MOVE:
        template["metadata"]["annotations"] = keep_running()
    if part.stateless:
        template["spec"]["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": labels(part.name)},
            }
        ]
    start_s = part.probe.start_s if part.probe else 60
    spec = {
        "replicas": part.replicas,
        "revisionHistoryLimit": 5,
        "progressDeadlineSeconds": max(600, start_s + 300),
        "selector": {"matchLabels": labels(part.name)},
        "strategy": rolling() if part.name != "trainer" else {"type": "Recreate"},
        "template": template,
    }
    return manifest("apps/v1", "Deployment", part.name, spec=spec)


def rolling() -> Manifest:
    """The new one is ready before the old one goes."""
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def keep_running() -> dict[str, str]:
    """Annotations that ask those who tidy nodes up to leave a pod where it is."""
    return {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}


def stateful_set(part: Part) -> Manifest:
    """A store with a claim of its own."""
    own = {mount.volume for mount in part.mounts}
    claims = [
        {"metadata": {"name": volume.name}, "spec": _claim_spec(volume)}
        for volume in inventory.VOLUMES
        if volume.name in own
    ]
    spec = {
        "serviceName": part.name,
        "replicas": 1,
        "revisionHistoryLimit": 5,
        "selector": {"matchLabels": labels(part.name)},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "template": pod(part),
        "volumeClaimTemplates": claims,
    }
    return manifest("apps/v1", "StatefulSet", part.name, spec=spec)


def job(part: Part) -> Manifest:
    """A task. It is gone some minutes after its end, so that the next version's may have its name."""
    template = pod(part, restartPolicy="OnFailure")
    spec = {"backoffLimit": 6, "ttlSecondsAfterFinished": TASK_KEPT_S, "template": template}
    return manifest("batch/v1", "Job", part.name, spec=spec)


def claim(volume: Volume) -> Manifest:
    """A volume that several parts share."""
    return manifest("v1", "PersistentVolumeClaim", volume.name, spec=_claim_spec(volume))


def _claim_spec(volume: Volume) -> Manifest:
    return {
        "accessModes": ["ReadWriteMany" if volume.shared else "ReadWriteOnce"],
        "resources": {"requests": {"storage": f"{volume.size_gb}Gi"}},
    }


def disruption_budget(part: Part) -> Manifest:
    """One pod at a time leaves when nodes are emptied. Never none: a single replica would keep its node for good."""
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": labels(part.name)}}
    return manifest("policy/v1", "PodDisruptionBudget", part.name, spec=spec)
