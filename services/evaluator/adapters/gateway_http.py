"""Asks models through the gateway, with patience where it says that it is busy. Safe to use from several threads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import httpx

from libs.common import tracing
from libs.common.errors import JobFailure
from services.evaluator.domain import Answer, NotAnswered
from services.evaluator.prompts import Question

BUSY = (408, 429, 502, 503, 504)
PATIENCE_S = 180.0
"""How long one question is repeated while the platform is busy or restarting."""
TIMEOUT_S = 600.0
MOST_EMBEDDED = 20_000
"""Characters of a text that are embedded; embedders read a few hundred tokens."""


class GatewayModels:
    """One model behind the gateway."""

    def __init__(self, url: str, token: str, *, model: str, project: str, threads: int = 16) -> None:
        self._model = model
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}", "x-mt-project": project},
            auth=tracing.Carried(),
            timeout=httpx.Timeout(TIMEOUT_S, connect=10),
            limits=httpx.Limits(max_connections=threads),
        )

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def ask(self, question: Question) -> Answer:
        """The model's answer.

        Raises:
            NotAnswered: this question was refused (too long, say); others may still be answered.
            JobFailure: no question can be answered (no such model, no right, no platform).
        """
        body, latency_s = self._patiently(*self._request(question))
        return _answer(body, question, latency_s)

    def log_probabilities(self, text: str) -> list[float]:
        """Of each token of a text after the first, in nats. Raises as `ask` does."""
        model = self._model.rsplit("@", 1)[-1] if self._model.startswith("rag:") else self._model
        body = {"model": model, "prompt": text, "echo": True, "max_tokens": 0, "logprobs": 0}
        reply, _ = self._patiently("/v1/completions", body)
        return [float(value) for value in reply["choices"][0]["logprobs"]["token_logprobs"][1:]]

    def embed(self, embedder: str, texts: Sequence[str]) -> list[list[float]]:
        """A vector of each text, of its beginning where it is longer than the embedder reads. Raises as `ask` does."""
        cut = [text[:MOST_EMBEDDED] for text in texts]
        body = {"model": embedder, "input": cut, "truncate": True}
        reply, _ = self._patiently("/v1/embeddings", body)
        rows = sorted(reply["data"], key=lambda row: row["index"])
        return [row["embedding"] for row in rows]

    def _patiently(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], float]:
        """The reply, and the seconds that it took since it was sent for the last time."""
        started = time.monotonic()
        pause_s = 0.5
        while True:
            sent = time.monotonic()
            reply, fault = self._post(path, body)
            if reply is not None and reply.status_code == 200:
                return reply.json(), time.monotonic() - sent
            if reply is not None and reply.status_code not in BUSY:
                raise _refusal(reply)
            if time.monotonic() - started > PATIENCE_S:
                why = fault or f"status {reply.status_code if reply is not None else '?'}"
                raise JobFailure(
                    "upstream_failed", f"The model did not answer for {PATIENCE_S:.0f} s: {why}", retry=True
                )
            time.sleep(_pause(reply, pause_s))
            pause_s = min(2 * pause_s, 10.0)

    def _request(self, question: Question) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": question.max_tokens,
            "temperature": question.temperature,
            "seed": question.seed,
        }
        if question.about is not None:
            body["retrieval"] = {"filter": {"functions": question.about}}
        if question.stop:
            body["stop"] = list(question.stop)
        if question.prompt is not None:
            path, body["prompt"] = "/v1/completions", question.prompt
        else:
            path, body["return_prompt"] = "/v1/chat/completions", True
            body["messages"] = [{"role": role, "content": text} for role, text in question.messages]
        return path, body

    def _post(self, path: str, body: dict[str, Any]) -> tuple[httpx.Response | None, str]:
        try:
            return self._http.post(path, json=body), ""
        except httpx.TransportError as error:
            return None, f"{type(error).__name__}: {error}"


def _pause(reply: httpx.Response | None, otherwise: float) -> float:
    wanted = reply.headers.get("retry-after", "") if reply is not None else ""
    return min(float(wanted), 30.0) if wanted.replace(".", "", 1).isdigit() else otherwise


def _answer(body: dict[str, Any], question: Question, latency_s: float) -> Answer:
    choice, usage = body["choices"][0], body["usage"]
    return Answer(
        text=choice["message"]["content"] if "message" in choice else choice["text"],
        prompt=body.get("prompt") or question.text,
        latency_s=latency_s,
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
        sources=tuple(body.get("sources") or ()),
    )


def _refusal(reply: httpx.Response) -> Exception:
    try:
        problem: dict[str, Any] = reply.json()
    except ValueError:
        problem = {}
    detail = str(problem.get("detail") or f"status {reply.status_code}")
    if reply.status_code in (400, 413, 422):
        return NotAnswered(detail)
    blame = "user" if problem.get("blame") == "user" else "system"
    return JobFailure(
        str(problem.get("code") or "upstream_failed"),
        detail,
        blame=blame,
        param="model",
        hint=problem.get("hint"),
    )
