"""What is wrong with a configuration: which field, which value, which rule, where it was written, and the way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from model_training.errors import UserError


class Unset:
    """The value of a fault that is about no value, for example an unknown field in a file."""

    def __repr__(self) -> str:
        return "(no value)"


UNSET = Unset()


@dataclass(frozen=True)
class Fault:
    """One broken rule. `where` says where the value was written, for example `file run.yaml, line 3`."""

    field: str
    rule: str
    value: Any = UNSET
    hint: str | None = None
    where: str | None = None

    def __str__(self) -> str:
        text = self.field if isinstance(self.value, Unset) else f"{self.field} = {_short(self.value)}"
        place = f" ({self.where})" if self.where else ""
        return f"{text}{place}: {self.rule}"


class ConfigError(UserError):
    """A configuration cannot be used. `faults` holds every broken rule; the message names them."""

    def __init__(self, message: str, *, hint: str | None = None, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message, hint=hint)
        self.faults = tuple(faults)

    @classmethod
    def of(cls, owner: str, faults: Sequence[Fault]) -> ConfigError:
        """The error of one or more faults in `owner`, the name of a configuration class."""
        if len(faults) == 1:
            return cls(_sentence(owner, faults[0]), hint=faults[0].hint, faults=faults)
        lines = [f"  {_sentence(owner, fault)} {fault.hint or ''}".rstrip() for fault in faults]
        return cls("\n".join([f"{len(faults)} settings cannot be used.", *lines]), faults=faults)


def _sentence(owner: str, fault: Fault) -> str:
    text = str(fault) if fault.field.startswith("MT_") else f"{owner}.{fault}"
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _short(value: Any, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
