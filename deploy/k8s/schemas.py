"""Shortens the schemas of other projects' resources to what checking needs: `python -m deploy.k8s.schemas FOLDER`.

FOLDER holds definitions (`CustomResourceDefinition`) as their projects publish them; the folder `schemas` says which. Texts,
defaults and state are left out, and pods too: those are checked as Kubernetes' own. What a schema does not know is refused.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "schemas"
WANTED = {
    "ScaledJob": "v1alpha1",
    "TriggerAuthentication": "v1alpha1",
    "ServiceMonitor": "v1",
    "PrometheusRule": "v1",
    "ClusterQueue": "v1beta2",
    "LocalQueue": "v1beta2",
    "ResourceFlavor": "v1beta2",
    "JobSet": "v1alpha2",
    "TrainJob": "v1alpha1",
    "TrainingRuntime": "v1alpha1",
}
_DROPPED = ("description", "default", "format")
_OPEN = "x-kubernetes-preserve-unknown-fields"


def shortened(schema: Any) -> Any:
    """A schema in JSON Schema's words, closed where Kubernetes would prune."""
    if isinstance(schema, list):
        return [shortened(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if {"containers", "initContainers"} <= {*schema.get("properties", {})}:
        return {"type": "object"}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    kept = {name: value for name, value in schema.items() if not _is_dropped(name, value)}
    if "properties" in kept:
        properties = {name: shortened(value) for name, value in kept.pop("properties").items()}
        closed = {} if schema.get(_OPEN) else {"additionalProperties": False}
        return {
            **{name: shortened(value) for name, value in kept.items()},
            "properties": properties,
            **closed,
        }
    return {name: shortened(value) for name, value in kept.items()}


def _is_dropped(name: str, value: Any) -> bool:
    return name.startswith("x-kubernetes-") or (name in _DROPPED and not isinstance(value, dict))


def main(source: Path, folder: Path = FOLDER) -> None:
    """Write a schema for each kind that is wanted and found."""
    folder.mkdir(exist_ok=True)
    for path in sorted(source.glob("*.yaml")):
        for definition in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            kind = definition["spec"]["names"]["kind"]
            for version in definition["spec"]["versions"]:
                if WANTED.get(kind) == version["name"]:
                    schema = shortened(version["schema"]["openAPIV3Schema"])
                    schema["properties"] |= {"metadata": {"type": "object"}, "status": {"type": "object"}}
                    text = json.dumps(schema, separators=(",", ":"), sort_keys=True)
                    (folder / f"{kind}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
