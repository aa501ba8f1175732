"""`/v1/votes`."""

from __future__ import annotations

from fastapi import APIRouter

from model_training.contracts.base import Page
from model_training.contracts.votes import Vote, VoteCast
from services.gateway.api.dependencies import After, Asker, Limit, Parts, Reader
from services.gateway.service import votes

router = APIRouter(prefix="/v1/votes", tags=["chat"])


@router.post("", summary="Vote for an answer")
def cast(gateway: Parts, who: Asker, request: VoteCast) -> Vote:
    """Say which of several arms answered a question best. Voting again changes the vote, so sending twice is harmless."""
    with gateway.database.session() as session:
        return votes.cast(session, who, request)


@router.get("", summary="List votes")
def list_votes(gateway: Parts, who: Reader, after: After = None, limit: Limit = 100) -> Page[Vote]:
    """Votes of the project, newest first."""
    with gateway.database.session() as session:
        return votes.list_votes(session, who, after, limit)
