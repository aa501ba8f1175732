"""`/v1/sweeps`: fine-tuning over a grid or random draws of settings, as one resource."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path
from fastapi.responses import JSONResponse

from model_training.contracts.base import Page
from model_training.contracts.jobs import JobKind
from model_training.contracts.sweeps import EXAMPLE, RANDOM_EXAMPLE, Sweep, SweepCreate
from services.gateway.api.creating import created
from services.gateway.api.dependencies import (
    After,
    IdempotencyKey,
    Limit,
    Parts,
    Reader,
    StateFilter,
    Submitter,
)
from services.gateway.service import jobs, sweeps

router = APIRouter(prefix="/v1/sweeps", tags=["sweeps"])
SweepId = Annotated[
    str, Path(description="A sweep's id.", min_length=1, max_length=200, examples=["sweep_01k9zq3v5c"])
]

LISTED: dict[str, Any] = {
    "id": "sweep_01jabk",
    "object": "sweep",
    "name": "learning rate and rank",
    "state": "running",
    "created_at": "2026-11-23T08:00:00Z",
    "started_at": "2026-11-23T08:00:01Z",
    **{name: EXAMPLE[name] for name in ("model", "training_file", "config", "search", "seeds", "finalists")},
    "max_parallel": 2,
    "best": {
        "trial": 4,
        "settings": {"learning_rate": 0.0003, "lora_r": 16},
        "eval_loss": 1.7312,
        "losses": {"0": 1.7312},
        "job_id": "ftjob_01jabn",
        "fine_tuned_model": "model_01jabp",
    },
    "progress": {
        "fraction": 0.4,
        "step": 4,
        "total": 10,
        "message": "2 running, 3 stopped, best eval_loss 1.7312 (trial 4)",
    },
}
SHOWN: dict[str, Any] = {
    **LISTED,
    "trials": [
        {
            "number": 1,
            "settings": {"learning_rate": 0.0001, "lora_r": 8},
            "state": "stopped",
            "rank": 3,
            "eval_loss": 2.2051,
            "reason": "eval_loss 2.2051 at 25% of its training is not among the best 2 of 4 trials there (up to 1.9420).",
            "runs": [
                {
                    "seed": 0,
                    "state": "stopped",
                    "job_id": "ftjob_01jabm",
                    "job_state": "cancelled",
                    "progress": {"fraction": 0.25, "step": 10, "total": 40},
                    "eval_loss": 2.2051,
                    "step": 10,
                    "reason": "eval_loss 2.2051 at 25% of its training is not among the best 2 of 4 trials there "
                    "(up to 1.9420).",
                }
            ],
        },
        {
            "number": 4,
            "settings": {"learning_rate": 0.0003, "lora_r": 16},
            "state": "succeeded",
            "rank": 1,
            "eval_loss": 1.7312,
            "seeds_done": 1,
            "runs": [
                {
                    "seed": 0,
                    "state": "succeeded",
                    "job_id": "ftjob_01jabn",
                    "job_state": "succeeded",
                    "progress": {"fraction": 1.0, "step": 40, "total": 40},
                    "eval_loss": 1.7312,
                    "step": 40,
                    "fine_tuned_model": "model_01jabp",
                }
            ],
        },
    ],
}


def _answer(example: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"application/json": {"example": example}}}}


@router.post("", summary="Create a sweep", response_model=Sweep, responses=_answer(SHOWN))
async def create(
    gateway: Parts,
    who: Submitter,
    request: Annotated[
        SweepCreate,
        Body(openapi_examples={"a grid": {"value": EXAMPLE}, "random draws": {"value": RANDOM_EXAMPLE}}),
    ],
    idempotency_key: IdempotencyKey = None,
) -> JSONResponse:
    """Queue fine-tuning jobs over several choices of settings (trials). Every trial runs with the first seed; those whose
    loss falls behind are stopped early and keep their checkpoints; the best `finalists` then run with the other seeds, so
    that the winner is reported with its spread. Every trial is checked as `POST /v1/fine_tuning/jobs` checks it before
    anything is stored. A sweep counts as one job against quotas of waiting jobs."""
    return await created(
        gateway,
        who,
        idempotency_key,
        "/v1/sweeps",
        request,
        lambda session, attempts: sweeps.create(session, who, request, attempts),
    )


@router.get(
    "",
    summary="List sweeps",
    responses=_answer({"object": "list", "data": [LISTED], "has_more": False, "last_id": "sweep_01jabk"}),
)
def list_sweeps(
    gateway: Parts, who: Reader, after: After = None, limit: Limit = 20, state: StateFilter = None
) -> Page[Sweep]:
    """Newest first, each with the best so far. Their trials are left out; retrieving one shows them."""
    with gateway.database.session() as session:
        return sweeps.list_page(session, who, after, limit, state)


@router.get("/{sweep_id}", summary="Retrieve a sweep", responses=_answer(SHOWN))
def get(gateway: Parts, who: Reader, sweep_id: SweepId) -> Sweep:
    """Every trial with its settings, loss, rank and jobs, and why it was stopped or failed; the best with its mean and
    spread over seeds. Events, pause and resume are those of its job, under `/v1/jobs/{id}`."""
    with gateway.database.session() as session:
        return sweeps.describe(session, jobs.require(session, who, sweep_id, JobKind.SWEEP))


@router.post(
    "/{sweep_id}/cancel", summary="Cancel a sweep", responses=_answer({**SHOWN, "state": "cancelling"})
)
def cancel(gateway: Parts, who: Submitter, sweep_id: SweepId) -> Sweep:
    """Ask the sweep and its jobs to end for good; what they have committed stays."""
    with gateway.database.session() as session:
        return sweeps.cancel(session, who, sweep_id)
