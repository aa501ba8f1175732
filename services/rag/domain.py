"""The rules of retrieval: reading passages, choosing what fits, and putting it before the question.

Pure: no files, no database, no engine. Token counts come from the served model; nothing here guesses them.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ValidationError

from libs.common.errors import InvalidInput, TooLarge
from model_training.contracts.chat import ChatMessage
from model_training.contracts.indexes import Chunk
from model_training.contracts.problems import RowFault

Mode = Literal["hybrid", "dense", "bm25"]

MAX_QUERY_CHARACTERS = 20_000
MAX_FAULTS = 100
EXCERPT_CHARACTERS = 400
WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class RagModel:
    """A model name of the form `rag:<index>@<model>`, taken apart."""

    index: str
    model: str


@dataclass(frozen=True)
class EmbedderStamp:
    """What made an index's vectors. An index is searched with exactly this, or not at all.

    `revision` is the SHA-256 of the weights; the prefixes are put before each text; texts are cut at `max_tokens`.
    """

    name: str
    revision: str
    dimension: int
    query_prefix: str
    document_prefix: str
    max_tokens: int


@dataclass(frozen=True)
class Found:
    """One passage found. `score` is comparable within one search only."""

    chunk: Chunk
    score: float


@dataclass(frozen=True)
class FusionRule:
    """Reciprocal rank fusion: each list adds 1 / (k - 1 + (rank + 1) / weight) with ranks from 0, over its `depth` best.

    With weights of 1 that is 1 / (k + rank). The weights differ a little because the engine orders equal scores by chance,
    and best by vector against best by words is such a tie: words win it.
    """

    k: int = 2
    dense_weight: float = 1.0
    bm25_weight: float = 1.01
    depth: int = 50


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


@dataclass
class ChunkFile:
    """What reading passages found: the passages, and the rows that are not one."""

    chunks: list[Chunk] = field(default_factory=list)
    faults: list[RowFault] = field(default_factory=list)
    duplicates: int = 0


def parse_model(name: str) -> RagModel:
    """Take `rag:<index>@<model>` apart.

    Raises:
        InvalidInput: the name has another form.
    """
    prefix, _, rest = name.partition(":")
    index, _, model = rest.partition("@")
    if prefix != "rag" or not index or not model:
        raise InvalidInput(
            f"{name!r} is not a retrieval model.",
            param="model",
            hint="Write rag:<index name or id>@<model>, for example rag:docs@gemma-3-270m.",
        )
    return RagModel(index, model)


def near_names(name: str, known: Iterable[str]) -> str:
    """A hint that lists the names closest to a name that is not there, or all of a few."""
    names = sorted(set(known))
    if not names:
        return "There is no index yet; create one with POST /v1/indexes."
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names[:5]
    return "Indexes that are there: " + ", ".join(near) + "."


def checked_query(text: str, param: str = "query") -> str:
    """The query without surrounding space.

    Raises:
        InvalidInput: nothing is left.
        TooLarge: it is longer than `MAX_QUERY_CHARACTERS`.
    """
    if len(text) > MAX_QUERY_CHARACTERS:
        raise TooLarge(
            f"The query has {len(text):,} characters; at most {MAX_QUERY_CHARACTERS:,} are searched for.",
            param=param,
            hint="Ask the question alone; long material belongs into an index.",
        )
    stripped = text.strip()
    if not stripped:
        raise InvalidInput("The query is empty.", param=param, hint="Ask for something in words.")
    return stripped


def document_text(chunk: Chunk) -> str:
    """What is embedded and indexed of a passage: its title and its text."""
    return f"{chunk.title}\n{chunk.text}"


def average_words(texts: Sequence[str]) -> float:
    """Mean length of the texts in words, which BM25 needs to tell long from short; at least 1."""
    return max(1.0, sum(len(WORD.findall(text)) for text in texts) / max(1, len(texts)))


# --- reading passages -------------------------------------------------------------------------------------------------


def read_chunks(files: Iterable[tuple[str, Iterable[bytes]]]) -> ChunkFile:
    """Read passages from the lines of JSON Lines files, given as (file name, lines).

    Blank lines are skipped and an exact repetition is dropped. Everything else that is not a passage, or that gives an
    id a second meaning, becomes a fault with its row; reading goes on, so that one run shows all faults.
    """
    result = ChunkFile()
    seen: dict[str, Chunk] = {}
    for name, lines in files:
        for row, line in enumerate(lines, start=1):
            fault = _read_row(line.strip(), seen, result)
            if fault is not None and len(result.faults) < MAX_FAULTS:
                place, message = fault
                result.faults.append(RowFault(row=row, field=place, message=f"{name}: {message}"))
    result.chunks = list(seen.values())
    return result


def _read_row(line: bytes, seen: dict[str, Chunk], result: ChunkFile) -> tuple[str | None, str] | None:
    if not line:
        return None
    try:
        chunk = Chunk.model_validate(json.loads(line.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        return None, f"not UTF-8 at byte {error.start}; save the file as UTF-8"
    except json.JSONDecodeError as error:
        return None, f"not JSON: {error.msg} at character {error.pos + 1}"
    except ValidationError as error:
        first = error.errors()[0]
        return ".".join(str(part) for part in first["loc"]) or None, first["msg"]
    if not chunk.text.strip():
        return "text", "the text is empty"
    known = seen.setdefault(chunk.id, chunk)
    if known is chunk:
        return None
    if known != chunk:
        return "id", f"{chunk.id!r} already names another passage; ids must be unique"
    result.duplicates += 1
    return None


# --- packing ----------------------------------------------------------------------------------------------------------


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


# --- the prompt -------------------------------------------------------------------------------------------------------


def passage_block(number: int, chunk: Chunk) -> str:
    """One passage as it stands in the prompt."""
    return f"[{number}] {chunk.title}\n{chunk.text.strip()}"


def with_context(messages: Sequence[ChatMessage], chunks: Sequence[Chunk]) -> list[ChatMessage]:
    """The conversation with the passages put before the last user message's question; earlier turns are untouched."""
    if not chunks:
        return list(messages)
    last = last_question(messages)
    blocks = "\n\n".join(passage_block(number, chunk) for number, chunk in enumerate(chunks, start=1))
    content = f"Use these passages.\n\n{blocks}\n\n{messages[last].content}"
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
