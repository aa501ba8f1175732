"""Manifests are current, valid, locked down, and join the parts as the inventory says."""

from __future__ import annotations

import copy
import json
import shutil
from functools import cache
from typing import Any

import pytest
import yaml

from deploy import inventory
from deploy.inventory_records import Secret
from deploy.k8s import check, make_secrets
from deploy.k8s.build import OVERLAYS
from deploy.k8s.pods import HOST_LISTS, NAME_LABEL, Manifest, secret_name
from deploy.k8s.reading import Edge, documents, edges, node_documents, rendered, template
from deploy.k8s.scaling import CONNECTION_SECRET, FLEETS, fleet_name
from deploy.prometheus.build import FOLDER as PROMETHEUS

CHECKPOINT_S = 60 + 300
"""A step of a minute, and 6 GB of adapter and optimizer at 20 MB/s."""

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


text_of = cache(rendered)


@cache
def built(overlay: str) -> list[Manifest]:
    return documents(text_of(overlay))


def find(made: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [one for one in made if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def pods_of(made: list[Manifest]) -> list[Manifest]:
    return [pods for one in made if (pods := template(one)) is not None]


def containers(pods: Manifest) -> list[Manifest]:
    return [*pods["spec"].get("initContainers", []), *pods["spec"]["containers"]]


def variables(container: Manifest) -> dict[str, Any]:
    return {one["name"]: one.get("value") for one in container.get("env", [])}


def test_files_are_current() -> None:
    assert check.stale() == [], "run `python -m deploy.k8s.build`"


@needs_kubectl
@every_overlay
def test_an_overlay_is_stable_and_names_nothing_twice(overlay: str) -> None:
    assert rendered(overlay) == text_of(overlay)
    titles = [(one["kind"], one["metadata"]["name"]) for one in built(overlay)]
    assert len({*titles}) == len(titles)


@needs_kubectl
@every_overlay
def test_resources_of_other_projects_fit_their_schemas(overlay: str) -> None:
    made = [one for one in built(overlay) if check.is_foreign(one)]
    assert [fault for one in made for fault in check.own_schema_faults(one)] == []
    assert bool(made) == overlay.startswith("production")


def test_multi_node_jobs_fit_their_schemas() -> None:
    made = [one for one in node_documents() if check.is_foreign(one)]
    assert {one["kind"] for one in made} == {"JobSet", "TrainJob", "TrainingRuntime"}
    assert [fault for one in made for fault in check.own_schema_faults(one)] == []


@needs_kubectl
def test_a_schema_refuses_what_its_project_does_not_know() -> None:
    job = copy.deepcopy(find(built("production"), "ScaledJob", "trainer-jobs"))
    job["spec"]["maxReplicas"] = 4
    job["spec"]["pollingInterval"] = "15s"
    assert len(check.own_schema_faults(job)) == 2


@needs_kubectl
@every_overlay
def test_every_pod_fits_the_restricted_standard(overlay: str) -> None:
    namespace = find(built(overlay), "Namespace", "model-training")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for pods in [*pods_of(built(overlay)), *pods_of(node_documents())]:
        spec = pods["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & {*spec}
        assert all(
            {*volume} & {"persistentVolumeClaim", "emptyDir", "projected"} for volume in spec["volumes"]
        )
        for one in containers(pods):
            assert one["securityContext"]["allowPrivilegeEscalation"] is False
            assert one["securityContext"]["readOnlyRootFilesystem"] is True
            assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= {*one["resources"]["requests"]} & {*one["resources"]["limits"]}


@needs_kubectl
@every_overlay
def test_mounts_volumes_claims_accounts_and_secrets_are_there(overlay: str) -> None:
    made = built(overlay)
    names = {kind: {one["metadata"]["name"] for one in made if one["kind"] == kind} for kind in
             ("PersistentVolumeClaim", "ServiceAccount")}  # fmt: skip
    secrets = {secret_name(one) for one in Secret}
    for document in made:
        pods = template(document)
        if pods is None:
            continue
        spec = pods["spec"]
        own = {one["metadata"]["name"] for one in document["spec"].get("volumeClaimTemplates", [])}
        mounted = {mount["name"] for one in containers(pods) for mount in one["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]} | own
        claims = {
            v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v
        }
        assert claims <= names["PersistentVolumeClaim"]
        assert spec["serviceAccountName"] in names["ServiceAccount"]
        given = {
            s["secret"]["name"] for v in spec["volumes"] for s in v.get("projected", {}).get("sources", [])
        }
        assert given <= secrets


@needs_kubectl
@every_overlay
def test_the_network_lets_through_the_edges_of_the_inventory_and_no_others(overlay: str) -> None:
    there = {pods["metadata"]["labels"][NAME_LABEL] for pods in pods_of(built(overlay))}
    wanted = {
        Edge(part.name, called, port.number)
        for part in inventory.PARTS.values()
        for called in part.calls
        if {part.name, called} <= there
        for port in inventory.PARTS[called].ports
    }
    assert edges(built(overlay)) == wanted
    assert Edge("gateway", "postgres", 5432) in wanted or overlay.startswith("production")
    assert not {edge for edge in wanted if edge.called == "trainer"} - {Edge("monitor", "trainer", 8006)}


@needs_kubectl
@every_overlay
def test_whoever_is_not_named_reaches_nobody(overlay: str) -> None:
    deny = find(built(overlay), "NetworkPolicy", "default-deny")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@needs_kubectl
@every_overlay
def test_a_worker_has_time_for_a_checkpoint(overlay: str) -> None:
    for pods in pods_of(built(overlay)):
        part = inventory.PARTS[pods["metadata"]["labels"][NAME_LABEL]]
        least = CHECKPOINT_S if part.queue == "train" else part.stop_s
        assert pods["spec"]["terminationGracePeriodSeconds"] >= least, part.name


@needs_kubectl
@every_overlay
def test_probes_start_and_stop_as_the_inventory_says(overlay: str) -> None:
    for document in built(overlay):
        if document["kind"] not in ("Deployment", "StatefulSet"):
            continue
        part = inventory.PARTS[document["metadata"]["name"]]
        (one,) = document["spec"]["template"]["spec"]["containers"]
        probe = part.probe
        assert probe is not None
        startup = one["startupProbe"]
        assert startup["periodSeconds"] * startup["failureThreshold"] >= probe.start_s
        if not probe.command:
            assert one["livenessProbe"]["httpGet"]["path"] == probe.alive
            assert one["readinessProbe"]["httpGet"]["path"] == probe.ready
        if document["kind"] == "Deployment":
            assert document["spec"]["progressDeadlineSeconds"] > probe.start_s


@needs_kubectl
@every_overlay
def test_nothing_is_told_or_shown_in_the_open(overlay: str) -> None:
    assert "kind: Secret\n" not in text_of(overlay)
    for pods in pods_of(built(overlay)):
        for one in containers(pods):
            assert not {secret.variable for secret in Secret} & {*variables(one)}


@needs_kubectl
@every_overlay
def test_services_wait_for_the_migrations_of_their_version(overlay: str) -> None:
    for pods in pods_of(built(overlay)):
        part = inventory.PARTS[pods["metadata"]["labels"][NAME_LABEL]]
        first = pods["spec"].get("initContainers", [])
        assert bool(first) == ("migrate" in part.needs)
        for one in first:
            assert one["command"][1:] == ["-m", "migrations.upgrade", "--wait"]
            assert one["image"] == pods["spec"]["containers"][0]["image"]


@needs_kubectl
def test_fleets_claim_one_job_and_are_counted_by_rows() -> None:
    made = built("production")
    for fleet in FLEETS:
        job = find(made, "ScaledJob", fleet_name(fleet.part))
        (one,) = job["spec"]["jobTargetRef"]["template"]["spec"]["containers"]
        assert variables(one)["MT_CLAIM_ONE"] == "true"
        assert "ports" not in one
        assert job["spec"]["jobTargetRef"]["backoffLimit"] == 0
        (trigger,) = job["spec"]["triggers"]
        assert trigger["type"] == "postgresql"
        assert f"kind = '{inventory.PARTS[fleet.part].queue}'" in trigger["metadata"]["query"]
    assert not [one for one in made if one["kind"] == "Deployment" and one["metadata"]["name"] == "trainer"]
    assert not [one for one in made if one["kind"] == "Service" and one["metadata"]["name"] == "trainer"]


@needs_kubectl
@pytest.mark.parametrize("overlay", ["gpu", "production"])
def test_training_and_serving_hold_a_gpu_each(overlay: str) -> None:
    holders = {
        pods["metadata"]["labels"][NAME_LABEL]
        for pods in pods_of(built(overlay))
        for one in pods["spec"]["containers"]
        if one["resources"]["limits"].get("nvidia.com/gpu") == "1"
    }
    assert holders == {"trainer", "inference"}
    assert "nvidia.com/gpu" not in text_of("cpu")


@needs_kubectl
def test_services_answer_to_the_names_of_their_doors() -> None:
    made = built("production")
    for part in inventory.SERVICES:
        if part.published:
            (rule,) = find(made, "Ingress", part.name)["spec"]["rules"]
            (one,) = find(made, "Deployment", part.name)["spec"]["template"]["spec"]["containers"]
            told = variables(one)
            assert told["PUBLIC_HOST"] == rule["host"]
            names = json.loads(told[HOST_LISTS[part.name]])
            assert {part.name, "localhost", "$(PUBLIC_HOST)", "$(POD_IP)"} <= {*names}
            order = [entry["name"] for entry in one["env"]]
            assert order.index("PUBLIC_HOST") < order.index(HOST_LISTS[part.name]), (
                "only what stands before is known"
            )


@needs_kubectl
def test_rag_is_given_qdrants_key_where_there_is_a_qdrant() -> None:
    for overlay in OVERLAYS:
        deployment = find(built(overlay), "Deployment", "rag")["spec"]
        spec = deployment["template"]["spec"]
        sources = [
            one["secret"]["name"]
            for volume in spec["volumes"]
            for one in volume.get("projected", {}).get("sources", [])
        ]
        with_server = overlay != "cpu"
        assert ("mt-qdrant-api-key" in sources) == with_server
        assert ("MT_QDRANT_URL" in variables(spec["containers"][0])) == with_server
        # The engine inside the service bears no second writer, not even for a moment.
        assert (deployment["strategy"]["type"] == "Recreate") != with_server


@needs_kubectl
def test_kueue_holds_the_jobs_that_train_and_no_others() -> None:
    made = built("production-kueue")
    held = [
        one["metadata"]["name"] for one in made if "kueue.x-k8s.io/queue-name" in one["metadata"]["labels"]
    ]
    assert held == ["trainer-jobs"]
    covered = find(made, "ClusterQueue", "model-training")["spec"]["resourceGroups"][0]["coveredResources"]
    job = find(made, "ScaledJob", "trainer-jobs")
    asked = job["spec"]["jobTargetRef"]["template"]["spec"]["containers"][0]["resources"]["requests"]
    assert {*asked} <= {*covered}, "a pod that asks for what the queue does not cover is never let in"


@needs_kubectl
def test_the_rules_are_those_of_prometheus() -> None:
    rules = find(built("production"), "PrometheusRule", "model-training")["spec"]["groups"]
    assert rules == yaml.safe_load((PROMETHEUS / "rules.yml").read_text(encoding="utf-8"))["groups"]


@needs_kubectl
def test_everybody_with_metrics_is_scraped_under_the_name_that_the_rules_know() -> None:
    monitor = find(built("production"), "ServiceMonitor", "model-training")["spec"]
    (selector,) = monitor["selector"]["matchExpressions"]
    assert {part.name for part in inventory.SERVICES} <= {*selector["values"]}
    assert monitor["jobLabel"] == NAME_LABEL
    assert monitor["endpoints"][0]["honorLabels"] is True


@needs_kubectl
@every_overlay
def test_selectors_find_their_pods(overlay: str) -> None:
    made = built(overlay)
    there = {pods["metadata"]["labels"][NAME_LABEL] for pods in pods_of(made)}
    for one in made:
        if one["kind"] == "Service":
            assert one["spec"]["selector"][NAME_LABEL] in there
        if one["kind"] == "PodDisruptionBudget":
            assert one["spec"]["selector"]["matchLabels"][NAME_LABEL] in there
        if one["kind"] == "HorizontalPodAutoscaler":
            target = find(made, "Deployment", one["spec"]["scaleTargetRef"]["name"])
            assert "replicas" not in target["spec"], "each apply would set it back"


def test_secrets_are_made_for_everybody_who_is_given_one() -> None:
    made = make_secrets.manifests(make_secrets.values(None, None))
    names = {one["metadata"]["name"] for one in made}
    wanted = {
        secret_name(s)
        for part in (*inventory.SERVICES, *inventory.TASKS, *inventory.STORES)
        for s in part.secrets
    }
    assert wanted | {CONNECTION_SECRET} == names
    values = make_secrets.values("postgresql+psycopg://db/x", "rediss://cache/0")
    assert values["mt_database_url"] == "postgresql+psycopg://db/x"
    assert values["mt_internal_token"] != make_secrets.values(None, None)["mt_internal_token"]
