"""The routes: chat and text completions in OpenAI's shape, streamed or not, the list of models, and token counts."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field
from ulid import ULID

from libs.common.auth import require_internal
from libs.common.disconnect import CLIENT_LEFT, unless_disconnected
from libs.common.errors import NotFound, PlatformError
from libs.common.live_samples import HEADER, LiveAnswer, LiveSamples
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
from model_training.contracts.models import Adapter, AdapterAction, ModelObject
from services.inference.domain.generation import Piece, TokenScore
from services.inference.loaded import LoadedModels
from services.inference.repository import ModelRepository, TunedModel
from services.inference.service import Answer, Asked, InferenceService


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


Told = Callable[[str, str], None]
"""Takes an answer's text and why it ended."""
Chunk = Callable[[Asked, Piece, bool], dict[str, Any]]
"""Makes the `choices` entry of a streamed chunk; the flag says whether it is the first."""


def adapters_router(models: LoadedModels, tuned: ModelRepository, token: str) -> APIRouter:
    """What operators do with adapters by name: list, load, unload, pin, unpin."""
    router = APIRouter(prefix="/v1/adapters", dependencies=[Depends(require_internal(token))])

    @router.get("")
    def adapters() -> Page[Adapter]:
        return Page[Adapter](data=[_status(models, row) for row in tuned.list_all()], has_more=False)

    @router.post("/{name}/{action}")
    def act(name: str, action: AdapterAction) -> Adapter:
        row = tuned.find(name)
        if row is None:
            raise NotFound(f"There is no model {name!r}.", param="model")
        {"load": models.ensure, "unload": models.unload, "pin": models.pin, "unpin": models.unpin}[action](
            name
        )
        return _status(models, tuned.find(name) or row)

    return router


def _status(models: LoadedModels, row: TunedModel) -> Adapter:
    return Adapter(
        id=row.id,
        base=row.base,
        artifact=row.artifact,
        state=row.state,  # pyright: ignore[reportArgumentType] (one of the three)
        loaded=models.is_loaded(row.id),
        pinned=models.is_pinned(row.id),
        gate=row.gate,
    )


def make_router(
    service: InferenceService,
    list_models: Callable[[], list[ModelObject]],
    token: str,
    samples: LiveSamples | None = None,
) -> APIRouter:
    """What the gateway calls; each route wants the internal token."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(require_internal(token))])

    @router.post("/chat/completions", response_model=ChatReply)
    async def chat(body: ChatRequest, request: Request) -> Response:
        told = _teller(samples, request, body)
        asked = await service.plan_chat(body)
        head = _head("chatcmpl", body)
        if body.stream:
            head |= {"prompt": asked.prompt} if body.return_prompt else {}
            head |= {"object": "chat.completion.chunk"}
            return await _stream(service, asked, body, head, _chat_chunk, told)
        answer = await unless_disconnected(request, service.whole(asked))
        if answer is not None and told is not None:
            told(answer.text, answer.finish_reason)
        return _reply(_chat_reply(head, asked, answer, body) if answer else None)

    @router.post("/completions", response_model=CompletionReply)
    async def complete(body: CompletionRequest, request: Request) -> Response:
        asked = await service.plan_completion(body)
        head = _head("cmpl", body)
        if body.echo:
            return _reply(_echo_reply(head, asked, await service.measure(asked)))
        if body.stream:
            return await _stream(service, asked, body, head | {"object": "text_completion"}, _text_chunk)
        answer = await unless_disconnected(request, service.whole(asked))
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


def _teller(samples: LiveSamples | None, request: Request, body: ChatRequest) -> Told | None:
    """What is told of an answer once it is there; None where it is not to be measured."""
    wanted = request.headers.get(HEADER)
    if samples is None or wanted is None:
        return None
    question = next((turn.content for turn in reversed(body.messages) if turn.role == "user"), "")
    started = time.perf_counter()

    def told(text: str, reason: str) -> None:
        seconds = time.perf_counter() - started
        samples.offer(wanted, lambda: LiveAnswer(body.model, question, text, reason, seconds))

    return told


def _head(prefix: str, body: Sampling) -> dict[str, Any]:
    return {"id": f"{prefix}-{str(ULID()).lower()}", "created": int(time.time()), "model": body.model}


def _chat_reply(head: dict[str, Any], asked: Asked, answer: Answer, body: ChatRequest) -> ChatReply:
    message = ChatMessage(role="assistant", content=answer.text)
    logprobs = _chat_logprobs(asked, answer.scores) if body.logprobs else None
    return ChatReply(
        **head,
        choices=[ChatChoice(message=message, finish_reason=answer.finish_reason, logprobs=logprobs)],
        usage=asked.usage(answer.completion_tokens),
        prompt=asked.prompt if body.return_prompt else None,
    )


def _text_reply(head: dict[str, Any], asked: Asked, answer: Answer) -> CompletionReply:
    choice = CompletionChoice(
        text=answer.text,
        finish_reason=answer.finish_reason,
        logprobs=_text_logprobs(asked, answer.scores) if asked.generation.logprobs is not None else None,
    )
    return CompletionReply(**head, choices=[choice], usage=asked.usage(answer.completion_tokens))


def _echo_reply(head: dict[str, Any], asked: Asked, scores: Sequence[float]) -> CompletionReply:
    """The prompt with the log-probability of each of its tokens; the first has none, since nothing stands before it."""
    logprobs = {
        "tokens": [asked.token_text(token) for token in asked.generation.prompt],
        "token_logprobs": [None, *scores],
        "top_logprobs": None,
    }
    choice = CompletionChoice(text=asked.prompt, finish_reason="length", logprobs=logprobs)
    return CompletionReply(**head, choices=[choice], usage=asked.usage(0))


def _reply(reply: BaseModel | None) -> Response:
    if reply is None:
        return Response(status_code=CLIENT_LEFT)
    return JSONResponse(reply.model_dump(mode="json", exclude_none=True))


def _chat_chunk(asked: Asked, piece: Piece, first: bool) -> dict[str, Any]:
    delta: dict[str, Any] = {"role": "assistant"} if first else {}
    if piece.text or first:
        delta["content"] = piece.text
    logprobs = {"logprobs": _chat_logprobs(asked, piece.scores)} if piece.scores else {}
    return {"index": 0, "delta": delta, "finish_reason": piece.finish_reason, **logprobs}


def _text_chunk(asked: Asked, piece: Piece, first: bool) -> dict[str, Any]:
    logprobs = {"logprobs": _text_logprobs(asked, piece.scores)} if piece.scores else {}
    return {"index": 0, "text": piece.text, "finish_reason": piece.finish_reason, **logprobs}


def _chat_logprobs(asked: Asked, scores: Sequence[TokenScore]) -> dict[str, Any]:
    """OpenAI's shape for chats: every token with its likeliest alternatives."""

    def entry(token: int, logprob: float) -> dict[str, Any]:
        text = asked.token_text(token)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    return {
        "content": [
            {**entry(score.id, score.logprob), "top_logprobs": [entry(*pair) for pair in score.top]}
            for score in scores
        ]
    }


def _text_logprobs(asked: Asked, scores: Sequence[TokenScore]) -> dict[str, Any]:
    """OpenAI's shape for text completions: parallel lists."""
    return {
        "tokens": [asked.token_text(score.id) for score in scores],
        "token_logprobs": [score.logprob for score in scores],
        "top_logprobs": [{asked.token_text(token): value for token, value in score.top} for score in scores],
    }


async def _stream(
    service: InferenceService,
    asked: Asked,
    body: Sampling,
    head: dict[str, Any],
    chunk: Chunk,
    told: Told | None = None,
) -> Response:
    """Server-sent events. The first piece is awaited before the response begins, so that a refusal has its own status."""
    pieces = service.pieces(asked)
    first = await anext(pieces)
    usage = bool(body.stream_options and body.stream_options.include_usage)
    head |= {"usage": None} if usage else {}
    events = _events(asked, first, _listened(first, pieces, told), head, chunk, usage=usage)
    return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-cache"})


async def _listened(first: Piece, rest: AsyncGenerator[Piece], told: Told | None) -> AsyncGenerator[Piece]:
    """The pieces after the first; what all of them say is told at their end, if anybody wants to know."""
    texts = [first.text]
    async with aclosing(rest):
        async for piece in rest:
            if told is not None:
                texts.append(piece.text)
                if piece.finish_reason:
                    told("".join(texts), piece.finish_reason)
            yield piece


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

    def choices(piece: Piece) -> dict[str, Any]:
        # Clients that did not ask for usage expect no chunk without a choice, so it comes with the last one.
        last = piece.finish_reason is not None and not usage
        ended = {"usage": asked.usage(piece.completion_tokens).model_dump()} if last else {}
        return head | {"choices": [chunk(asked, piece, piece is first)]} | ended

    try:
        yield _event(choices(piece))
        async for piece in rest:
            if (
                piece.text or piece.finish_reason or piece.scores
            ):  # a token inside a character has no text yet
                yield _event(choices(piece))
        if usage:
            yield _event(head | {"choices": [], "usage": asked.usage(piece.completion_tokens).model_dump()})
    except PlatformError as error:
        yield _event({"error": {"message": error.detail, "type": "server_error", "code": error.code}})
    finally:
        await rest.aclose()  # a client that left frees its place at once
    yield "data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
