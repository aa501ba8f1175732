"""Where `mt` writes: results to standard output, complaints and progress to standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from model_training.errors import UserError

INTERRUPTED = 130

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def complain(error: UserError) -> None:
    """One clear sentence, and the way out below it."""
    prefix = (
        "" if error.exit_code == INTERRUPTED else "Error: "
    )  # whoever pressed Ctrl-C knows that it is none
    err.print(Text.assemble((prefix, "bold red"), error.message), soft_wrap=True)
    if error.hint:
        err.print(Text(f"Hint: {error.hint}", style="cyan"), soft_wrap=True)


def as_user_error(error: Exception) -> UserError | None:
    """The same complaint for a person, if it is one that a person can mend."""
    match error:
        case UserError():
            return error
        case ValidationError():
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            return UserError(f"{field} = {first['input']!r}: {first['msg']}.")
        case OSError() if error.strerror:
            name = f" ({error.filename})" if error.filename else ""
            return UserError(
                f"{error.strerror}{name}.", hint="Check the path, the rights and the space left."
            )
        case _:
            return None


def run_script(main: Callable[[], object]) -> int:
    """Run a program's main function as `mt` runs its commands: sentences instead of tracebacks; the exit code."""
    try:
        main()
    except KeyboardInterrupt:
        err.print("Interrupted.")
        return INTERRUPTED
    except Exception as error:
        complaint = as_user_error(error)
        if complaint is None:
            raise
        complain(complaint)
        return complaint.exit_code
    return 0


def print_json(value: BaseModel | Sequence[BaseModel] | dict[str, Any]) -> None:
    """A wire model, or a list of them, as JSON for programs."""
    if isinstance(value, BaseModel):
        out.print_json(value.model_dump_json())
    elif isinstance(value, dict):
        out.print_json(data=value)
    else:
        out.print_json(data=[item.model_dump(mode="json") for item in value])


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """A table, or a sentence where there is nothing to show."""
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
        # The first column is what one copies: others give way to it on a narrow terminal.
        table.columns[0].min_width = max(table.columns[0].min_width or 0, len(str(row[0])))
    out.print(table if table.row_count else empty)


def when(moment: datetime | int | float | None) -> str:
    """A moment in the machine's own time zone; a dash where there is none."""
    if moment is None:
        return "-"
    local = (
        datetime.fromtimestamp(moment).astimezone()
        if isinstance(moment, int | float)
        else moment.astimezone()
    )
    return local.strftime("%Y-%m-%d %H:%M:%S")


def when_short(moment: datetime | float) -> str:
    """A moment in the machine's own time zone without year and seconds, for tables that are wide already."""
    local = moment if isinstance(moment, datetime) else datetime.fromtimestamp(moment, UTC)
    return local.astimezone().strftime("%m-%d %H:%M")


def duration(seconds: float | None) -> str:
    """Seconds as h:mm:ss; a dash where there are none."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(count: float) -> str:
    """Bytes with a unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def dollars(amount: float) -> str:
    """An amount in US dollars, with two digits that count where it is small."""
    return f"${amount:,.2f}" if amount >= 0.1 else f"${amount:.2g}"
