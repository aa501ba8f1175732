"""Turns tokens into text that can be sent at once, and ends it where the request says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.inference.domain.generation import Generation, Piece, TokenScore

Decode = Callable[[Sequence[int]], str]
"""Token ids to text; special tokens are left out, an unfinished character shows as U+FFFD."""

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class TextAssembler:
    """Turns a growing list of tokens into text that can be sent at once.

    Laws: the pieces joined are the text of all tokens, cut before the first stop text; a piece never ends inside a
    character; nothing that could still become part of a stop text is sent.
    """

    def __init__(self, decode: Decode, stop: Sequence[str]) -> None:
        self._decode = decode
        self._stop = tuple(text for text in stop if text)
        self._pending: list[int] = []
        self._held = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """Text that the token sets free; empty when it must wait. Sets `stopped` at a stop text."""
        self._pending.append(token)
        text = self._decode(self._pending)
        if text.endswith(REPLACEMENT) and len(self._pending) < 8:  # a character takes four bytes at most
            return ""
        self._pending = []
        return self._release(text, final=False)

    def finish(self) -> str:
        """What was held back, when no more tokens come."""
        text = self._decode(self._pending) if self._pending else ""
        self._pending = []
        return "" if self.stopped else self._release(text, final=True)

    def _release(self, text: str, *, final: bool) -> str:
        self._held += text
        cuts = [at for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if cuts:
            self.stopped = True
            free, self._held = self._held[: min(cuts)], ""
            return free
        keep = 0 if final else max((_overlap(self._held, stop) for stop in self._stop), default=0)
        cut = len(self._held) - keep
        free, self._held = self._held[:cut], self._held[cut:]
        return free


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with, whole `stop` excluded."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


class AnswerWriter:
    """Makes an answer's pieces of its tokens, on every engine alike: the one place that decides where an answer ends."""

    def __init__(self, decode: Decode, generation: Generation) -> None:
        self._text = TextAssembler(decode, generation.stop)
        self._generation = generation
        self.written = 0

    @property
    def stopped_by_text(self) -> bool:
        """Whether a stop text ended the answer, of which an engine that sees tokens alone knows nothing."""
        return self._text.stopped

    def take(self, token: int, scores: tuple[TokenScore, ...] = ()) -> Piece:
        """What one token adds, and whether it is the last."""
        self.written += 1
        if token in self._generation.stop_ids:
            return Piece(self._text.finish(), self.written, "stop", scores)
        free = self._text.add(token)
        if self._text.stopped:
            return Piece(free, self.written, "stop", scores)
        if self.written >= self._generation.max_tokens:
            return Piece(free + self._text.finish(), self.written, "length", scores)
        return Piece(free, self.written, None, scores)

    def finish(self) -> Piece:
        """The end of an answer that the engine ended for a reason of its own, such as a grammar that is complete."""
        return Piece(self._text.finish(), self.written, "stop")
