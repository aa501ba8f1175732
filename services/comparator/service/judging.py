"""Asks a judge about pairs of answers: several at a time, each once, also over restarts, and gives up on one that is gone.

What a judge cannot do never ends a comparison: its evaluations are done by then, and the report says what is missing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from libs.common.errors import JobFailure, JobStopped
from model_training.contracts.chat import ChatMessage
from model_training.contracts.judges import JudgeReport, JudgeSpec
from services.comparator.domain.arms import PairedItems
from services.comparator.domain.judging import Judged, Pairing, Votes, pairings, read_votes, summarise
from services.comparator.ports import Platform
from services.comparator.service.gathering import UNITS, Context

AT_A_TIME = 4
LAST_STEP = UNITS - 2
"""Where the progress bar stands while the judge is asked."""
HOPELESS = 10
"""So many refusals and no reply yet: the judge is not asked again."""
GONE = frozenset({"platform_unreachable", "not_found", "forbidden"})


@dataclass(frozen=True)
class _Reply:
    """One call's outcome; `text` is None where it was refused, for `failure`."""

    text: str | None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    failure: str | None = None
    is_final: bool = False
    """Whether there is no use in asking on."""


@dataclass
class Judge:
    """One comparison's judge. `kept` is a file of replies that were paid for already; None keeps none."""

    context: Context
    platform: Platform
    spec: JudgeSpec
    kept: Path | None = None

    def judge(self, items: PairedItems, seed: int) -> JudgeReport:
        """All opinions on a sample of the items.

        Raises:
            JobStopped: a stop was asked for.
        """
        wanted = pairings(items, self.spec.items, seed)
        of = min(self.spec.items, len(items.ids))
        prompts = [prompt for one in wanted if not one.is_same for prompt in one.prompts()]
        self.context.event(f"{self.spec.model} judges {of:,} items: {len(prompts):,} questions.")
        replies, why = self._ask_all(prompts)
        judged = [one for pairing in wanted if (one := _judged(pairing, replies)) is not None]
        tokens = (
            sum(r.prompt_tokens for r in replies.values()),
            sum(r.completion_tokens for r in replies.values()),
        )
        report = summarise(
            self.spec.model, judged if replies or not prompts else [], items, of=of, tokens=tokens
        )
        if why is not None:
            report = report.model_copy(update={"words": f"{report.words} It stopped answering: {why}"})
        self.context.event(report.words)
        return report

    def _ask_all(self, prompts: Sequence[str]) -> tuple[dict[str, _Reply], str | None]:
        """Replies by prompt, and why there are no more of them; None where all were asked."""
        known = self._remembered()
        replies = {prompt: known[self._key(prompt)] for prompt in prompts if self._key(prompt) in known}
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in replies]
        began = time.monotonic()
        for done, (prompt, reply) in enumerate(self._in_parallel(missing), start=1):
            replies[prompt] = reply
            self._remember(prompt, reply)
            left_s = (time.monotonic() - began) / done * (len(missing) - done)
            self.context.progress(
                LAST_STEP, UNITS, f"{self.spec.model} judges: {done:,} of {len(missing):,}", left_s
            )
            heard = any(one.text is not None for one in replies.values())
            if reply.is_final or (not heard and done >= HOPELESS):
                return {p: r for p, r in replies.items() if r.text is not None}, reply.failure
        return replies, None

    def _in_parallel(self, prompts: Sequence[str]) -> Iterator[tuple[str, _Reply]]:
        """Replies as prompts come, a few calls under way; what has not begun is dropped when nobody listens any more."""
        pool = ThreadPoolExecutor(AT_A_TIME)
        try:
            waiting: list[tuple[str, Future[_Reply]]] = []
            for prompt in prompts:
                waiting.append((prompt, pool.submit(self._ask, prompt)))
                if len(waiting) >= AT_A_TIME:
                    yield self._next(waiting)
            while waiting:
                yield self._next(waiting)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _next(self, waiting: list[tuple[str, Future[_Reply]]]) -> tuple[str, _Reply]:
        prompt, future = waiting.pop(0)
        reply = future.result()
        if self.context.stop_requested() is not None:
            raise JobStopped
        return prompt, reply

    def _ask(self, prompt: str) -> _Reply:
        try:
            messages = [ChatMessage(role="user", content=prompt)]
            reply = self.platform.chat(self.spec.model, messages, self.spec.max_tokens)
        except JobFailure as failure:
            return _Reply(None, failure=failure.error.message, is_final=failure.error.code in GONE)
        usage = reply.usage
        return _Reply(reply.choices[0].message.content, usage.prompt_tokens, usage.completion_tokens)

    def _remembered(self) -> dict[str, _Reply]:
        """Replies of an earlier attempt, by the key of their prompt."""
        if self.kept is None or not self.kept.exists():
            return {}
        known: dict[str, _Reply] = {}
        for line in self.kept.read_text(encoding="utf-8").splitlines():
            try:
                row: dict[str, Any] = json.loads(line)
                known[row["key"]] = _Reply(row["text"], row["read"], row["written"])
            except (ValueError, KeyError):
                continue  # the process ended in the middle of this line
        return known

    def _remember(self, prompt: str, reply: _Reply) -> None:
        if self.kept is None or reply.text is None:
            return
        row = {
            "key": self._key(prompt), "text": reply.text, "read": reply.prompt_tokens, "written": reply.completion_tokens
        }  # fmt: skip
        with self.kept.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(row) + "\n")

    def _key(self, prompt: str) -> str:
        return sha256(f"{self.spec.model}\n{self.spec.max_tokens}\n{prompt}".encode()).hexdigest()


def _judged(pairing: Pairing, replies: dict[str, _Reply]) -> Judged | None:
    """None where the judge went away before both orders were asked."""
    if pairing.is_same:
        return Judged(pairing, None, None)
    forward, backward = (replies.get(prompt) for prompt in pairing.prompts())
    if forward is None or backward is None:
        return None
    return Judged(pairing, _votes(forward), _votes(backward))


def _votes(reply: _Reply) -> Votes | None:
    return None if reply.text is None else read_votes(reply.text)
