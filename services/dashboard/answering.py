"""Questions under way in the playground: held here and not in a page, so that a refresh finds them again.

Each arm is a stream of its own. Where the gateway goes away in the middle of an answer, the arm waits and asks again. What
arms have said is written to files when they end: a dashboard that was restarted shows it, and asks those again that had not
ended. The address of the page holds the question for the time after.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from model_training.client import ApiError, ConnectionFailed
from model_training.contracts.chat import ChatPiece, Usage
from model_training.errors import UserError
from services.dashboard.answered import Answered
from services.dashboard.gateway import AWAY, Connection

KEPT = 200
TELL_EVERY_S = 0.12
PAUSE_S = 1.0
ATTEMPTS = 60
"""A gateway that stays away for about a minute and a half is given up."""
LONGEST_PAUSE_S = 3.0

State = Literal["waiting", "writing", "again", "done", "failed"]


@dataclass
class ArmAnswer:
    """One arm's answer as it grows. Times are in seconds from the sending of its last attempt."""

    model: str
    state: State = "waiting"
    text: str = ""
    first_s: float | None = None
    total_s: float | None = None
    usage: Usage | None = None
    sources: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    packing: dict[str, Any] | None = None
    finish: str | None = None
    error: str = ""
    hint: str = ""
    attempts: int = 0

    @property
    def is_over(self) -> bool:
        """Has it ended, well or not?"""
        return self.state in ("done", "failed")

    def begin(self) -> None:
        """Ask (again): the answer begins anew, so what an earlier attempt said is dropped; why that ended is still shown."""
        self.attempts += 1
        self.state = "waiting" if self.attempts == 1 else "again"
        self.text, self.sources, self.packing = "", [], None
        self.first_s = self.total_s = self.usage = self.finish = None

    def take(self, piece: ChatPiece, after_s: float) -> None:
        """One piece more."""
        self.state, self.error, self.hint = "writing", "", ""
        if piece.text and self.first_s is None:
            self.first_s = after_s
        self.text += piece.text
        self.sources = piece.sources if piece.sources is not None else self.sources
        self.packing = piece.packing or self.packing
        self.usage = piece.usage or self.usage
        self.finish = piece.finish_reason or self.finish


@dataclass
class Run:
    """One question and its answers."""

    id: str
    question: str
    arms: list[ArmAnswer]
    max_tokens: int
    temperature: float
    vote: str | None = None
    _listeners: list[Callable[[Run], None]] = field(default_factory=list[Callable[["Run"], None]])
    _told: bool = False

    def subscribe(self, listener: Callable[[Run], None]) -> Callable[[], None]:
        """Be told of every change, some times a second at most, and now. The answer ends that."""
        self._listeners.append(listener)
        listener(self)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def changed(self) -> None:
        """Tell the listeners soon."""
        if not self._told:
            self._told = True
            asyncio.get_running_loop().call_later(TELL_EVERY_S, self._tell)

    def _tell(self) -> None:
        self._told = False
        for listener in list(self._listeners):
            listener(self)


class Kept(BaseModel):
    """A run as it stands in its file."""

    question: str
    arms: list[ArmAnswer]
    max_tokens: int
    temperature: float
    vote: str | None = None


class Runs:
    """The newest runs, by id. Pages of any browser with the same key find them."""

    def __init__(self, answered: Answered) -> None:
        self._answered = answered
        self._runs: dict[tuple[str, str], Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def get(self, connection: Connection, run_id: str) -> Run | None:
        """A run of whoever uses the same key; arms that an earlier process left without an end are asked again."""
        found = self._runs.get((connection.id, run_id))
        if found is None and (text := self._answered.load(connection.id, run_id)) is not None:
            try:
                kept = Kept.model_validate_json(text)
            except ValidationError:  # of another version
                return None
            found = Run(run_id, kept.question, kept.arms, kept.max_tokens, kept.temperature, kept.vote)
            self._begin(connection, found)
        return found

    def start(
        self,
        connection: Connection,
        question: str,
        models: Sequence[str],
        *,
        max_tokens: int,
        temperature: float,
    ) -> Run:
        """Ask every model at once."""
        run = Run(
            secrets.token_urlsafe(9),
            question,
            [ArmAnswer(model) for model in models],
            max_tokens,
            temperature,
        )
        self._keep(connection, run)
        self._begin(connection, run)
        return run

    def vote(self, connection: Connection, run: Run, model: str) -> None:
        """Note which arm was found best."""
        run.vote = model
        run.changed()
        self._keep(connection, run)

    def _begin(self, connection: Connection, run: Run) -> None:
        self._runs[connection.id, run.id] = run
        while len(self._runs) > KEPT:
            del self._runs[next(iter(self._runs))]
        for arm in run.arms:
            if not arm.is_over:
                task = asyncio.get_running_loop().create_task(self._answer(connection, run, arm))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _answer(self, connection: Connection, run: Run, arm: ArmAnswer) -> None:
        await _answer(connection, run, arm)
        self._keep(connection, run)

    def _keep(self, connection: Connection, run: Run) -> None:
        kept = Kept(
            question=run.question,
            arms=run.arms,
            max_tokens=run.max_tokens,
            temperature=run.temperature,
            vote=run.vote,
        )
        self._answered.save(connection.id, run.id, kept.model_dump_json())


async def _answer(connection: Connection, run: Run, arm: ArmAnswer) -> None:
    """One arm to its end, over as many attempts as the gateway's absences make necessary."""
    for attempt in range(1, ATTEMPTS + 1):
        arm.begin()
        run.changed()
        try:
            await _follow(connection, run, arm)
            return
        except UserError as error:
            arm.error, arm.hint = error.message, error.hint or ""
            if attempt == ATTEMPTS or not _passes(error):
                arm.state = "failed"
                run.changed()
                return
        arm.state = "again"
        run.changed()
        await asyncio.sleep(min(LONGEST_PAUSE_S, PAUSE_S * attempt / 2))


def _passes(error: UserError) -> bool:
    """Is it worth asking again?"""
    if isinstance(error, ApiError):
        return error.status in AWAY and error.code != "stream_failed"
    return isinstance(error, ConnectionFailed)


async def _follow(connection: Connection, run: Run, arm: ArmAnswer) -> None:
    began = time.perf_counter()
    pieces = connection.stream(
        lambda client: client.chat.follow(
            arm.model, run.question, max_tokens=run.max_tokens, temperature=run.temperature
        )
    )
    async for batch in pieces:
        for piece in batch:
            arm.take(piece, time.perf_counter() - began)
        run.changed()
    arm.total_s = time.perf_counter() - began
    arm.state = "done"
    run.changed()
