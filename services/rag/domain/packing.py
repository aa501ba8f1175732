"""Choosing the passages that fit and putting them before the question. Token counts come from the served model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from libs.common.errors import InvalidInput
from model_training.contracts.chat import ChatMessage
from model_training.contracts.indexes import Chunk
from services.rag.domain.search import Found

EXCERPT_CHARACTERS = 400
INSTRUCTION = "Use these passages."


@dataclass(frozen=True)
class Packing:
    """Which candidates went into the prompt and what they cost there, in tokens of the served model."""

    packed: tuple[str, ...]
    dropped: tuple[str, ...]
    context_tokens: int
    budget: int

    def as_dict(self) -> dict[str, Any]:
        """As it stands in an answer."""
        return {
            "packed": list(self.packed),
            "dropped": list(self.dropped),
            "context_tokens": self.context_tokens,
            "budget": self.budget,
        }


def choose(sizes: Sequence[int], budget: int, limit: int) -> list[int]:
    """Positions of the passages to take, best first: each that still fits is taken whole, one that does not is passed over.

    Args:
        sizes: tokens of each candidate, best candidate first.
        budget: tokens that all of them together may cost.
        limit: how many may be taken.
    """
    taken: list[int] = []
    left = budget
    for position, size in enumerate(sizes):
        if len(taken) == limit:
            break
        if size <= left:
            taken.append(position)
            left -= size
    return taken


def context_budget(wanted: int, window: int | None, question_tokens: int, output_tokens: int) -> int:
    """Tokens that context may cost: what is wanted, or less where the model's window leaves less.

    Args:
        wanted: the configured budget.
        window: the served model's context length, None where it is not known.
        question_tokens: the prompt without context, template included.
        output_tokens: reserved for the answer.
    """
    if window is None:
        return wanted
    return max(0, min(wanted, window - question_tokens - output_tokens))


def passage_block(number: int, chunk: Chunk) -> str:
    """One passage as it stands in the prompt."""
    return f"[{number}] {chunk.title}\n{chunk.text.strip()}"


def with_context(
    messages: Sequence[ChatMessage], chunks: Sequence[Chunk], instruction: str = INSTRUCTION
) -> list[ChatMessage]:
    """The conversation with the passages put before the last user message's question; earlier turns are untouched."""
    if not chunks:
        return list(messages)
    last = last_question(messages)
    blocks = "\n\n".join(passage_block(number, chunk) for number, chunk in enumerate(chunks, start=1))
    content = f"{instruction}\n\n{blocks}\n\n{messages[last].content}"
    replaced = list(messages)
    replaced[last] = ChatMessage(role="user", content=content)
    return replaced


def last_question(messages: Sequence[ChatMessage]) -> int:
    """Position of the last user message.

    Raises:
        InvalidInput: nobody asks anything.
    """
    for position in range(len(messages) - 1, -1, -1):
        if messages[position].role == "user":
            return position
    raise InvalidInput(
        "The conversation has no user message to search for.",
        param="messages",
        hint='Add {"role": "user", "content": "<question>"}.',
    )


def sources_of(found: Sequence[Found], packed: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The sources of an answer, numbered as in the prompt. `rank` is the place in the search, from 1."""
    for number, position in enumerate(packed, start=1):
        hit = found[position]
        yield {
            "number": number,
            "rank": position + 1,
            "id": hit.chunk.id,
            "title": hit.chunk.title,
            "text": hit.chunk.text[:EXCERPT_CHARACTERS],
            "functions": hit.chunk.functions,
            "source": hit.chunk.source.model_dump(exclude_none=True),
            "score": hit.score,
        }
