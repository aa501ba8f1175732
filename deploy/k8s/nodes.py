"""One training job on the GPUs of several nodes: a JobSet, or a TrainJob of Kubeflow, which makes a JobSet of it.

Not part of any overlay: such a job is created for one training (`kubectl create -f`). Node 0 claims the best job that waits,
like any worker, and the others train beside it; see `services.trainer.node`.
"""

from __future__ import annotations

from typing import Any

from deploy import inventory
from deploy.k8s.components import GPU_RESOURCES, GPU_SHARED_MEMORY, TOLERATION
from deploy.k8s.pods import NAMESPACE, VERSION, Manifest, labels, manifest, pod
from deploy.k8s.quota import QUEUE, QUEUE_LABEL
from deploy.k8s.workloads import keep_running

NODES = 2
GPUS_PER_NODE = 8
PORT = 29400
NODE_LABEL = {"model-training.dev/node": "true"}
SET = "training"
RUN_LABEL = "metadata.labels['batch.kubernetes.io/controller-uid']"


def job_set() -> Manifest:
    """One index a node. All end when one fails: the platform starts the job again from its last checkpoint."""
    template = _template()
    template["spec"]["containers"][0]["env"] += [
        {"name": "MT_TRAINER_NODES", "value": str(NODES)},
        {"name": "MT_TRAINER_LEADER", "value": f"{SET}-node-0-0.{SET}:{PORT}"},
        {
            "name": "MT_TRAINER_NODE_RANK",
            "valueFrom": {
                "fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}
            },
        },
    ]
    job = {
        "parallelism": NODES,
        "completions": NODES,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "template": template,
    }
    spec = {
        "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True, "subdomain": SET},
        "failurePolicy": {"maxRestarts": 0},
        "ttlSecondsAfterFinished": 3600,
        "replicatedJobs": [{"name": "node", "replicas": 1, "template": {"spec": job}}],
    }
    return _queued(manifest("jobset.x-k8s.io/v1alpha2", "JobSet", SET, spec=spec))


def training_runtime() -> Manifest:
    """What a TrainJob runs: the same pods. Kubeflow tells each its rank and the leader's address (`PET_…`)."""
    job = {"spec": {"backoffLimit": 0, "template": _template()}}
    job["metadata"] = {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}}
    spec = {
        "mlPolicy": {"numNodes": NODES, "torch": {}},
        "template": {"spec": {"replicatedJobs": [{"name": "node", "template": job}]}},
    }
    made = manifest("trainer.kubeflow.org/v1alpha1", "TrainingRuntime", NAMESPACE, spec=spec)
    made["metadata"]["labels"]["trainer.kubeflow.org/framework"] = "torch"
    return _placed(made)


def train_job() -> Manifest:
    """One training on so many nodes."""
    spec = {
        "runtimeRef": {
            "apiGroup": "trainer.kubeflow.org",
            "kind": "TrainingRuntime",
            "name": NAMESPACE,
        },
        "trainer": {"numNodes": NODES, "numProcPerNode": GPUS_PER_NODE},
    }
    return _queued(manifest("trainer.kubeflow.org/v1alpha1", "TrainJob", SET, spec=spec))


def among_nodes() -> Manifest:
    """Nodes of a training talk to each other on ports that NCCL chooses; nobody else does."""
    peers = [{"podSelector": {"matchLabels": NODE_LABEL}}]
    spec = {
        "podSelector": {"matchLabels": NODE_LABEL},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": peers}],
        "egress": [{"to": peers}],
    }
    return _placed(manifest("networking.k8s.io/v1", "NetworkPolicy", "training-nodes", spec=spec))


def _template() -> Manifest:
    """A trainer's pod with all GPUs of a node, under the trainer's name: its policies are the trainer's too."""
    part = inventory.PARTS["trainer"]
    template = pod(part, restartPolicy="Never", tolerations=[TOLERATION])
    template["metadata"] = {
        "labels": {**labels(part.name), **NODE_LABEL},
        "annotations": keep_running(),
    }
    spec = template["spec"]
    image = f"model-training/trainer-gpu:{VERSION}"
    spec["initContainers"][0]["image"] = image
    spec["volumes"].append({"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": GPU_SHARED_MEMORY}})
    (box,) = spec["containers"]
    box |= {"name": "node", "image": image, "command": ["python", "-m", "services.trainer.node"]}
    box["resources"] = {
        kind: {**wanted, "nvidia.com/gpu": str(GPUS_PER_NODE)} for kind, wanted in GPU_RESOURCES.items()
    }
    box["env"] += [
        {"name": "MT_CLAIM_ONE", "value": "true"},
        {"name": "MT_TRAINER_PROCESSES", "value": str(GPUS_PER_NODE)},
        # The same in all pods of one job, and of no other.
        {"name": "MT_TRAINER_RUN", "valueFrom": {"fieldRef": {"fieldPath": RUN_LABEL}}},
    ]
    box["volumeMounts"].append({"name": "dshm", "mountPath": "/dev/shm"})
    for served in ("ports", "startupProbe", "livenessProbe", "readinessProbe", "lifecycle"):
        box.pop(served, None)
    return template


def _queued(made: Manifest) -> Manifest:
    """Held by Kueue where it is installed; the label says nothing to anybody else."""
    made["metadata"]["labels"][QUEUE_LABEL] = QUEUE
    return _placed(made)


def _placed(made: Manifest) -> Manifest:
    metadata: dict[str, Any] = made["metadata"]
    metadata["namespace"] = NAMESPACE
    return made
