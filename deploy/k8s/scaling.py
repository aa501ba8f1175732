"""What changes the number of pods: by load for stateless services, by waiting jobs for workers.

A worker that is one of many claims one job, runs it and exits (`MT_CLAIM_ONE`), as a Kubernetes job that KEDA starts. KEDA
counts rows in PostgreSQL: such workers leave the broker's messages unread, and a message says nothing of quotas anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploy.inventory_records import Part
from deploy.k8s.pods import Manifest, labels, manifest, pod
from deploy.k8s.workloads import keep_running

KEDA_NAMESPACE = "keda"
CONNECTION_SECRET = "keda-connection"
CONNECTION_KEY = "connection"
POLL_S = 15
DONE_KEPT_S = 3600

WAITING = """\
select coalesce(sum(least(w.waiting, greatest(coalesce(
  (p.quotas->>'max_running_jobs')::float - coalesce(r.running, 0), w.waiting), 0))), 0)::float
from (select project_id, count(*) as waiting from jobs
  where kind = '{kind}' and state = 'queued' group by project_id) w
join projects p on p.id = w.project_id
left join (select project_id, count(*) as running from jobs
  where lease_owner is not null group by project_id) r on r.project_id = w.project_id
"""
"""How many jobs of a kind could be claimed now: queued ones, as far as their project's quota lets more of them run."""


@dataclass(frozen=True)
class Fleet:
    """Workers of one part that claim one job each; `most` run at once."""

    part: str
    most: int


FLEETS = (Fleet("trainer", 4), Fleet("evaluator", 8))


def autoscaler(part: Part, least: int) -> Manifest:
    """More pods when they compute a lot; fewer only after five quiet minutes, because streams end with a pod."""
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
    }
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": part.name},
        "minReplicas": least,
        "maxReplicas": part.most_replicas,
        "metrics": [metric],
        "behavior": {
            "scaleDown": {
                "stabilizationWindowSeconds": 300,
                "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
            }
        },
    }
    return manifest("autoscaling/v2", "HorizontalPodAutoscaler", part.name, spec=spec)


def scaled_job(part: Part, fleet: Fleet) -> Manifest:
    """A Kubernetes job for each job that waits. No second try: the platform's keeper queues what was lost."""
    template = pod(part, restartPolicy="Never")
    template["metadata"]["annotations"] = keep_running()
    (worker,) = template["spec"]["containers"]
    worker["env"].append({"name": "MT_CLAIM_ONE", "value": "true"})
    for served in ("ports", "startupProbe", "livenessProbe", "readinessProbe", "lifecycle"):
        worker.pop(served, None)  # it opens no port
    spec = {
        "jobTargetRef": {
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": DONE_KEPT_S,
            "template": template,
        },
        "pollingInterval": POLL_S,
        "minReplicaCount": 0,
        "maxReplicaCount": fleet.most,
        "successfulJobsHistoryLimit": 5,
        "failedJobsHistoryLimit": 20,
        # A claimed job no longer counts as waiting, so the number is that of pods to start, less those that still start.
        "scalingStrategy": {"strategy": "accurate"},
        # A changed template is for new jobs; the default would end those that run.
        "rollout": {"strategy": "gradual", "propagationPolicy": "foreground"},
        "triggers": [_trigger(part.queue)],
    }
    return manifest("keda.sh/v1alpha1", "ScaledJob", fleet_name(part.name), spec=spec)


def fleet_name(part: str) -> str:
    """The name of a part's ScaledJob."""
    return f"{part}-jobs"


def _trigger(kind: str) -> Manifest:
    return {
        "type": "postgresql",
        "metadata": {"query": WAITING.format(kind=kind), "targetQueryValue": "1"},
        "authenticationRef": {"name": "database"},
    }


def authentication() -> Manifest:
    """How KEDA reaches the database: as a user who may read two tables."""
    reference = {"parameter": "connection", "name": CONNECTION_SECRET, "key": CONNECTION_KEY}
    return manifest(
        "keda.sh/v1alpha1", "TriggerAuthentication", "database", spec={"secretTargetRef": [reference]}
    )


def stand_by(part: Part) -> Manifest:
    """A patch that takes a long-lived worker away where a fleet does its work."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": part.name, "labels": labels(part.name)},
        "$patch": "delete",
    }
