"""Parts that the tests of retrieval share: the real embedder (loaded once), a small library's passages, a counting model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from libs.common.errors import NotFound
from model_training.contracts.chat import ChatMessage
from model_training.contracts.indexes import Chunk, Source
from services.rag.adapters.sentence_transformers import MINILM, SentenceTransformersEmbedder, make_embedder
from services.rag.ports import TokenCount

FUNCTIONS = {
    "more_itertools.chunked": "Break an iterable into lists of a given length. The last list may be shorter.",
    "more_itertools.flatten": "Remove one level of nesting from a list of lists.",
    "more_itertools.collapse": "Flatten an iterable with several levels of nesting down to its leaves.",
    "more_itertools.windowed": "Return a sliding window of width n over the given iterable.",
    "more_itertools.first": "Return the first item of an iterable, or a default if it is empty.",
    "more_itertools.last": "Return the last item of an iterable, or a default if it is empty.",
    "more_itertools.one": "Return the only item of an iterable; raise if there are none or several.",
    "more_itertools.interleave": "Yield from each iterable in turn until the shortest is exhausted.",
    "more_itertools.distribute": "Deal the items of an iterable out to n smaller iterables, like cards.",
    "more_itertools.divide": "Split an iterable into n parts, keeping the order.",
    "more_itertools.unique_everseen": "Yield unique elements, preserving order, remembering all seen ever.",
    "more_itertools.peekable": "Wrap an iterator to look ahead at coming items without consuming them.",
    "more_itertools.all_equal": "Return True if all the elements are equal to each other.",
    "more_itertools.consume": "Advance an iterator n steps ahead, or run it to its end.",
    "toolz.groupby": "Collect the elements of a sequence in a dictionary, keyed by a function.",
    "toolz.frequencies": "Count how often each value occurs in a sequence.",
    "toolz.merge": "Merge a collection of dictionaries; later ones win.",
    "toolz.get_in": "Look up a value in nested dictionaries and lists by a path of keys.",
    "toolz.assoc": "Return a new dict with a new key value pair, leaving the old one untouched.",
    "toolz.dissoc": "Return a new dict with the given keys removed.",
    "toolz.pipe": "Send a value through a sequence of functions, left to right.",
    "toolz.compose": "Make one function out of several that are applied from right to left.",
    "toolz.curry": "Call a function with some arguments now and the others later.",
    "toolz.memoize": "Cache a function's results so that repeated calls are fast.",
    "toolz.valmap": "Apply a function to the values of a dictionary.",
    "toolz.keyfilter": "Keep the entries of a dictionary whose key satisfies a predicate.",
    "boltons.strutils.slugify": "Turn text into lower case words joined by underscores, fit for a URL.",
    "boltons.strutils.ordinalize": "Turn a number into its ordinal text such as 1st, 2nd or 3rd.",
    "boltons.iterutils.remap": "Visit and transform a nested structure of dicts and lists.",
    "boltons.timeutils.relative_time": "Describe the time since a moment in words, such as 3 hours ago.",
}


@pytest.fixture(scope="session")
def passages() -> list[Chunk]:
    """Thirty functions, one passage each."""
    return [
        Chunk(
            id=name,
            title=name,
            text=text,
            functions=[name],
            source=Source(package=name.split(".")[0], line_start=1),
        )
        for name, text in FUNCTIONS.items()
    ]


@pytest.fixture(scope="session")
def minilm() -> SentenceTransformersEmbedder:
    """The real embedder."""
    embedder = make_embedder(MINILM, Path("/nowhere"))
    embedder.load()
    return embedder


class CountingModel:
    """A served model that counts words as tokens, takes one more for each message, and repeats the last message.

    It passes the same contract tests as the HTTP adapter (test_inference_contract.py).
    """

    def __init__(self, window: int | None = None) -> None:
        self.window = window
        self.bodies: list[dict[str, Any]] = []
        self.text_counts = 0

    async def count(self, model: str, messages: Sequence[ChatMessage]) -> TokenCount:
        """Words of all messages, and one for each."""
        self._check(model)
        text = "\n".join(message.content for message in messages)
        return TokenCount(len(text.split()) + len(messages), text, self.window)

    async def count_text(self, model: str, text: str) -> int:
        """Words of the text."""
        self._check(model)
        self.text_counts += 1
        return len(text.split())

    async def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """Repeat the last message."""
        self._check(body["model"])
        self.bodies.append(body)
        message = {"role": "assistant", "content": body["messages"][-1]["content"]}
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        return {
            "id": "chat_1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": usage,
        }

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Repeat the last message word by word."""
        self._check(body["model"])
        self.bodies.append(body)
        return self._pieces(body)

    async def _pieces(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        for word in body["messages"][-1]["content"].split():
            yield {
                "id": "chat_1",
                "model": body["model"],
                "choices": [{"index": 0, "delta": {"content": word}}],
            }

    def _check(self, model: str) -> None:
        if model == "unknown":
            raise NotFound("There is no model 'unknown'.", param="model")


@pytest.fixture(scope="session")
def counting_model() -> type[CountingModel]:
    """The class, since test modules cannot import a conftest."""
    return CountingModel
