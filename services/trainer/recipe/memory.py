"""What happens when memory runs out in the middle of a step: the same step again, in smaller passes.

The rows of an optimiser step never change with it, so the run stays the one that was asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from libs.common.errors import JobFailure

Answer = TypeVar("Answer")


ONEDNN = ("could not create a primitive", "could not create a memory object")
"""What oneDNN says where it gets no memory. It has the same words for other faults; those outlast smaller passes."""


def ran_out(error: Exception) -> bool:
    """Whether an exception says that memory ran out: that of the machine, or of the GPU."""
    known = isinstance(error, MemoryError) or should_reduce_batch_size(error)
    return known or any(words in str(error) for words in ONEDNN)


class MemoryLadder:
    """Holds how many tokens go through the model at once, and halves that whenever they do not fit.

    Args:
        tokens: where to begin.
        longest: tokens of the longest row. Rows are not split, so below this nothing gets smaller.
        tell: called with the tokens before and after each halving.
    """

    def __init__(self, tokens: int, longest: int, tell: Callable[[int, int], None]) -> None:
        self.tokens = tokens
        self._longest = longest
        self._tell = tell

    def run(self, work: Callable[[int], Answer], undo: Callable[[], None]) -> Answer:
        """What `work` returns when it is given as many tokens as fit; `undo` removes what a failed call left behind.

        Raises:
            JobFailure: a single row does not fit.
        """
        while True:
            try:
                return work(self.tokens)
            except (RuntimeError, MemoryError) as error:
                if not ran_out(error):
                    raise
                reason = str(error).partition("\n")[0]
            # Only here, behind the handler, are the failed call's tensors free: its frames hung on the exception.
            undo()
            clear_device_cache(garbage_collection=True)
            self._step_down(reason)

    def _step_down(self, reason: str) -> None:
        if self.tokens <= self._longest:
            raise JobFailure(
                "out_of_memory",
                f"A pass of one row of up to {self._longest} tokens does not fit into memory ({reason}).",
                blame="user",
                param="max_length",
                hint="Lower max_length, set gradient_checkpointing or load_in_4bit to true, or use a larger machine.",
            )
        before, self.tokens = self.tokens, self.tokens // 2
        self._tell(before, self.tokens)
