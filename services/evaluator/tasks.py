"""The job kind `evaluate`: ids become paths for the child, graded items are stored and summed up."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from libs.common.db.tables import JobRow
from libs.common.errors import InvalidInput, LeaseLost, NotFound
from libs.common.files import file_path
from libs.common.jobs import shards, sharing
from libs.common.jobs.shards import Shard
from model_training.config.catalogue import find_model
from model_training.contracts.endpoints import EXTERNAL_PREFIX
from model_training.contracts.evaluations import EvaluationCreate, ItemResult
from model_training.contracts.files import FilePurpose
from model_training.contracts.jobs import JobKind
from services.evaluator import repository
from services.evaluator.likelihood import ReferencePerplexity
from services.evaluator.service import summarise
from services.evaluator.settings import EvaluatorSettings
from services.evaluator.suites.registry import find_suites


class EvaluateHandler:
    """Runs evaluations. A second attempt goes on after the items that the first one stored."""

    kind = JobKind.EVALUATE
    child_module = "services.evaluator.child"

    def __init__(self, settings: EvaluatorSettings) -> None:
        self._settings = settings
        self._scorers = {name: suite.score for name, suite in find_suites(settings.suites_dir).items()}

    def prepare(self, session: Session, job: JobRow) -> dict[str, Any]:
        """The child's order: the request, the paths of its files, what is known of the model, and the items done.

        Raises:
            NotFound: a file or the tuned model is not there.
            InvalidInput: a file was uploaded for something else, or examples were asked for without a file of them.
        """
        wanted = EvaluationCreate.model_validate(job.spec)
        sharing.take_from_former(session, job)
        if wanted.samples > 1 and wanted.prompt.temperature == 0:
            raise InvalidInput(
                f"{wanted.samples} answers to each question are asked for at temperature 0: they would all be equal.",
                param="prompt.temperature",
                hint="Set a temperature, 0.8 for example, or ask once.",
            )
        if wanted.model.startswith(EXTERNAL_PREFIX) and ReferencePerplexity.name in wanted.metrics:
            raise InvalidInput(
                "An endpoint of others does not tell how likely a given text is.",
                param="metrics",
                hint=f"Leave {ReferencePerplexity.name} out for `{EXTERNAL_PREFIX}…` models.",
            )
        files = {
            suite.file: self._path(session, job.project_id, suite.file, FilePurpose.EVALUATION)
            for suite in wanted.suites
            if suite.file is not None
        }
        examples = wanted.prompt.examples_file
        if examples is None and wanted.prompt.shots not in ("auto", 0):
            raise InvalidInput(
                f"{wanted.prompt.shots} examples are asked for, but no file to take them from.",
                param="prompt.examples_file",
                hint="Name an uploaded training file, or leave `shots` at `auto`.",
            )
        if examples is not None:
            files[examples] = self._path(session, job.project_id, examples, FilePurpose.FINE_TUNE)
        return {
            "request": wanted.model_dump(mode="json"),
            "files": files,
            "project": job.project_id,
            "traits": self._traits(session, job.project_id, wanted.model)
            | {"right_passages": wanted.passages == "right"},
            "fingerprint": self._fingerprint(session, job.project_id, wanted.model),
            "done": repository.done_ids(session, job.id),
            "is_shared": shards.counts(session, job.id) != shards.ShardCounts(),
        }

    def _path(self, session: Session, project_id: str, file_id: str, purpose: FilePurpose) -> str:
        row = repository.find_file(session, project_id, file_id)
        path = file_path(self._settings.home, row.sha256) if row is not None else None
        if row is None or path is None or not path.exists():
            raise NotFound(
                f"There is no file {file_id!r}.",
                param="suites",
                hint=f"Upload it with purpose `{purpose.value}` first.",
            )
        if row.purpose != purpose.value:
            raise InvalidInput(
                f"File {file_id} ({row.filename}) was uploaded with purpose {row.purpose!r}.",
                param="suites",
                hint=f"Upload it again with purpose `{purpose.value}`.",
            )
        return str(path)

    def _traits(self, session: Session, project_id: str, name: str) -> dict[str, Any]:
        model = name.rsplit("@", 1)[-1] if name.startswith("rag:") else name
        row = repository.find_model(session, project_id, model) if model.startswith("model_") else None
        if model.startswith("model_") and row is None:
            raise NotFound(
                f"There is no model {model!r}.", param="model", hint="`mt models list` shows them."
            )
        return {
            "base": row.base if row is not None else model,
            "is_tuned": row is not None,
            "is_retrieval": name.startswith("rag:"),
        }

    def _fingerprint(self, session: Session, project_id: str, name: str) -> str | None:
        """What the model's answers depend on; None behind an index or elsewhere, where it may change."""
        if name.startswith(("rag:", EXTERNAL_PREFIX)):
            return None
        row = repository.find_model(session, project_id, name) if name.startswith("model_") else None
        base = row.base if row is not None else name
        entry = find_model(base)
        revision = getattr(entry, "revision", None) or base
        return f"{base}@{revision}+{row.artifact if row is not None else ''}"

    def store(self, session: Session, job: JobRow, name: str, data: dict[str, Any]) -> None:
        """Store one graded item, or hear what the child wants of the job's shards."""
        if name == "item":
            repository.save_item(session, job.id, data["position"], ItemResult.model_validate(data["result"]))
        else:
            sharing.hear(session, job, sharing.owner_of(job), name, data, self._settings.lease_s)

    def store_part(
        self, session: Session, job: JobRow, mine: list[Shard], name: str, data: dict[str, Any]
    ) -> None:
        """Store one graded item of a helper. Raises LeaseLost where it belongs to none of its shards."""
        position = data["position"]
        if not any(shard.spec["start"] <= position < shard.spec["stop"] for shard in mine):
            raise LeaseLost(f"answer {position} of {job.id} is somebody else's by now")
        self.store(session, job, name, data)

    def news(self, session: Session, job: JobRow, owner: str) -> dict[str, Any] | None:
        """Which shards the owner holds, what of them is done, and how far the whole evaluation is."""
        news = sharing.news(session, job, owner, self._settings.lease_s)
        if news is None:
            return None
        for shard in news["mine"]:
            shard["done"] = repository.done_positions(session, job.id, shard["start"], shard["stop"])
        stored, right = repository.tally(session, job.id)
        return {**news, "stored": stored, "right": right}

    def finish(self, session: Session, job: JobRow, result: dict[str, Any]) -> dict[str, Any]:
        """The job's result: the child's account, with the summary of every stored item, earlier attempts' included."""
        results = repository.results(session, job.id)
        parts = [part for part in shards.results(session, job.id) if part is not None]
        in_reach = {*result["documentation_in_reach"], *(name for part in parts for name in part["in_reach"])}
        return {
            **result,
            "documentation_in_reach": sorted(in_reach),
            "workers": len({part["by"] for part in parts}) or 1,
            "suites": [summary.model_dump(mode="json") for summary in summarise(results, self._scorers)],
            "n": len(results),
            "correct": sum(bool(row["correct"]) for row in results),
            "prompt_tokens": sum(row["prompt_tokens"] for row in results),
            "completion_tokens": sum(row["completion_tokens"] for row in results),
        }
