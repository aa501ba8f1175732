"""Asks OpenAI-compatible endpoints of others, on threads, since the guard of private addresses watches Python's own sockets.

No redirect is followed, no proxy of the environment used, and no secret of the platform sent.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from typing import Any

import httpx
from prometheus_client import Counter
from pydantic import ValidationError

from libs.common.egress import HINT, Egress, EgressRefused
from libs.common.errors import Conflict, InvalidInput, Overloaded, Unavailable, UpstreamFailed
from model_training.contracts.chat import ChatReply, Usage
from services.gateway.ports import Target

COST = Counter(
    "mt_external_cost_dollars_total", "What the tokens of endpoints of others have cost.", ["endpoint"]
)
MOST_BYTES = 8 * 1024 * 1024
SENT = (
    *("messages", "temperature", "top_p", "seed", "stop", "stream", "stream_options"),
    *("response_format", "logprobs", "top_logprobs"),
)
"""Fields of a request that an endpoint is sent; what the platform adds to OpenAI's shape stays here."""
REFUSED_REQUEST = frozenset({400, 413, 422})


class ExternalHttp:
    """One client for all endpoints; each connection goes where its endpoint's address leads at that moment."""

    def __init__(self, egress: Egress, timeout_s: float) -> None:
        self._egress = egress
        self._http = httpx.Client(
            timeout=httpx.Timeout(timeout_s, connect=10.0), follow_redirects=False, trust_env=False
        )

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def ask(self, target: Target, body: Mapping[str, Any]) -> dict[str, Any]:
        """A whole answer, in the platform's shape.

        Raises:
            EgressRefused: the endpoint's address leads to a private one.
            InvalidInput: the endpoint refuses the request. Conflict: it refuses the key, or knows no such model.
            Overloaded, Unavailable: it is busy, or away. UpstreamFailed: its answer makes no sense.
        """
        answer = self._send(target, body)
        try:
            reply = _read(target, _whole(target, answer))
        finally:
            answer.close()
        _count(target, reply.usage)
        return reply.model_dump(mode="json", exclude_none=True)

    def stream(self, target: Target, body: Mapping[str, Any]) -> Generator[bytes]:
        """The answer's events as they come; raises what `ask` raises before the first."""
        answer = self._send(target, body)
        return _blocks(target, answer)

    def _send(self, target: Target, body: Mapping[str, Any]) -> httpx.Response:
        headers = {"Authorization": f"Bearer {target.key}"} if target.key else {}
        request = self._http.build_request(
            "POST", f"{target.url}/chat/completions", json=_translated(target, body), headers=headers
        )
        with self._egress.guarded() as refused:
            try:
                answer = self._http.send(request, stream=True)
            except httpx.HTTPError as error:
                if refused:
                    raise EgressRefused(
                        f"The endpoint {target.name} leads to {refused[-1]}", param="model", hint=HINT
                    ) from error
                raise Unavailable(
                    f"The endpoint {target.name} does not answer: {type(error).__name__}.", param="model"
                ) from error
        if answer.is_success:
            return answer
        try:
            raise _refusal(target, answer)
        finally:
            answer.close()


def _translated(target: Target, body: Mapping[str, Any]) -> dict[str, Any]:
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    sent = {name: body[name] for name in SENT if name in body and not _is_default(name, body[name])}
    return {"model": target.model, **sent, **({target.tokens_field: most} if most else {})}


def _is_default(name: str, value: Any) -> bool:
    """Some endpoints refuse fields that they do not know; those that say nothing are left out."""
    return value is False or (name == "top_p" and value == 1.0)


def _whole(target: Target, answer: httpx.Response) -> bytes:
    found = bytearray()
    try:
        for block in answer.iter_bytes():
            found += block
            if len(found) > MOST_BYTES:
                raise UpstreamFailed(
                    f"The endpoint {target.name} answered with more than {MOST_BYTES} bytes."
                )
    except httpx.HTTPError as error:
        raise Unavailable(f"The endpoint {target.name} broke off its answer.", hint="Ask again.") from error
    return bytes(found)


def _read(target: Target, content: bytes) -> ChatReply:
    try:
        reply = ChatReply.model_validate(json.loads(content))
    except (ValueError, RecursionError) as error:
        first = (
            error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "it is no JSON"}
        )
        field = ".".join(str(part) for part in first["loc"])
        raise UpstreamFailed(
            f"The answer of endpoint {target.name} is not a chat completion: {field or 'the whole'}: {first['msg']}.",
            hint="`usage` must be there too: without its tokens nobody knows what an answer cost.",
        ) from error
    if not reply.choices:
        raise UpstreamFailed(f"The answer of endpoint {target.name} holds no choice.")
    return reply


def _blocks(target: Target, answer: httpx.Response) -> Generator[bytes]:
    """The events as they come; the last that names its usage is counted."""
    usage: Usage | None = None
    try:
        for line in answer.iter_lines():
            usage = _usage_of(line) or usage
            yield f"{line}\n".encode()
    finally:
        answer.close()
        if usage is not None:
            _count(target, usage)


def _usage_of(line: str) -> Usage | None:
    if not line.startswith("data:") or '"usage"' not in line:
        return None
    try:
        return Usage.model_validate(json.loads(line[5:])["usage"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _count(target: Target, usage: Usage) -> None:
    read, written = target.million_prompt_tokens_usd, target.million_completion_tokens_usd
    COST.labels(target.name).inc((usage.prompt_tokens * read + usage.completion_tokens * written) / 1e6)


def _refusal(target: Target, answer: httpx.Response) -> Exception:
    said = f"{answer.status_code}: {_reason(answer)}"
    if answer.status_code in REFUSED_REQUEST:
        return InvalidInput(f"The endpoint {target.name} refuses the request ({said}).", param="messages")
    if answer.status_code == 429:
        wait = answer.headers.get("retry-after", "")
        return Overloaded(
            f"The endpoint {target.name} is busy ({said}).",
            retry_after_s=float(wait) if wait.isdigit() else None,
        )
    if answer.status_code >= 500:
        return Unavailable(f"The endpoint {target.name} is not ready ({said}).")
    return Conflict(
        f"The endpoint {target.name} does not serve this ({said}).",
        param="model",
        hint="Its address, model or key may be wrong: `mt endpoints list`; delete it and make it known again.",
    )


def _reason(answer: httpx.Response) -> str:
    """The first words of what it says, if it says something that can be shown."""
    try:
        text = next(answer.iter_text(4096), "")
    except (httpx.HTTPError, ValueError):
        return answer.reason_phrase
    try:
        found = json.loads(text)
        text = str(found["error"]["message"]) if isinstance(found["error"], dict) else str(found["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return " ".join(text.split())[:300] or answer.reason_phrase
