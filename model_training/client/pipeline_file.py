"""A pipeline as a person writes it: a YAML file whose `files` may be paths, and whose data set may still have to be built.

Reading checks everything that can be known without the platform; `with_uploads` turns paths into ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import ValidationError

from model_training.client.client import Client
from model_training.client.data import upload_data
from model_training.contracts.files import FilePurpose
from model_training.contracts.pipeline_graph import PipelineFault, plan, references, texts
from model_training.contracts.pipelines import EXAMPLE, PipelineCreate
from model_training.datasets.package.build import FILES as DATASET_FILES
from model_training.datasets.package.records import Options
from model_training.errors import UserError

ID_PREFIX = "file_"
DATASET = {Path(name).stem: name for name in DATASET_FILES if name.endswith(".jsonl")}
"""Names under which the files of a built data set can be referred to."""

_PURPOSES = {
    "training_file": FilePurpose.FINE_TUNE,
    "validation_file": FilePurpose.FINE_TUNE,
    "examples_file": FilePurpose.FINE_TUNE,
    "files": FilePurpose.CHUNKS,
    "file": FilePurpose.EVALUATION,
}
"""What a file is for, by the field that names it."""


@dataclass(frozen=True)
class PipelineFile:
    """A pipeline whose `files` may still be paths, and the packages to build its data set from, if any."""

    request: PipelineCreate
    packages: list[str]
    options: Options


def example() -> str:
    """A pipeline file to start from."""
    written = {**EXAMPLE, "dataset": {"packages": ["attrs"], "rows": 600}}
    del written["files"]
    order = ("name", "dataset", "steps")
    return yaml.safe_dump(
        {key: written[key] for key in order}, sort_keys=False, allow_unicode=True, width=110
    )


def read(path: Path) -> PipelineFile:
    """Read a pipeline file.

    Raises:
        UserError: the file cannot be read, or the pipeline in it cannot run; the step and the field are named.
    """
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"{path} cannot be read: {reason}.") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(data, dict):
        raise UserError(f"{path} holds no pipeline.", hint="`mt pipelines example` prints one to start from.")
    given = cast("dict[str, Any]", data)
    packages, options = _dataset(given.pop("dataset", None), path)
    files = {**(DATASET if packages else {}), **(given.get("files") or {})}
    try:
        request = PipelineCreate.model_validate({**given, "files": files})
        plan(request)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: {_place(first['loc'], given)}: {first['msg']}.") from error
    except PipelineFault as fault:
        raise UserError(f"{path}: {fault.message}", hint=fault.hint) from fault
    return PipelineFile(request, packages, options)


def _dataset(given: Any, path: Path) -> tuple[list[str], Options]:
    if given is None:
        return [], Options()
    known = {"rows", "tasks", "questions", "seed"}
    section = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
    packages = section.get("packages")
    numbers = {key: value for key, value in section.items() if key in known and type(value) is int}
    if not isinstance(packages, list) or not packages or len(numbers) != len(section) - 1:
        raise UserError(
            f"{path}: dataset = {given!r} must name packages, and may name {', '.join(sorted(known))}.",
            hint="For example `dataset: {packages: [attrs], rows: 600}`.",
        )
    return [str(name) for name in cast("list[Any]", packages)], Options(**numbers)


def _place(loc: tuple[int | str, ...], data: dict[str, Any]) -> str:
    """Where a fault is, with the step's name in place of its position."""
    parts = [str(part) for part in loc]
    if len(loc) > 1 and loc[0] == "steps" and isinstance(loc[1], int):
        step: Any = data["steps"][loc[1]]
        name: Any = cast("dict[str, Any]", step).get("name") if isinstance(step, dict) else None
        parts[1:3] = [str(name or loc[1])]
    return ".".join(parts)


def with_uploads(client: Client, file: PipelineFile, dataset: Path | None) -> PipelineCreate:
    """Upload the files that are paths.

    Args:
        dataset: where the built data set lies; paths of its files are looked for there.

    Raises:
        UserError: a file cannot be read, has faulty rows, or is used for nothing or for two different things.
    """
    uploaded: dict[str, str] = {}
    for name, value in file.request.files.items():
        if value.startswith(ID_PREFIX):
            uploaded[name] = value
            continue
        path = dataset / value if dataset is not None and DATASET.get(name) == value else Path(value)
        purpose = _purpose(file.request, name)
        if purpose is not None:
            uploaded[name] = upload_data(client, path, purpose, field=f"files.{name}").id
    return file.request.model_copy(update={"files": uploaded})


def _purpose(request: PipelineCreate, name: str) -> FilePurpose | None:
    """What a file is for; None for a file of the data set that no step uses."""
    found = set(_purposes(request, name))
    if len(found) == 1:
        return found.pop()
    if not found and name in DATASET:
        return None
    reason = "no step uses it" if not found else f"steps use it as {' and as '.join(sorted(found))}"
    raise UserError(f"files.{name}: it is not clear what the file is for; {reason}.")


def _purposes(request: PipelineCreate, name: str) -> Iterator[FilePurpose]:
    for step in request.steps:
        for where, text in texts(step.body.model_dump(mode="json"), step.name):
            field = next(part for part in reversed(where.split(".")) if not part.isdigit())
            if field in _PURPOSES and any(r.name == name and not r.of_step for r in references(text, where)):
                yield _PURPOSES[field]
