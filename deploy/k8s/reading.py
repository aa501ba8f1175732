"""Reads what Kustomize makes of an overlay, for the checks: its documents, the pods in them, and who may talk to whom."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.k8s.pods import NAME_LABEL, Manifest

FOLDER = Path(__file__).parent
POD_PATHS = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "ScaledJob": ("spec", "jobTargetRef", "template"),
    "JobSet": ("spec", "replicatedJobs", 0, "template", "spec", "template"),
    "TrainingRuntime": ("spec", "template", "spec", "replicatedJobs", 0, "template", "spec", "template"),
}


@dataclass(frozen=True)
class Edge:
    """A connection that policies allow."""

    caller: str
    called: str
    port: int


def rendered(overlay: str) -> str:
    """What `kubectl kustomize` makes of an overlay.

    Raises:
        subprocess.CalledProcessError: it refuses.
        FileNotFoundError: there is no kubectl.
    """
    command = ["kubectl", "kustomize", str(FOLDER / "overlays" / overlay)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def documents(text: str) -> list[Manifest]:
    """The manifests of a text."""
    return [one for one in yaml.load_all(text, Loader=yaml.CSafeLoader) if one]


def node_documents() -> list[Manifest]:
    """Those of multi-node training, which are in no overlay."""
    paths = sorted((FOLDER / "nodes").glob("*.yaml"))
    return [one for path in paths for one in documents(path.read_text(encoding="utf-8"))]


def template(document: Manifest) -> Manifest | None:
    """The pod template of a manifest; None if it starts no pods."""
    found: Any = document
    if document["kind"] not in POD_PATHS:
        return None
    for step in POD_PATHS[document["kind"]]:
        found = found[step]
    return found


def as_job(document: Manifest) -> Manifest:
    """A Kubernetes job with the pods of another project's resource, for tools that know only Kubernetes' own kinds."""
    pods = copy.deepcopy(template(document))
    metadata = {name: document["metadata"].get(name) for name in ("name", "namespace", "labels")}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": pods}}


def edges(made: list[Manifest]) -> set[Edge]:
    """Every connection between two named pods that one's egress and the other's ingress both allow."""
    policies = [one["spec"] for one in made if one["kind"] == "NetworkPolicy"]
    names = sorted({_name(pods) for one in made if (pods := template(one)) is not None})
    sent = {
        (name, *rule)
        for spec in policies
        for name in _selected(spec, names)
        for rule in _rules(spec, "egress")
    }
    taken = {
        (rule[0], name, rule[1])
        for spec in policies
        for name in _selected(spec, names)
        for rule in _rules(spec, "ingress")
    }
    return {Edge(*one) for one in sent & taken}


def _name(pods: Manifest) -> str:
    return pods["metadata"]["labels"][NAME_LABEL]


def _selected(spec: Manifest, names: list[str]) -> list[str]:
    selector = spec["podSelector"]
    for rule in selector.get("matchExpressions", []):
        names = [name for name in names if name in rule["values"]]
    wanted = selector.get("matchLabels", {}).get(NAME_LABEL)
    return [name for name in names if wanted in (None, name)]


def _rules(spec: Manifest, direction: str) -> Iterator[tuple[str, int]]:
    end = "to" if direction == "egress" else "from"
    for rule in spec.get(direction, []):
        for peer in rule[end]:
            name = peer.get("podSelector", {}).get("matchLabels", {}).get(NAME_LABEL)
            if name is not None and "namespaceSelector" not in peer:
                yield from ((name, port["port"]) for port in rule["ports"])
