"""The use cases: plan a request (render, encode, check the window), answer it piece by piece or whole, count tokens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from libs.common.models.prompting import encode, encode_plain, render
from model_training.contracts.chat import ChatMessage, ChatRequest, CompletionRequest, Sampling, Usage
from services.inference import metrics
from services.inference.domain.generation import FinishReason, Generation, Piece, check_window
from services.inference.loaded import LoadedModel, LoadedModels
from services.inference.ports import Engine


@dataclass(frozen=True)
class Asked:
    """A request that is ready for the engine."""

    model: LoadedModel
    generation: Generation
    prompt: str
    trim: bool
    """Whether white space in front of the answer belongs to the template and not to the answer."""

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


@dataclass(frozen=True)
class Tokens:
    """A text as the model reads it."""

    text: str
    ids: list[int]
    window: int


class InferenceService:
    """Answers requests with the models in memory."""

    def __init__(self, models: LoadedModels, engine: Engine, *, default_max_tokens: int) -> None:
        self._models = models
        self._engine = engine
        self._default_max_tokens = default_max_tokens

    async def plan_chat(self, request: ChatRequest) -> Asked:
        """Render a conversation with the template of its model.

        Raises:
            PlatformError: the model is unknown, not prepared or refused, or the prompt does not fit.
        """
        model = await self._model(request.model)
        prompt = render(model.template, request.messages)
        wanted = request.max_completion_tokens or request.max_tokens
        stop = (*model.template.stop, *_texts(request.stop))
        return Asked(model, self._generation(model, prompt, request, wanted, stop), prompt, trim=True)

    async def plan_completion(self, request: CompletionRequest) -> Asked:
        """Take a prompt as it is. Raises as `plan_chat` does."""
        model = await self._model(request.model)
        generation = self._generation(
            model, request.prompt, request, request.max_tokens, _texts(request.stop)
        )
        return Asked(model, generation, request.prompt, trim=False)

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
        kind = "tuned" if asked.model.tuned else "base"
        started, first, ended, written = time.perf_counter(), True, "cancelled", 0
        trim = asked.trim
        try:
            async with aclosing(self._engine.generate(asked.generation)) as stream:
                async for piece in stream:
                    written, ended = piece.completion_tokens, piece.finish_reason or ended
                    text = piece.text.lstrip() if trim else piece.text
                    if first and text:
                        first, trim = False, False
                        metrics.FIRST_TOKEN_SECONDS.labels(kind).observe(time.perf_counter() - started)
                    yield Piece(text, piece.completion_tokens, piece.finish_reason)
        finally:
            metrics.REQUEST_SECONDS.labels(kind).observe(time.perf_counter() - started)
            metrics.FINISHED.labels(kind, ended).inc()
            metrics.TOKENS.labels(kind, "read").inc(len(asked.generation.prompt))
            metrics.TOKENS.labels(kind, "written").inc(written)

    async def whole(self, asked: Asked) -> Answer:
        """The finished answer. Raises as `pieces` does."""
        texts: list[str] = []
        async with aclosing(self.pieces(asked)) as stream:
            async for piece in stream:
                texts.append(piece.text)
                if piece.finish_reason:
                    return Answer("".join(texts), piece.finish_reason, piece.completion_tokens)
        raise RuntimeError("the engine ended an answer without a reason")

    async def _model(self, name: str) -> LoadedModel:
        return self._models.peek(name) or await asyncio.to_thread(self._models.ensure, name)

    def _generation(
        self, model: LoadedModel, prompt: str, request: Sampling, wanted: int | None, stop: Sequence[str]
    ) -> Generation:
        ids = encode(model.tokenizer, prompt)
        return Generation(
            model=model.name,
            prompt=tuple(ids),
            max_tokens=check_window(len(ids), wanted, model.window, self._default_max_tokens),
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
            stop=tuple(stop),
            stop_ids=model.stop_ids,
        )


def _texts(stop: str | list[str] | None) -> list[str]:
    return [stop] if isinstance(stop, str) else stop or []
