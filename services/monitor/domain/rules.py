"""Alert rules: what a YAML file of them may say. Which condition holds is decided in `conditions`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from model_training.contracts.alerts import Severity

Match = dict[str, str]
"""Labels with the value that they must have; a value that begins with `~` is a regular expression for all of it."""


class InvalidRule(ValueError):
    """A rule file says something that cannot be."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RuleBase(_Strict):
    """What every rule has. Times are in seconds."""

    name: str = Field(pattern=r"^[A-Z][A-Za-z0-9]{2,60}$")
    severity: Severity
    summary: str = Field(min_length=1, max_length=300)
    """`{value}` and `{label}` are filled in."""
    runbook: str = Field(default="", max_length=100)
    metric: str = Field(pattern=r"^[a-z_][a-z0-9_]*$")
    match: Match = {}
    by: tuple[str, ...] = ()
    """One alert for each value of these labels; without any, one alert over all series."""
    for_s: float = Field(default=0, ge=0)
    """How long the condition must hold before the alert fires."""
    resolve_after_s: float = Field(default=60, ge=0)
    """How long it must be over before the alert resolves, so that what flutters is told once."""


class Compared(RuleBase):
    """A rule with a limit, and a second one that the value must pass on its way back."""

    above: float | None = None
    below: float | None = None
    clear: float | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if (self.above is None) == (self.below is None):
            raise ValueError("needs exactly one of `above` and `below`")
        wrong = self.clear is not None and (
            (self.above is not None and self.clear > self.above)
            or (self.below is not None and self.clear < self.below)
        )
        if wrong:
            raise ValueError("`clear` must lie on the quiet side of the limit")
        return self


class ThresholdRule(Compared):
    """A gauge, or a gauge divided by another (`of`), beyond a limit."""

    kind: Literal["threshold"]
    aggregate: Literal["max", "min", "sum", "avg"] = "max"
    of: str | None = None


class RateRule(Compared):
    """How fast a counter grows, a second; with `of`, its share in the growth of another."""

    kind: Literal["rate"]
    window_s: float = Field(gt=0)
    of: str | None = None
    of_match: Match = {}
    min_events: float = Field(default=0, ge=0)
    """Growth of `of` in the window below which nothing is said: two failures of three are no error rate."""


class AbsenceRule(RuleBase):
    """No reading of a metric for a while."""

    kind: Literal["absence"]
    window_s: float = Field(gt=0)
    by: tuple[()] = ()


class BurnWindow(_Strict):
    """The budget burns `factor` times too fast over both windows; the short one ends the alert soon after the fault."""

    long_s: float = Field(gt=0)
    short_s: float = Field(gt=0)
    factor: float = Field(gt=0)


class BudgetRule(RuleBase):
    """An error budget that burns too fast (Google's SRE workbook, chapter 5): bad events by all events.

    Of a counter, those that match `bad` are bad; of a histogram, those slower than `within_s`, which must be
    one of its buckets.
    """

    kind: Literal["budget"]
    objective: float = Field(gt=0, lt=1)
    bad: Match = {}
    within_s: float | None = None
    windows: tuple[BurnWindow, ...] = Field(min_length=1)
    min_events: float = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _one_badness(self) -> Self:
        if bool(self.bad) == (self.within_s is not None):
            raise ValueError("needs exactly one of `bad` and `within_s`")
        return self


Rule = Annotated[ThresholdRule | RateRule | AbsenceRule | BudgetRule, Field(discriminator="kind")]
_RULES = TypeAdapter[list[Rule]](list[Rule])


def read_rules(data: Any, where: str = "rules") -> list[Rule]:
    """Rules from decoded YAML: a list, or a mapping with `rules`.

    Raises:
        InvalidRule: something in it cannot be; the text names the rule, the field and what is wrong.
    """
    listed = data.get("rules", []) if isinstance(data, dict) else data
    try:
        rules = _RULES.validate_python(listed)
    except ValidationError as error:
        raise InvalidRule("\n".join(_complaints(error, listed, where))) from error
    seen: set[str] = set()
    for rule in rules:
        if rule.name in seen:
            raise InvalidRule(f"{where}: the name {rule.name} stands twice; names tell alerts apart.")
        seen.add(rule.name)
    return rules


def merge(shipped: Iterable[Rule], own: Iterable[Rule], without: Iterable[str] = ()) -> list[Rule]:
    """Shipped rules with those of the same name replaced, those in `without` left out, and new ones added."""
    rules = {rule.name: rule for rule in shipped} | {rule.name: rule for rule in own}
    left_out = set(without)
    if unknown := left_out - rules.keys():
        raise InvalidRule(f"`without` names {sorted(unknown)[0]}, which is no rule.")
    return [rule for name, rule in rules.items() if name not in left_out]


def _complaints(error: ValidationError, listed: Any, where: str) -> Iterable[str]:
    for fault in error.errors():
        place = [part for part in fault["loc"] if part not in ("threshold", "rate", "absence", "budget")]
        index = place[0] if place and isinstance(place[0], int) else None
        named = index is not None and isinstance(listed, list) and isinstance(listed[index], dict)
        name = listed[index].get("name", f"number {index + 1}") if named and index is not None else "the file"
        field = ".".join(str(part) for part in place[1:])
        given = f" ({fault['input']!r})" if field and not isinstance(fault["input"], dict) else ""
        yield f"{where}: {name}{': ' if field else ''}{field}{given}: {fault['msg']}"
