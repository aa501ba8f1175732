"""A stand-in of the gateway for tests of pages: the wire's shapes over a made-up world, answers at a chosen pace.

`python -m tests.browser.stand_in PORT [items]` serves one to look at. It can be stopped and started while it answers.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from bisect import bisect_right
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, UploadFile
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel

from libs.common.errors import Conflict, Forbidden, NotFound
from libs.common.problems import respond
from libs.common.service import BackgroundServer, create_app
from model_training.contracts.alerts import Silence
from model_training.contracts.base import Page
from model_training.contracts.comparison_views import WhatIf
from model_training.contracts.files import FilePurpose
from model_training.contracts.indexes import Passages, QueryHit, QueryReply, QueryRequest
from model_training.contracts.jobs import FINAL_STATES, Job, JobKind, JobState
from model_training.contracts.models import ModelAlias
from services.comparator.service import browsing
from services.comparator.service.what_if import what_if
from tests.browser import world as made
from tests.browser.world import World

OBSERVED = ("/v1/alerts", "/v1/monitoring/history", "/v1/monitoring/canaries", "/v1/monitoring/drift")
"""What a key without the scope `observe` is refused."""


@dataclass
class StandIn:
    """The world, how answers come, and what was asked."""

    world: World
    pause_s: float = 0.0
    """Between the words of an answer."""
    answers: dict[str, str] = field(default_factory=dict[str, str])
    """By model; others give the usual answer."""
    asked: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    calls: list[str] = field(default_factory=list[str])
    port: int = 0
    lacking: str = ""
    """A scope that nobody's key has here: `observe`."""
    _server: BackgroundServer | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve, until it is stopped."""
        self._server = BackgroundServer(build(self), self.url)
        self._server.start()

    def stop(self) -> None:
        """Go away, as a gateway does that is restarted; streams break."""
        if self._server is not None:
            self._server._server.force_exit = True  # open streams break off; nobody waits for them
            self._server.stop()
            self._server = None


def build(stand_in: StandIn) -> FastAPI:
    """The application."""
    app = create_app("gateway")

    @app.middleware("http")
    async def note(request: Request, call_next: Any) -> Response:
        stand_in.calls.append(f"{request.method} {request.url.path}")
        if stand_in.lacking and request.url.path.startswith(OBSERVED):
            refused = Forbidden(f"The key lacks the scope {stand_in.lacking!r}.", hint="It has: read.")
            return respond(request, refused.problem())
        return await call_next(request)

    for add in (_jobs, _files, _models, _chat, _work, _comparisons, _retrieval, _monitoring, _rest):
        router = APIRouter(prefix="/v1")
        add(router, stand_in)
        app.include_router(router)
    return app


def _json(found: BaseModel) -> Response:
    return Response(found.model_dump_json(), media_type="application/json")


def _page(found: list[Any]) -> Response:
    data = [one.model_dump(mode="json") if isinstance(one, BaseModel) else one for one in found]
    return JSONResponse({"object": "list", "data": data, "has_more": False})


def _missing(what: str) -> NotFound:
    return NotFound(f"There is no {what}.", hint="See the list.")


def _jobs(router: APIRouter, s: StandIn) -> None:  # noqa: C901 (routes beside each other)
    @router.get("/jobs")
    async def list_jobs(
        kind: JobKind | None = None, state: JobState | None = None, limit: int = 20
    ) -> Response:
        fits = [j for j in s.world.jobs.values() if kind in (None, j.kind) and state in (None, j.state)]
        return _page(fits[:limit])

    @router.get("/jobs/{job_id}")
    async def get_job(job_id: str) -> Response:
        if job_id not in s.world.jobs:
            raise _missing(f"job {job_id!r}")
        return _json(s.world.jobs[job_id])

    @router.get("/jobs/{job_id}/metrics")
    async def metrics(job_id: str, after: int = -1, limit: int = 1000) -> Response:
        points = s.world.metrics.get(job_id, [])
        points = points[bisect_right(points, after, key=lambda point: point.step) :]
        return JSONResponse(
            {
                "object": "list",
                "data": [p.model_dump(mode="json") for p in points[:limit]],
                "has_more": len(points) > limit,
            }
        )

    @router.get("/jobs/{job_id}/events")
    async def events(job_id: str, request: Request) -> Response:
        job = s.world.jobs.get(job_id)
        if job is None:
            raise _missing(f"job {job_id!r}")
        found = [event.model_copy(update={"job_id": job_id}) for event in s.world.events]
        if "text/event-stream" not in request.headers.get("accept", ""):
            return _page(found)

        async def stream() -> AsyncIterator[str]:
            for event in found:
                yield f"id: {event.sequence}\nevent: {event.type}\ndata: {event.model_dump_json()}\n\n"
            while s.world.jobs[job_id].state not in FINAL_STATES:
                yield ": alive\n\n"
                await asyncio.sleep(0.5)
            yield f"event: done\ndata: {s.world.jobs[job_id].model_dump_json()}\n\n"

        return StreamingResponse(stream(), media_type="text/event-stream")

    @router.post("/jobs/{job_id}/{action}")
    async def act(job_id: str, action: str) -> Response:
        states = {"cancel": JobState.CANCELLED, "pause": JobState.PAUSED, "resume": JobState.QUEUED}
        s.world.jobs[job_id] = s.world.jobs[job_id].model_copy(update={"state": states[action]})
        return _json(s.world.jobs[job_id])

    @router.get("/fine_tuning/jobs")
    async def trainings() -> Response:
        return _page([_tuning(s, job) for job in s.world.jobs.values() if job.kind is JobKind.TRAIN])

    @router.get("/fine_tuning/jobs/{job_id}")
    async def training(job_id: str) -> Response:
        if job_id not in s.world.jobs:
            raise _missing(f"job {job_id!r}")
        return JSONResponse(_tuning(s, s.world.jobs[job_id]))


def _tuning(s: StandIn, job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "created_at": int(job.created_at.timestamp()),
        "model": made.BASE,
        "training_file": "file_0001",
        "status": job.state.value,
        "fine_tuned_model": made.TUNED if job.state is JobState.SUCCEEDED else None,
        "hyperparameters": {},
        "trained_tokens": 148_230,
        "user_provided_suffix": s.world.suffix,
        "seed": 0,
        "organization_id": "proj_default",
        "result_files": [],
        "finished_at": None,
    }


def _files(router: APIRouter, s: StandIn) -> None:
    @router.get("/files")
    async def list_files(purpose: FilePurpose | None = None) -> Response:
        return _page([f for f, _ in reversed(s.world.files.values()) if purpose in (None, f.purpose)])

    @router.post("/files")
    async def upload(request: Request) -> Response:
        form = await request.form()
        sent = form["file"]
        assert not isinstance(sent, str)
        file: UploadFile = sent  # type: ignore[assignment]
        content = await file.read()
        return _json(
            made.add_file(s.world, file.filename or "file", FilePurpose(str(form["purpose"])), content)
        )

    @router.get("/files/{file_id}")
    async def get_file(file_id: str) -> Response:
        return _json(_file(s, file_id)[0])

    @router.get("/files/{file_id}/content")
    async def content(file_id: str) -> Response:
        return Response(_file(s, file_id)[1], media_type="application/jsonl")

    @router.get("/files/{file_id}/report")
    async def report(file_id: str) -> Response:
        rows = _file(s, file_id)[1].count(b"\n")
        return JSONResponse(
            {"rows": rows, "kinds": {"question": rows}, "characters": 400, "duplicates": 1, "fault_count": 0}
        )

    @router.delete("/files/{file_id}")
    async def delete(file_id: str) -> Response:
        s.world.files.pop(file_id)
        return JSONResponse({"id": file_id, "object": "file", "deleted": True})


def _file(s: StandIn, file_id: str) -> Any:
    if file_id not in s.world.files:
        raise _missing(f"file {file_id!r}")
    return s.world.files[file_id]


def _models(router: APIRouter, s: StandIn) -> None:
    @router.get("/models")
    async def list_models() -> Response:
        return _page(s.world.models)

    @router.get("/models/champion/history")
    async def history() -> Response:
        return _page(list(reversed(s.world.aliases)))

    @router.get("/models/{model_id}")
    async def get_model(model_id: str) -> Response:
        found = next((m for m in s.world.models if m.id == model_id or model_id in m.aliases), None)
        if found is None:
            raise _missing(f"model {model_id!r}")
        return _json(found)

    @router.post("/models/{model_id}/{move}")
    async def move(model_id: str, move: str, request: Request) -> Response:
        body = await request.json()
        alias = ModelAlias(
            alias="champion",
            model=model_id,
            version=len(s.world.aliases) + 1,
            reason=body.get("reason", ""),
            created_at=made.NOW,
            changed_by="default",
        )
        s.world.aliases.append(alias)
        return _json(alias)


def _chat(router: APIRouter, s: StandIn) -> None:
    @router.post("/chat/completions")
    async def chat(request: Request) -> Response:
        body = await request.json()
        s.asked.append(body)
        model: str = body["model"]
        known = {m.id for m in s.world.models} | {"champion"}
        if model.rpartition("@")[2] not in known:
            raise _missing(f"model {model!r}")
        extra = _packed(s) if model.startswith("rag:") else {}
        text = s.answers.get(model) or s.world.answers.get(model, made.ANSWER)
        words = [word if i == 0 else f" {word}" for i, word in enumerate(text.split(" "))]
        usage = {
            "prompt_tokens": 380 if extra else 120,
            "completion_tokens": len(words),
            "total_tokens": 120 + len(words),
        }
        head = {"id": "chatcmpl-1", "created": 1, "model": model}
        if not body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            return JSONResponse(
                {
                    **head,
                    "object": "chat.completion",
                    "choices": [choice],
                    "usage": usage,
                    "prompt": "Use these.",
                    **extra,
                }
            )

        async def pieces() -> AsyncIterator[str]:
            for i, word in enumerate(words):
                last = i == len(words) - 1
                choice = {"index": 0, "delta": {"content": word}, "finish_reason": "stop" if last else None}
                chunk = {**head, "object": "chat.completion.chunk", "choices": [choice]}
                yield f"data: {json.dumps(chunk | (extra if i == 0 else {}) | ({'usage': usage} if last else {}))}\n\n"
                await asyncio.sleep(s.pause_s)
            yield "data: [DONE]\n\n"

        return StreamingResponse(pieces(), media_type="text/event-stream")


def _packed(s: StandIn) -> dict[str, Any]:
    packed = [
        {
            "number": n,
            "rank": n,
            "id": c.id,
            "title": c.title,
            "text": c.text,
            "functions": c.functions,
            "source": c.source.model_dump(exclude_none=True),
            "score": 0.7 / n,
        }
        for n, c in enumerate(s.world.chunks[4:7], start=1)
    ]
    dropped = [c.id for c in s.world.chunks[7:12]]
    return {
        "sources": packed,
        "packing": {
            "packed": [p["id"] for p in packed],
            "dropped": dropped,
            "context_tokens": 214,
            "budget": 800,
        },
    }


def _work(router: APIRouter, s: StandIn) -> None:
    @router.get("/evaluations")
    async def evaluations() -> Response:
        return _page(sorted(s.world.evaluations.values(), key=lambda e: e.created_at, reverse=True))

    @router.post("/evaluations")
    async def evaluate(request: Request) -> Response:
        s.asked.append(await request.json())
        return _json(s.world.evaluations["eval_run"])

    @router.get("/evaluations/{name}")
    async def evaluation(name: str) -> Response:
        if name not in s.world.evaluations:
            raise _missing(f"evaluation {name!r}")
        return _json(s.world.evaluations[name])

    @router.get("/evaluations/{name}/items")
    async def items(
        name: str,
        status: str | None = None,
        suite: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Response:
        rows = [
            i for i in s.world.items.get(name, []) if status in (None, i.status) and suite in (None, i.suite)
        ]
        start = next((n + 1 for n, i in enumerate(rows) if i.item_id == after), 0)
        cut = rows[start : start + limit]
        return _json(
            Page[Any](
                data=[i.model_dump(mode="json") for i in cut],
                last_id=cut[-1].item_id if cut else None,
                has_more=start + limit < len(rows),
            )
        )


def _comparisons(router: APIRouter, s: StandIn) -> None:
    @router.get("/comparisons")
    async def comparisons() -> Response:
        return _page([c.model_copy(update={"report": None}) for c in s.world.comparisons.values()])

    @router.post("/comparisons")
    async def compare(request: Request) -> Response:
        s.asked.append(await request.json())
        return _json(next(iter(s.world.comparisons.values())))

    @router.get("/comparisons/{name}")
    async def comparison(name: str) -> Response:
        if name not in s.world.comparisons:
            raise _missing(f"comparison {name!r}")
        return _json(s.world.comparisons[name])

    @router.get("/comparisons/{name}/matrix")
    def matrix(name: str, request: Request, offset: int = 0, limit: int = 50) -> Response:
        given = {k: v for k, v in request.query_params.items() if k not in ("offset", "limit")}
        return _json(browsing.matrix(_items(s, name), browsing.Wanted(**given), offset, limit))  # type: ignore[arg-type]

    @router.get("/comparisons/{name}/matrix/{position}")
    def item(name: str, position: int) -> Response:
        return _json(browsing.item_at(_items(s, name), position))

    @router.post("/comparisons/{name}/what_if")
    def other_prices(name: str, request: WhatIf) -> Response:
        return _json(what_if(_items(s, name).parent, request))

    @router.get("/comparisons/{name}/report.{form}")
    async def report(name: str, form: str) -> Response:
        return Response((s.world.folders[name] / f"report.{form}").read_bytes())


def _items(s: StandIn, name: str) -> Path:
    if name not in s.world.folders:
        raise _missing(f"comparison {name!r}")
    return s.world.folders[name] / "items.jsonl"


def _retrieval(router: APIRouter, s: StandIn) -> None:
    @router.get("/indexes")
    async def indexes() -> Response:
        return _page(s.world.indexes)

    @router.get("/indexes/{name}")
    async def index(name: str) -> Response:
        found = next((i for i in s.world.indexes if name in (i.id, i.name)), None)
        if found is None:
            raise _missing(f"index {name!r}")
        return _json(found)

    @router.get("/indexes/{name}/passages")
    async def passages(name: str, text: str = "", offset: int = 0, limit: int = 20) -> Response:
        fits = [c for c in s.world.chunks if text.casefold() in f"{c.title} {c.text}".casefold()]
        return _json(
            Passages(
                index="idx_01demo",
                total=len(s.world.chunks),
                offset=offset,
                has_more=len(fits) > offset + limit,
                data=fits[offset : offset + limit],
            )
        )

    @router.post("/indexes/{name}/query")
    async def query(name: str, request: QueryRequest) -> Response:
        s.asked.append(request.model_dump())
        shift = s.world.found_from + {"dense": 0, "bm25": 3}.get(request.mode or "", 1)
        found = s.world.chunks[shift : shift + request.limit]
        return _json(
            QueryReply(
                index="idx_01demo",
                hits=[QueryHit(rank=r, score=1.0 / r, chunk=c) for r, c in enumerate(found, start=1)],
            )
        )

    @router.post("/indexes/{name}/tune")
    async def tune(name: str) -> Response:
        return JSONResponse(
            {
                "index": "idx_01demo",
                "metric": "ndcg",
                "k": 5,
                "chosen": {"mode": "hybrid", "fusion": "dbsf"},
                "tried": 18,
                "held_out": 115,
                "default": {"estimate": 0.915, "low": 0.878, "high": 0.947},
                "tuned": {"estimate": 0.927, "low": 0.892, "high": 0.958},
                "difference": {"estimate": 0.014, "low": -0.017, "high": 0.046},
                "stored": True,
                "reason": "Better than the default, but the interval includes 0: it may be chance.",
                "best": [{"mode": "hybrid", "fusion": "dbsf", "ndcg": 0.93}, {"mode": "bm25", "ndcg": 0.9}],
            }
        )

    @router.post("/indexes/{name}/evaluate")
    async def measure(name: str) -> Response:
        estimate = {"estimate": 0.95, "low": 0.9, "high": 0.98}
        figures = {
            "questions": 240,
            "recall": {"1": estimate, "5": estimate},
            "mrr": estimate,
            "ndcg": estimate,
        }
        return JSONResponse(
            {
                "index": "idx_01demo",
                "options": {"mode": "hybrid"},
                "k": 5,
                "overall": figures,
                "by_kind": {"how_to": figures},
                "misses": ["q7"],
            }
        )


def _monitoring(router: APIRouter, s: StandIn) -> None:  # noqa: C901 (routes beside each other)
    @router.get("/monitoring/resources")
    async def resources() -> Response:
        return _json(made.resources())

    @router.get("/monitoring/jobs/{job_id}")
    async def job(job_id: str) -> Response:
        running = made.resources().jobs[0].model_dump(mode="json")
        return JSONResponse(
            {
                **running,
                "id": job_id,
                "sentence": "Step 120 of 300; done in 4:10 to 5:30 (four times in five).",
            }
        )

    @router.get("/monitoring/history")
    async def history(metric: str) -> Response:
        return _json(made.history(metric))

    @router.get("/monitoring/canaries")
    async def canaries() -> Response:
        return _page(s.world.canaries)

    @router.post("/monitoring/canaries/{model}/accept")
    async def accept(model: str) -> Response:
        s.world.canaries = [
            c.model_copy(update={"changed": False, "accepted": True}) if c.model == model else c
            for c in s.world.canaries
        ]
        return _json(next(c for c in s.world.canaries if c.model == model))

    @router.get("/monitoring/drift")
    async def drift() -> Response:
        return _page(s.world.drift)

    @router.post("/monitoring/drift/{model}/accept")
    async def accept_drift(model: str) -> Response:
        now = made.drift(has_drifted=False)
        s.world.drift = [now if one.model == model else one for one in s.world.drift]
        return _json(now)

    @router.get("/alerts")
    async def alerts(state: str | None = None) -> Response:
        return _page(
            [a for a in s.world.alerts.values() if (a.state == state if state else a.state != "resolved")]
        )

    @router.get("/alerts/silences")
    async def silences() -> Response:
        return _page(list(s.world.silences.values()))

    @router.post("/alerts/silences")
    async def silence(request: Request) -> Response:
        body = await request.json()
        now = datetime.now(UTC)
        found = Silence(
            id=f"sil_{len(s.world.silences)}",
            match=body.get("match", {}),
            starts_at=now,
            ends_at=now + timedelta(seconds=body["duration_s"]),
            created_by="default",
            reason=body.get("reason", ""),
        )
        s.world.silences[found.id] = found
        for name, alert in s.world.alerts.items():
            if all(
                {"rule": alert.rule, "severity": alert.severity, **alert.labels}.get(k) == v
                for k, v in found.match.items()
            ):
                s.world.alerts[name] = alert.model_copy(update={"silenced_by": found.id})
        return _json(found)

    @router.post("/alerts/silences/{name}/end")
    async def end(name: str) -> Response:
        found = s.world.silences.pop(name)
        for key, alert in s.world.alerts.items():
            if alert.silenced_by == name:
                s.world.alerts[key] = alert.model_copy(update={"silenced_by": None})
        return _json(found.model_copy(update={"ends_at": datetime.now(UTC)}))

    @router.get("/alerts/deliveries")
    async def deliveries() -> Response:
        return _page(s.world.deliveries)

    @router.post("/alerts/{name}/{action}")
    async def act(name: str, action: str, request: Request) -> Response:
        note = (await request.json()).get("note", "")
        change: dict[str, Any] = (
            {"acknowledged_at": datetime.now(UTC), "acknowledged_by": "default", "note": note}
            if action == "acknowledge"
            else {"state": "resolved", "resolved_at": datetime.now(UTC)}
        )
        if name not in s.world.alerts:
            raise _missing(f"alert {name!r}")
        if s.world.alerts[name].state == "resolved":
            raise Conflict("The alert is over.")
        s.world.alerts[name] = s.world.alerts[name].model_copy(update=change)
        return _json(s.world.alerts[name])


def _rest(router: APIRouter, s: StandIn) -> None:
    @router.get("/api_keys")
    async def keys() -> Response:
        return _page([])

    @router.post("/votes")
    async def vote(request: Request) -> Response:
        body = await request.json()
        found = {**body, "id": f"vote_{len(s.world.votes)}", "created_at": made.NOW.isoformat()}
        s.world.votes.append(found)
        return JSONResponse(found)

    @router.get("/pipelines")
    async def pipelines() -> Response:
        return _page([])

    @router.get("/sweeps")
    async def sweeps() -> Response:
        return _page([])


def main() -> None:
    """Serve one to look at."""
    port, items = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 60
    with tempfile.TemporaryDirectory() as folder:
        stand_in = StandIn(made.full_world(Path(folder), items=items), pause_s=0.05, port=port)
        stand_in.start()
        asyncio.run(asyncio.sleep(86_400))


if __name__ == "__main__":
    main()
