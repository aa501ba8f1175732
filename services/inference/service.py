"""The use cases: plan a request (render, encode, check the window), answer it piece by piece or whole, count tokens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, cast

from libs.common.errors import InvalidInput, PlatformError, Unavailable
from libs.common.models.prompting import encode, encode_plain, render
from model_training.contracts.chat import (
    ChatMessage,
    ChatRequest,
    CompletionRequest,
    ResponseFormat,
    Sampling,
    Usage,
)
from services.inference import metrics
from services.inference.domain.generation import (
    FinishReason,
    Generation,
    Piece,
    TimedOut,
    TokenScore,
    check_window,
)
from services.inference.loaded import LoadedModel, LoadedModels
from services.inference.ports import Engine


@dataclass(frozen=True)
class Asked:
    """A request that is ready for the engine."""

    model: LoadedModel
    generation: Generation
    prompt: str
    timeout_s: float
    trim: bool
    """Whether white space in front of the answer belongs to the template and not to the answer."""

    def token_text(self, token: int) -> str:
        """A token as text; U+FFFD for a part of a character."""
        return self.model.tokenizer.decode([token], skip_special_tokens=False)

    def usage(self, completion_tokens: int) -> Usage:
        """Tokens read and written so far."""
        read = len(self.generation.prompt)
        return Usage(
            prompt_tokens=read, completion_tokens=completion_tokens, total_tokens=read + completion_tokens
        )


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    text: str
    finish_reason: FinishReason
    completion_tokens: int
    scores: list[TokenScore]


@dataclass(frozen=True)
class Tokens:
    """A text as the model reads it."""

    text: str
    ids: list[int]
    window: int


class InferenceService:
    """Answers requests with the models in memory."""

    def __init__(
        self, models: LoadedModels, engine: Engine, *, default_max_tokens: int, timeout_s: float
    ) -> None:
        self._models = models
        self._engine = engine
        self._default_max_tokens = default_max_tokens
        self._timeout_s = timeout_s

    async def plan_chat(self, request: ChatRequest) -> Asked:
        """Render a conversation with the template of its model.

        Raises:
            PlatformError: the model is unknown, not prepared or refused, or the prompt does not fit.
        """
        model = await self._model(request.model)
        prompt = render(model.template, request.messages)
        generation = self._generation(
            model, prompt, request, request.max_completion_tokens or request.max_tokens
        )
        generation = replace(
            generation,
            stop=(*model.template.stop, *generation.stop),
            logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        )
        return Asked(model, generation, prompt, self._time(request), trim=True)

    async def plan_completion(self, request: CompletionRequest) -> Asked:
        """Take a prompt as it is. Raises as `plan_chat` does."""
        _refuse_contradiction(request)
        model = await self._model(request.model)
        generation = self._generation(model, request.prompt, request, request.max_tokens)
        generation = replace(generation, logprobs=request.logprobs)
        return Asked(model, generation, request.prompt, self._time(request), trim=False)

    async def measure(self, asked: Asked) -> list[float]:
        """Log-probability of every token of the prompt after the first, in nats.

        Raises:
            InvalidInput: the prompt has fewer than two tokens.
        """
        ids = asked.generation.prompt
        if len(ids) < 2:
            raise InvalidInput("The prompt has nothing whose likelihood could be told.", param="prompt")
        return (await asyncio.to_thread(self._engine.score, asked.model.name, [ids]))[0]

    async def tokenize(self, name: str, messages: Sequence[ChatMessage] | None, text: str | None) -> Tokens:
        """The ids of a rendered conversation, `<bos>` first, or of a plain text without one."""
        model = await self._model(name)
        if messages is None:
            return Tokens(text or "", encode_plain(model.tokenizer, text or ""), model.window)
        prompt = render(model.template, messages)
        return Tokens(prompt, encode(model.tokenizer, prompt), model.window)

    async def pieces(self, asked: Asked) -> AsyncGenerator[Piece]:
        """The answer as it is written. Closing the iterator cancels the request.

        Raises:
            QueueFull: too many requests wait already.
        """
        name, trim = asked.model.name, asked.trim
        started, first, ended, written = time.perf_counter(), True, "cancelled", 0
        try:
            async with aclosing(self._in_time(asked)) as stream:
                async for piece in stream:
                    written, ended = piece.completion_tokens, piece.finish_reason or ended
                    text = piece.text.lstrip() if trim else piece.text
                    if first and text:
                        first, trim = False, False
                        metrics.FIRST_TOKEN_SECONDS.labels(name).observe(time.perf_counter() - started)
                    if piece.queued_s is not None:
                        metrics.QUEUE_SECONDS.labels(name).observe(piece.queued_s)
                    yield replace(piece, text=text)
        except PlatformError as error:
            ended = error.code
            raise
        finally:
            metrics.REQUEST_SECONDS.labels(name).observe(time.perf_counter() - started)
            metrics.FINISHED.labels(name, ended).inc()
            metrics.TOKENS.labels(name, "read").inc(len(asked.generation.prompt))
            metrics.TOKENS.labels(name, "written").inc(written)

    async def _in_time(self, asked: Asked) -> AsyncGenerator[Piece]:
        """The engine's pieces until the request's time is over."""
        deadline = asyncio.get_running_loop().time() + asked.timeout_s
        written = 0
        async with aclosing(self._engine.generate(asked.generation)) as stream:
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        piece = await anext(stream)
                except TimeoutError as error:
                    raise TimedOut(
                        f"{written} tokens were written in {asked.timeout_s:g} s, and the time is over.",
                        param="timeout_s",
                        hint="Ask for fewer tokens, or try again when fewer others ask."
                        if written
                        else "The request was waiting all the time: try again when fewer others ask.",
                    ) from error
                written = piece.completion_tokens
                yield piece
                if piece.finish_reason:
                    return

    async def whole(self, asked: Asked) -> Answer:
        """The finished answer. Raises as `pieces` does."""
        texts: list[str] = []
        scores: list[TokenScore] = []
        async with aclosing(self.pieces(asked)) as stream:
            async for piece in stream:
                texts.append(piece.text)
                scores += piece.scores
                if piece.finish_reason:
                    return Answer("".join(texts), piece.finish_reason, piece.completion_tokens, scores)
        raise RuntimeError("the engine ended an answer without a reason")

    async def _model(self, name: str) -> LoadedModel:
        if found := self._models.peek(name):
            return found
        if reason := self._engine.failure():  # waiting for it would hold a thread for each who asks
            raise Unavailable(f"The engine cannot serve now: {reason}.", retry_after_s=10)
        return await asyncio.to_thread(self._models.ensure, name)

    def _time(self, request: Sampling) -> float:
        return min(request.timeout_s or self._timeout_s, self._timeout_s)

    def _generation(
        self, model: LoadedModel, prompt: str, request: Sampling, wanted: int | None
    ) -> Generation:
        ids = encode(model.tokenizer, prompt)
        return Generation(
            model=model.name,
            prompt=tuple(ids),
            max_tokens=check_window(len(ids), wanted, model.window, self._default_max_tokens),
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
            stop=tuple([request.stop] if isinstance(request.stop, str) else request.stop or []),
            stop_ids=model.stop_ids,
            schema=_schema(request.response_format),
        )


def _refuse_contradiction(request: CompletionRequest) -> None:
    """What the fields allow each by itself, and not together."""
    if request.echo and (request.max_tokens != 0 or request.logprobs is None or request.stream):
        raise InvalidInput(
            "echo measures the prompt and writes nothing.",
            param="echo",
            hint="Send max_tokens 0 and logprobs 0 with it, and no stream.",
        )
    if request.max_tokens == 0 and not request.echo:
        raise InvalidInput(
            "max_tokens is 0, so nothing would be written.",
            param="max_tokens",
            hint="It goes with echo alone.",
        )


def _schema(wanted: ResponseFormat | None) -> dict[str, Any] | None:
    """The JSON schema that an answer must follow; None for free text."""
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {"type": "object"}
    schema = (wanted.json_schema or {}).get("schema")
    if not isinstance(schema, dict):
        raise InvalidInput(
            "response_format is of the type json_schema and holds no json_schema.schema.",
            param="response_format",
            hint='{"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}',
        )
    return cast(dict[str, Any], schema)
