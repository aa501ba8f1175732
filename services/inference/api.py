"""The routes: chat and text completions in OpenAI's shape, streamed or not, the list of models, and token counts."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field
from ulid import ULID

from libs.common.auth import require_internal
from libs.common.errors import PlatformError
from model_training.contracts.base import Page
from model_training.contracts.chat import (
    ChatChoice,
    ChatMessage,
    ChatReply,
    ChatRequest,
    CompletionChoice,
    CompletionReply,
    CompletionRequest,
    Sampling,
)
from model_training.contracts.models import ModelObject
from services.inference.domain.generation import Piece
from services.inference.service import Answer, Asked, InferenceService

CLIENT_LEFT = 499
_LOOK_FOR_CLIENT_S = 0.25


class TokenizeRequest(BaseModel):
    """Messages (rendered with the model's template) or a plain text."""

    model: str
    messages: list[ChatMessage] | None = None
    text: str | None = None


class TokenizeReply(BaseModel):
    """`ids` of `text`; with messages the rendered prompt and its begin-of-text token. `context_length` is the window."""

    count: int
    ids: list[int]
    text: str
    context_length: int = Field(description="Tokens that prompt and answer may have together.")


Chunk = Callable[[Piece, bool], dict[str, Any]]
"""Makes the `choices` entry of a streamed chunk; the flag says whether it is the first."""


def make_router(
    service: InferenceService, list_models: Callable[[], list[ModelObject]], token: str
) -> APIRouter:
    """All routes of the service; each wants the internal token."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(require_internal(token))])

    @router.post("/chat/completions", response_model=ChatReply)
    async def chat(body: ChatRequest, request: Request) -> Response:
        asked = await service.plan_chat(body)
        head = _head("chatcmpl", body)
        if body.stream:
            head |= {"prompt": asked.prompt} if body.return_prompt else {}
            return await _stream(
                service, asked, body, head | {"object": "chat.completion.chunk"}, _chat_chunk
            )
        answer = await _unless_left(request, service.whole(asked))
        return _reply(_chat_reply(head, asked, answer, body) if answer else None)

    @router.post("/completions", response_model=CompletionReply)
    async def complete(body: CompletionRequest, request: Request) -> Response:
        asked = await service.plan_completion(body)
        head = _head("cmpl", body)
        if body.stream:
            return await _stream(service, asked, body, head | {"object": "text_completion"}, _text_chunk)
        answer = await _unless_left(request, service.whole(asked))
        return _reply(_text_reply(head, asked, answer) if answer else None)

    @router.get("/models")
    def models() -> Page[ModelObject]:
        return Page[ModelObject](data=list_models(), has_more=False)

    @router.post("/tokenize")
    async def tokenize(body: TokenizeRequest) -> TokenizeReply:
        tokens = await service.tokenize(body.model, body.messages, body.text)
        return TokenizeReply(
            count=len(tokens.ids), ids=tokens.ids, text=tokens.text, context_length=tokens.window
        )

    return router


def _head(prefix: str, body: Sampling) -> dict[str, Any]:
    return {"id": f"{prefix}-{str(ULID()).lower()}", "created": int(time.time()), "model": body.model}


def _chat_reply(head: dict[str, Any], asked: Asked, answer: Answer, body: ChatRequest) -> ChatReply:
    message = ChatMessage(role="assistant", content=answer.text)
    return ChatReply(
        **head,
        choices=[ChatChoice(message=message, finish_reason=answer.finish_reason)],
        usage=asked.usage(answer.completion_tokens),
        prompt=asked.prompt if body.return_prompt else None,
    )


def _text_reply(head: dict[str, Any], asked: Asked, answer: Answer) -> CompletionReply:
    choice = CompletionChoice(text=answer.text, finish_reason=answer.finish_reason)
    return CompletionReply(**head, choices=[choice], usage=asked.usage(answer.completion_tokens))


def _reply(reply: BaseModel | None) -> Response:
    if reply is None:
        return Response(status_code=CLIENT_LEFT)
    return JSONResponse(reply.model_dump(mode="json", exclude_none=True))


def _chat_chunk(piece: Piece, first: bool) -> dict[str, Any]:
    delta: dict[str, Any] = {"role": "assistant"} if first else {}
    if piece.text or first:
        delta["content"] = piece.text
    return {"index": 0, "delta": delta, "finish_reason": piece.finish_reason}


def _text_chunk(piece: Piece, first: bool) -> dict[str, Any]:
    return {"index": 0, "text": piece.text, "finish_reason": piece.finish_reason}


async def _stream(
    service: InferenceService, asked: Asked, body: Sampling, head: dict[str, Any], chunk: Chunk
) -> Response:
    """Server-sent events. The first piece is awaited before the response begins, so that a refusal has its own status."""
    pieces = service.pieces(asked)
    first = await anext(pieces)
    usage = bool(body.stream_options and body.stream_options.include_usage)
    events = _events(asked, first, pieces, head | ({"usage": None} if usage else {}), chunk, usage=usage)
    return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-cache"})


async def _events(
    asked: Asked,
    first: Piece,
    rest: AsyncGenerator[Piece],
    head: dict[str, Any],
    chunk: Chunk,
    *,
    usage: bool,
) -> AsyncGenerator[str]:
    piece = first
    try:
        yield _event(head | {"choices": [chunk(piece, True)]})
        async for piece in rest:
            if piece.text or piece.finish_reason:  # a token inside a character has no text yet
                yield _event(head | {"choices": [chunk(piece, False)]})
        if usage:
            yield _event(head | {"choices": [], "usage": asked.usage(piece.completion_tokens).model_dump()})
    except PlatformError as error:
        yield _event({"error": {"message": error.detail, "type": "server_error", "code": error.code}})
    finally:
        await rest.aclose()  # a client that left frees its place at once
    yield "data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


async def _unless_left(request: Request, work: Any) -> Answer | None:
    """The result of `work`, or None when the client hung up first; then the work is cancelled."""
    task: asyncio.Task[Answer] = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=_LOOK_FOR_CLIENT_S)
            if not task.done() and await request.is_disconnected():
                return None
        return task.result()
    finally:
        task.cancel()
