"""Votes of people on answers that stood side by side."""

from __future__ import annotations

import hashlib
import json

from sqlalchemy.orm import Session

from libs.common.db.tables import VoteRow
from libs.common.errors import InvalidInput
from libs.common.ids import new_id
from model_training.contracts.base import Page
from model_training.contracts.votes import Vote, VoteCast
from services.gateway import repository_votes
from services.gateway.domain import Principal


def cast(session: Session, who: Principal, request: VoteCast) -> Vote:
    """Store a vote, or change the one that the key has given on the same question and arms.

    Raises:
        InvalidInput: what is chosen is no arm.
    """
    if request.chosen not in request.arms:
        raise InvalidInput(
            f"{request.chosen!r} is none of the arms.", param="chosen", hint="Choose one of `arms`."
        )
    arms = sorted(set(request.arms))
    subject = json.dumps([request.question, arms], ensure_ascii=False)
    row = VoteRow(
        id=new_id("vote"),
        project_id=who.project_id,
        key_id=who.name,
        subject_sha256=hashlib.sha256(subject.encode()).hexdigest(),
        question=request.question,
        arms=arms,
        chosen=request.chosen,
    )
    return _describe(repository_votes.save(session, row))


def list_votes(session: Session, who: Principal, after: str | None, limit: int) -> Page[Vote]:
    """Votes of the project, newest first."""
    rows, more = repository_votes.page(session, who.project_id, after, limit)
    return Page.of([_describe(row) for row in rows], more)


def _describe(row: VoteRow) -> Vote:
    return Vote(
        id=row.id,
        question=row.question,
        arms=row.arms,
        chosen=row.chosen,
        created_by=row.key_id,
        created_at=row.created_at,
    )
