"""What a person can mend: one sentence that says what is wrong, and a hint that says the way out.

Configuration, data-set tools, client and platform raise these; `mt` prints them without a traceback. Services
answer with `libs.common.errors` instead, which the client turns back into a `UserError`.
"""

from __future__ import annotations


class UserError(Exception):
    """Something that the person at the keyboard can mend.

    `message` is one sentence that names the field, row, file or port, its value and the rule. `hint` says
    what to do. `exit_code` is what `mt` ends with; it is never 0.
    """

    def __init__(self, message: str, *, hint: str | None = None, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code or 1

    def __str__(self) -> str:
        """The message and the hint, for callers that only print the exception."""
        return f"{self.message} {self.hint}" if self.hint else self.message
