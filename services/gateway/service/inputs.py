"""What a job's result depends on, as one hash: equal hashes mean the same work on the same inputs.

Ids say nothing about content, so files count as their bytes' hash, bases as the checksums of their files, tuned models as
their artifact, indexes as the stamp that says how and from what they were built, and other jobs as their own inputs. What
the hash cannot see: the packages that are installed beside the evaluator, the hardware, and a base that only workers have.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from sqlalchemy.orm import Session

from libs.common.db.tables import FileRow, IndexRow, JobRow, ModelRow
from libs.common.models.provenance import Source
from model_training.config.catalogue import CATALOGUE
from model_training.config.own_models import model_dir
from model_training.contracts.jobs import JobKind
from services.gateway import repository
from services.gateway.domain import parse_model_name

CODE_VERSION = {JobKind.INDEX: 1, JobKind.TRAIN: 1, JobKind.EVALUATE: 1, JobKind.COMPARE: 1}
"""Raised when a kind of job would make something else of the same inputs; older results are not reused then."""

AS_IT_IS = frozenset({"dataset"})
"""Fields that are shown in the result and read by nothing."""

NO_INPUT = frozenset({"metadata", "asked"})
"""Fields of a spec that change nothing; `asked` is what the resolved `config` was made from."""

_ID = re.compile(r"(file|model|ftjob|eval|idx|cmp)_[0-9a-z]{26}")


class _Unknown(Exception):
    """A name in the spec means nothing that could be hashed."""


def input_hash(session: Session, job: JobRow) -> str | None:
    """SHA-256 of what the job depends on; None when something in its spec cannot be pinned down."""
    if job.input_hash is not None:
        return job.input_hash
    kind = JobKind(job.kind)
    try:
        inputs = {k: _pin(session, job.project_id, k, v) for k, v in job.spec.items() if k not in NO_INPUT}
    except _Unknown:
        return None
    text = json.dumps([kind.value, CODE_VERSION[kind], inputs], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _pin(session: Session, project_id: str, key: str, value: Any) -> Any:
    """The same JSON value with what ids and names stand for in their place."""
    match value:
        case _ if key in AS_IT_IS:
            return value
        case dict():
            return {k: _pin(session, project_id, k, v) for k, v in value.items()}
        case list():
            return [_pin(session, project_id, key, item) for item in value]
        case str() if key == "model":
            return _model(session, project_id, value)
        case str() if match := _ID.fullmatch(value):
            return {match[1]: _content(session, project_id, match[1], value)}
        case _:
            return value


def _content(session: Session, project_id: str, prefix: str, id: str) -> Any:
    match prefix:
        case "file":
            return _of(repository.get(session, FileRow, project_id, id)).sha256
        case "model":
            return _of(repository.get(session, ModelRow, project_id, id)).artifact
        case "idx":
            return _of(repository.get(session, IndexRow, project_id, id)).stamp
        case _:
            return _of(input_hash(session, _of(repository.get(session, JobRow, project_id, id))))


def _model(session: Session, project_id: str, name: str) -> Any:
    """A base by its name and files, a tuned model by its artifact, an alias by what it points to; with the index, if any."""
    try:
        parsed = parse_model_name(name)
    except ValueError as error:
        raise _Unknown from error
    model = parsed.model
    if model not in CATALOGUE and not parsed.is_tuned:
        model = _of(repository.model_of_alias(session, project_id, model))
    pinned = _base(model) if model in CATALOGUE else {"model": _content(session, project_id, "model", model)}
    if parsed.index is not None:
        pinned["index"] = _of(repository.newest_index(session, project_id, parsed.index)).stamp
    return pinned


def _base(name: str) -> dict[str, Any]:
    """A base by its name, and by its files' checksums where it was prepared on this machine with a record of them."""
    try:
        source = Source.read(model_dir() / name)
    except (OSError, ValueError, TypeError) as error:
        raise _Unknown from error
    return {"base": name} | ({"files": source.files} if source is not None and source.files else {})


def _of(value: Any) -> Any:
    if value is None:
        raise _Unknown
    return value
