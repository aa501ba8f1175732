"""Checks every manifest of every overlay: `make check-deploy`, or `python -m deploy.k8s.check --tools FOLDER`.

Files are current, Kustomize says the same twice, Kubernetes' own kinds fit its schemas (kubernetes-validate, strict), those
of other projects theirs, and checkov finds nothing that is not explained here. FOLDER holds the two tools' programs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

from deploy.k8s.build import OVERLAYS, files
from deploy.k8s.pods import Manifest
from deploy.k8s.reading import FOLDER, as_job, documents, node_documents, rendered, template

KUBERNETES = ("1.31", "1.33", "1.37")
"""From the first version where waiting before SIGTERM needs no gate, to the newest with a schema."""


@dataclass(frozen=True)
class Waiver:
    """Why a finding is none. `names` are the resources that it may be about; empty means all."""

    check: str
    reason: str
    names: tuple[str, ...] = ()


WAIVERS = (
    Waiver(
        "CKV_K8S_15",
        "Tags name one build for good, so a node need not ask for what it has; with Always no pod starts while the registry "
        "is away.",
    ),
    Waiver(
        "CKV_K8S_43",
        "A digest is known once an image was pushed; a release sets it in its overlay (`images:`).",
    ),
    Waiver(
        "CKV_K8S_40",
        "Users of the upstream images, which own files in them.",
        ("postgres", "redis", "qdrant"),
    ),
    Waiver(
        "CKV_K8S_35",
        "Keys of a bucket come as variables, as every AWS program wants them; with a workload identity there are none.",
        ("comparator", "gateway", "inference", "trainer", "trainer-jobs"),
    ),
)


def stale() -> list[str]:
    """Files that are not what the inventory makes them."""
    wanted = files()
    there = {
        str(path.relative_to(FOLDER)): path.read_text(encoding="utf-8")
        for folder in {name.partition("/")[0] for name in wanted}
        for path in (FOLDER / folder).rglob("*.yaml")
    }
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def own_schema_faults(document: Manifest) -> list[str]:
    """Where a resource of another project breaks that project's schema."""
    path = FOLDER / "schemas" / f"{document['kind']}.json"
    validator = jsonschema_rs.validator_for(json.loads(path.read_text(encoding="utf-8")))
    return [f"{_title(document)}: {one.message}" for one in validator.iter_errors(document)]


def is_foreign(document: Manifest) -> bool:
    """Whether a resource is not Kubernetes' own."""
    return (FOLDER / "schemas" / f"{document['kind']}.json").exists()


def kubernetes_faults(made: list[Manifest], tools: Path) -> list[str]:
    """What kubernetes-validate says of Kubernetes' own kinds, and of the pods in others."""
    own = [one for one in made if not is_foreign(one)]
    pods = [as_job(one) for one in made if is_foreign(one) and template(one) is not None]
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "all.yaml"
        path.write_text(yaml.safe_dump_all([*own, *pods]), encoding="utf-8")
        for version in KUBERNETES:
            command = [str(tools / "kubernetes-validate"), "--strict", "-k", version, str(path)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            said = done.stdout + done.stderr
            faults += [f"{version}: {line}" for line in said.splitlines() if "ERROR" in line]
            if done.returncode and not faults:
                faults.append(f"{version}: {said.strip()[-500:]}")
    return faults


def findings(made: list[Manifest], tools: Path) -> list[tuple[str, str, str]]:
    """checkov's findings: check, resource, what it says."""
    own = [one for one in made if not is_foreign(one)]
    pods = [as_job(one) for one in made if is_foreign(one) and template(one) is not None]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "all.yaml"
        path.write_text(yaml.safe_dump_all([*own, *pods]), encoding="utf-8")
        command = [
            str(tools / "checkov"),
            "-f",
            str(path),
            "--framework",
            "kubernetes",
            "--quiet",
            "-o",
            "json",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    report: Any = json.loads(done.stdout)
    failed = report["results"]["failed_checks"]
    return [(one["check_id"], one["resource"].rpartition(".")[2], one["check_name"]) for one in failed]


def unexplained(found: list[tuple[str, str, str]]) -> list[str]:
    """Findings without a waiver."""
    return [
        f"{check} {name}: {text}"
        for check, name, text in found
        if not any(one.check == check and (not one.names or name in one.names) for one in WAIVERS)
    ]


def _title(document: Manifest) -> str:
    return f"{document['kind']} {document['metadata']['name']}"


def main() -> int:
    """Run every check and say what was checked; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m deploy.k8s.check", description=__doc__)
    parser.add_argument("--tools", type=Path, required=True, help="folder of kubernetes-validate and checkov")
    tools: Path = parser.parse_args().tools
    if shutil.which("kubectl") is None:
        sys.stdout.write(
            "kubectl is not installed; Kustomize is part of it: https://kubernetes.io/docs/tasks/tools/\n"
        )
        return 2
    faults = [f"not current, run `python -m deploy.k8s.build`: {name}" for name in stale()]
    sets = {name: rendered(name) for name in OVERLAYS}
    faults += [f"overlay {name} is not stable" for name, text in sets.items() if rendered(name) != text]
    used: set[str] = set()
    for name, made in {
        **{one: documents(text) for one, text in sets.items()},
        "nodes": node_documents(),
    }.items():
        own = [fault for one in made if is_foreign(one) for fault in own_schema_faults(one)]
        found = findings(made, tools)
        used |= {check for check, _, _ in found}
        bad = [*own, *kubernetes_faults(made, tools), *unexplained(found)]
        faults += [f"{name}: {fault}" for fault in bad]
        sys.stdout.write(
            f"{name}: {len(made)} manifests, {sum(map(is_foreign, made))} by their projects' schemas, "
            f"{len(found)} findings, {len(bad)} faults\n"
        )
    faults += [f"waiver {one.check} is of no use" for one in WAIVERS if one.check not in used]
    sys.stdout.write("".join(f"{fault}\n" for fault in faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
