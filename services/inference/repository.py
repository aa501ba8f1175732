"""All SQL of the inference service: which tuned model stands on which base and artifact, and what its gate said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, update

from libs.common.db.engine import Database
from libs.common.db.tables import JobRow, ModelRow
from libs.common.jobs import events


@dataclass(frozen=True)
class TunedModel:
    """A tuned model as the database knows it. `state` is pending, servable or refused."""

    id: str
    base: str
    artifact: str
    state: str
    gate: dict[str, Any] | None
    created_at: datetime
    pinned: bool = False


class ModelRepository:
    """Reads and marks tuned models. Sync: call it from a thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, model_id: str) -> TunedModel | None:
        """The tuned model of an id, or None."""
        with self._database.session() as session:
            row = session.get(ModelRow, model_id)
            return _tuned(row) if row else None

    def list_all(self) -> list[TunedModel]:
        """All tuned models, newest first."""
        with self._database.session() as session:
            return [_tuned(row) for row in session.scalars(select(ModelRow).order_by(ModelRow.id.desc()))]

    def pinned(self) -> list[str]:
        """Models that are to be kept in memory."""
        query = select(ModelRow.id).where(ModelRow.pinned).order_by(ModelRow.id)
        with self._database.session() as session:
            return list(session.scalars(query))

    def set_pinned(self, model_id: str, pinned: bool) -> None:
        """Remember whether a model is to be kept in memory."""
        with self._database.session() as session:
            session.execute(update(ModelRow).where(ModelRow.id == model_id).values(pinned=pinned))

    def record_gate(self, model_id: str, state: str, gate: dict[str, Any]) -> None:
        """Store what the comparison with the fingerprint gave; a refusal is an event of the training job, too."""
        with self._database.session() as session:
            row = session.get(ModelRow, model_id)
            if row is None:
                return
            row.state, row.gate = state, gate
            if (
                state == "refused"
                and row.job_id
                and (job := session.get(JobRow, row.job_id, with_for_update=True))
            ):
                message = f"{model_id} cannot be served: {gate.get('reason')}"
                events.append(session, job, message, type="gate_failed", level="error", data=gate)
                events.notify(session, job.id)


def _tuned(row: ModelRow) -> TunedModel:
    return TunedModel(row.id, row.base, row.artifact, row.state, row.gate, row.created_at, row.pinned)
