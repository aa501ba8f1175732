"""Writes base, components and overlays: `python -m deploy.k8s.build [FOLDER]`. A test proves that they are fresh.

Everything comes from the inventory; `kubectl apply -k deploy/k8s/overlays/cpu` needs nothing of this. See
docs/guide/kubernetes.md.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from deploy import inventory
from deploy.k8s import workloads
from deploy.k8s.components import Files, all_components
from deploy.k8s.network import default_deny, dns, policy
from deploy.k8s.nodes import among_nodes, job_set, train_job, training_runtime
from deploy.k8s.pods import NAMESPACE, VERSION, Manifest

FOLDER = Path(__file__).parent
HEAD = "# Written by `python -m deploy.k8s.build`; do not edit.\n"
WRITTEN = ("base", "components", "overlays", "nodes")
OVERLAYS = {
    "cpu": ("stores", "embedded-vectors", "single-node"),
    "gpu": ("stores", "qdrant", "gpu"),
    "production": ("managed-stores", "qdrant", "autoscaling", "keda", "gpu", "s3", "monitoring", "ingress"),
    "production-kueue": ("kueue",),
}
"""Each overlay's components, in the order in which they change each other."""


def files() -> dict[str, str]:
    """Every file, by its path below this folder."""
    folders = {
        "base": _base(),
        **{f"components/{name}": made for name, made in all_components().items()},
        **{f"overlays/{name}": _overlay(name) for name in OVERLAYS},
        "nodes": {
            "network.yaml": [among_nodes()],
            "jobset.yaml": [job_set()],
            "trainjob.yaml": [training_runtime(), train_job()],
        },
    }
    return {
        f"{folder}/{name}": _text(body) for folder, made in folders.items() for name, body in made.items()
    }


def _base() -> Files:
    made: Files = {
        "namespace.yaml": [workloads.namespace()],
        "volumes.yaml": [workloads.claim(volume) for volume in inventory.VOLUMES if volume.shared],
        "network.yaml": [default_deny(), dns(), *(policy(part) for part in inventory.STORES)],
        "stores.yaml": [workloads.account(part) for part in inventory.STORES],
    }
    for part in inventory.SERVICES:
        made[f"{part.name}.yaml"] = [
            workloads.account(part),
            workloads.service(part),
            workloads.deployment(part),
            workloads.disruption_budget(part),
            policy(part),
        ]
    for part in inventory.TASKS:
        made[f"{part.name}.yaml"] = [workloads.account(part), workloads.job(part), policy(part)]
    head = _kustomization(resources=sorted(made))
    return {**made, "kustomization.yaml": head}


def _overlay(name: str) -> Files:
    components = [f"../../components/{one}" for one in OVERLAYS[name]]
    below = "../production" if name == "production-kueue" else "../../base"
    return {"kustomization.yaml": _kustomization(resources=[below], components=components)}


def _kustomization(**body: Any) -> Manifest:
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "labels": [{"pairs": {"app.kubernetes.io/version": VERSION}}],
        **body,
    }


def _text(body: Any) -> str:
    documents = body if isinstance(body, list) else [body]
    return HEAD + yaml.dump_all(documents, Dumper=_Readable, sort_keys=False, width=120)


class _Readable(yaml.CSafeDumper):
    """Repeats what is repeated, and writes long texts as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _block(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _block)


def main(folder: Path = FOLDER) -> None:
    """Write every file, and drop those that are no longer."""
    texts = files()  # before anything goes: a mistake in the code leaves the folder as it is
    for name in WRITTEN:
        shutil.rmtree(folder / name, ignore_errors=True)
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
