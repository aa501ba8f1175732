"""Answers, whole or word by word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from model_training.client.transport import Transport
from model_training.contracts.chat import ChatMessage, ChatPiece, ChatReply, ChatRequest, Retrieval

TIMEOUT_S = 600.0


class Chat:
    """`/v1/chat/completions`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        model: str,
        messages: Sequence[ChatMessage] | str,
        *,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> ChatReply:
        """One answer. A text stands for a single question by the user."""
        body = _request(model, messages, max_tokens=max_tokens, temperature=temperature, seed=seed)
        response = self._transport.request("POST", "/v1/chat/completions", json=body, timeout_s=TIMEOUT_S)
        return ChatReply.model_validate_json(response.content)

    def stream(
        self,
        model: str,
        messages: Sequence[ChatMessage] | str,
        *,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> Iterator[str]:
        """One answer, piece by piece."""
        body = _request(model, messages, max_tokens=max_tokens, temperature=temperature, seed=seed)
        return self._transport.pieces("/v1/chat/completions", {**body, "stream": True}, TIMEOUT_S)

    def follow(
        self,
        model: str,
        messages: Sequence[ChatMessage] | str,
        *,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int | None = None,
        retrieval: Retrieval | None = None,
    ) -> Iterator[ChatPiece]:
        """One answer piece by piece, with what comes beside its text: sources, packing, tokens."""
        body = _request(
            model,
            messages,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            retrieval=retrieval,
        )
        streamed = {**body, "stream": True}
        for chunk in self._transport.chunks("/v1/chat/completions", streamed, TIMEOUT_S):
            choices: list[dict[str, Any]] = chunk["choices"]
            text = "".join(choice.get("delta", {}).get("content") or "" for choice in choices)
            reason = next(
                (choice["finish_reason"] for choice in choices if choice.get("finish_reason")), None
            )
            yield ChatPiece.model_validate({**chunk, "text": text, "finish_reason": reason})


def _request(model: str, messages: Sequence[ChatMessage] | str, **options: Any) -> dict[str, Any]:
    turns = [ChatMessage(role="user", content=messages)] if isinstance(messages, str) else list(messages)
    request = ChatRequest(model=model, messages=turns, **options)
    return request.model_dump(mode="json", exclude_none=True)
