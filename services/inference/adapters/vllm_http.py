"""vLLM's HTTP API, as far as the engine needs it. Knows paths, bodies and answers of vLLM 0.32 and 0.33; no more.

Prompts are sent as token ids, so the server's own templates and special tokens never have a say.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import httpx

from libs.common.errors import PlatformError, Unavailable
from services.inference.domain.generation import Generation, TokenScore

_SCORE_TIMEOUT_S = 300.0
_METRICS_TIMEOUT_S = 2.0
"""Less than Prometheus gives us: our own metrics must not be lost with vLLM's."""
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=0)
"""No connection outlives its request: an idle one would outlive its event loop, and a new one costs 0.2 ms."""
_TOKEN = "token_id:"


class Rejected(PlatformError):
    """vLLM answered with an error"""

    status, code = 502, "engine_error"

    def __init__(self, upstream: int, detail: str) -> None:
        super().__init__(f"vLLM answered {upstream}: {detail}")
        self.upstream = upstream
        self.reason = detail


class VllmApi:
    """A client of one server. Answers outside 2xx raise `Rejected`, no answer at all `Unavailable`."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self._options: dict[str, Any] = {
            "base_url": url,
            "headers": {"authorization": f"Bearer {key}"} if key else {},
            "limits": _LIMITS,
            "verify": url.startswith("https"),  # a context for TLS takes 20 ms to make
            "trust_env": False,
        }
        self._sync = httpx.Client(timeout=httpx.Timeout(_SCORE_TIMEOUT_S, connect=5), **self._options)
        self._async: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()

    def healthy(self) -> bool:
        """Whether the server and its engine are alive."""
        try:
            return self._sync.get("/health", timeout=10).status_code == 200
        except httpx.HTTPError:
            return False

    def metrics(self) -> str:
        """Its metrics in Prometheus's text format; empty when it does not answer in time."""
        try:
            reply = self._sync.get("/metrics", timeout=_METRICS_TIMEOUT_S)
        except httpx.HTTPError:
            return ""
        return reply.text if reply.is_success else ""

    def version(self) -> str:
        return str(self._call("GET", "/version")["version"])

    def models(self) -> list[dict[str, Any]]:
        """Base and adapters: `id`, `root` (a path), `max_model_len`."""
        return list(self._call("GET", "/v1/models")["data"])

    def load_adapter(self, name: str, path: Path) -> None:
        self._call("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)})

    def unload_adapter(self, name: str) -> None:
        self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name})

    def tokenize(self, name: str, text: str) -> list[int]:
        """Ids without special tokens."""
        body = {"model": name, "prompt": text, "add_special_tokens": False}
        return [int(token) for token in self._call("POST", "/tokenize", body)["tokens"]]

    def score(self, name: str, ids: Sequence[int]) -> list[float]:
        """Log-probability of each token after the first. The engine must write one token; it is thrown away."""
        body = {"model": name, "prompt": list(ids), "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
        rows = self._call("POST", "/v1/completions", body)["choices"][0]["prompt_logprobs"]
        return [float(row[str(token)]["logprob"]) for row, token in zip(rows[1:], ids[1:], strict=True)]

    async def stream(self, name: str, generation: Generation) -> AsyncGenerator[dict[str, Any]]:
        """The events of one completion as vLLM sends them, `[DONE]` left out. Closing the iterator aborts the request."""
        request = self._client().stream("POST", "/v1/completions", json=completion_body(name, generation))
        try:
            async with request as reply:
                if reply.status_code != 200:
                    raise Rejected(reply.status_code, _reason(await reply.aread()))
                async with aclosing(reply.aiter_lines()) as lines:  # pyright: ignore[reportArgumentType]
                    async for line in lines:
                        if line.startswith("data: ") and line != "data: [DONE]":
                            yield _event(line[6:])
        except httpx.HTTPError as error:
            raise _gone(error) from error

    def close(self) -> None:
        """Close the connections of this thread; those of event loops end with their loops."""
        self._sync.close()

    def _client(self) -> httpx.AsyncClient:
        """The client of the running loop: connections cannot be shared between loops."""
        loop = asyncio.get_running_loop()
        if loop not in self._async:
            timeout = httpx.Timeout(None, connect=5)  # how long an answer may take is the service's business
            self._async[loop] = httpx.AsyncClient(timeout=timeout, **self._options)
        return self._async[loop]

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            reply = self._sync.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise _gone(error) from error
        if reply.status_code >= 300:
            raise Rejected(reply.status_code, _reason(reply.content))
        return reply.json() if reply.headers.get("content-type", "").startswith("application/json") else {}


def completion_body(name: str, generation: Generation) -> dict[str, Any]:
    """The request for `/v1/completions`. Stop texts are not sent: the door looks for them itself, on either engine alike."""
    body: dict[str, Any] = {
        "model": name,
        "prompt": list(generation.prompt),
        "max_tokens": generation.max_tokens,
        "temperature": generation.temperature,
        "top_p": generation.top_p,
        "stop_token_ids": sorted(generation.stop_ids),
        # What ends an answer is in `stop_token_ids`, and there alone; a grammar ends itself with the model's own token.
        "ignore_eos": generation.schema is None,
        "stream": True,
        "stream_options": {"include_usage": True},  # the per-request metrics come with it
        "return_token_ids": True,
    }
    if generation.seed is not None:
        body["seed"] = generation.seed
    if generation.logprobs is not None:
        body |= {"logprobs": generation.logprobs, "return_tokens_as_token_ids": True}
    if generation.schema is not None:
        # Between the parts of JSON a small model writes spaces until its tokens are spent, so the grammar has none.
        body["structured_outputs"] = {"json": dict(generation.schema), "disable_any_whitespace": True}
    return body


def token_scores(choice: Mapping[str, Any]) -> list[TokenScore]:
    """The log-probabilities of a chunk's tokens; empty when none were asked for."""
    found = choice.get("logprobs")
    if not found:
        return []
    tops = found.get("top_logprobs") or [None] * len(found["tokens"])
    return [
        TokenScore(_id(token), float(logprob), _top(top))
        for token, logprob, top in zip(found["tokens"], found["token_logprobs"], tops, strict=True)
    ]


def _top(found: Mapping[str, float] | None) -> tuple[tuple[int, float], ...]:
    pairs = [(_id(token), float(logprob)) for token, logprob in (found or {}).items()]
    return tuple(sorted(pairs, key=lambda pair: -pair[1]))


def _id(token: str) -> int:
    return int(token.removeprefix(_TOKEN))


def _event(text: str) -> dict[str, Any]:
    event = json.loads(text)
    if error := event.get("error"):
        raise Rejected(int(error.get("code") or 500), str(error.get("message")))
    return event


def _reason(content: bytes) -> str:
    try:
        data = json.loads(content)
        return str((data.get("error") or data).get("message") or data)
    except (ValueError, AttributeError):
        return content.decode("utf-8", "replace")[:500]


def _gone(error: httpx.HTTPError) -> Unavailable:
    return Unavailable(
        f"vLLM does not answer ({type(error).__name__}).", hint="It is started again.", retry_after_s=5
    )
