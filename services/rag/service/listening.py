"""Listens to an answer that is to be measured, whole or in pieces, and hands on what retrieval knows of it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from libs.common.live_samples import LiveAnswer, LiveSamples
from model_training.contracts.chat import ChatRequest


class Listener:
    """Follows one answer. Where its request does not ask for measuring, it does nothing."""

    def __init__(self, samples: LiveSamples | None, wanted: str | None, request: ChatRequest) -> None:
        self._samples = samples if wanted is not None else None
        self._wanted, self._request = wanted, request
        self._started = time.perf_counter()
        self._texts: list[str] = []
        self._reason = ""
        self._signals: dict[str, float] = {}

    async def follow(self, pieces: AsyncIterator[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
        """The pieces as they come; at their end the answer is handed on."""
        async for piece in pieces:
            self.hear(piece)
            yield piece
        self.tell()

    def hear(self, reply: Mapping[str, Any]) -> None:
        """Take in an answer or a piece of one."""
        if self._samples is None:
            return
        for choice in reply.get("choices", [])[:1]:
            part = choice.get("message") or choice.get("delta") or {}
            self._texts.append(part.get("content") or "")
            self._reason = choice.get("finish_reason") or self._reason
        if "sources" in reply:
            self._signals |= retrieval_signals(reply)
        if citations := reply.get("citations"):
            precision = citations.get("citation_precision")
            self._signals |= {"answer_citation_precision": float(precision)} if precision is not None else {}

    def tell(self) -> None:
        """Hand the answer on."""
        if self._samples is None:
            return
        turns = reversed(self._request.messages)
        question = next((turn.content for turn in turns if turn.role == "user"), "")
        seconds = time.perf_counter() - self._started
        text, reason, signals = "".join(self._texts), self._reason, dict(self._signals)
        self._samples.offer(
            self._wanted,
            lambda: LiveAnswer(self._request.model, question, text, reason, seconds, signals),
        )


def retrieval_signals(reply: Mapping[str, Any]) -> dict[str, float]:
    """How sure the search was: the best passage's score, its lead over the next, and what was packed."""
    scores = [float(source["score"]) for source in reply.get("sources") or []]
    packing = reply.get("packing") or {}
    signals = {"retrieval_passages": float(len(scores))}
    if scores:
        signals["retrieval_best"] = scores[0]
    if len(scores) > 1:
        signals["retrieval_lead"] = scores[0] - scores[1]
    if "context_tokens" in packing:
        signals["retrieval_tokens"] = float(packing["context_tokens"])
    return signals
