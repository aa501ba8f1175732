"""Kueue, an option: training jobs wait for their share of GPUs instead of for a node that has one.

KEDA starts a Kubernetes job for each job that waits; Kueue holds it until the quota has room, and KEDA counts it as pending
meanwhile. It holds whole jobs: all pods of a multi-node training start together, or none does.
"""

from __future__ import annotations

from deploy.k8s.pods import NAMESPACE, Manifest, manifest

API = "kueue.x-k8s.io/v1beta2"
QUEUE = "training"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
QUOTA = (("cpu", "64"), ("memory", "512Gi"), ("ephemeral-storage", "200Gi"), ("nvidia.com/gpu", "8"))
"""What training may take together. A cluster's owner sets it."""


def flavor() -> Manifest:
    """Nodes with GPUs, however they are labelled: the pods themselves ask for a GPU."""
    toleration = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    return manifest(API, "ResourceFlavor", "gpu", spec={"tolerations": [toleration]})


def cluster_queue() -> Manifest:
    """The quota. Who waits longest starts first; nobody who runs is sent away, but for jobs of higher priority."""
    resources = [{"name": name, "nominalQuota": quota} for name, quota in QUOTA]
    spec = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}},
        "queueingStrategy": "StrictFIFO",
        "preemption": {"withinClusterQueue": "LowerPriority"},
        "resourceGroups": [
            {
                "coveredResources": [name for name, _ in QUOTA],
                "flavors": [{"name": "gpu", "resources": resources}],
            }
        ],
    }
    return manifest(API, "ClusterQueue", NAMESPACE, spec=spec)


def local_queue() -> Manifest:
    """The door to the quota in our namespace."""
    return manifest(API, "LocalQueue", QUEUE, spec={"clusterQueue": NAMESPACE})


def into_queue(name: str) -> Manifest:
    """A patch that sends a ScaledJob's jobs through the queue: KEDA gives its labels to each of them."""
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledJob",
        "metadata": {"name": name, "labels": {QUEUE_LABEL: QUEUE}},
    }
