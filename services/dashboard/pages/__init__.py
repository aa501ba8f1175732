"""The pages, one module each.

How to write one:

- The module has `def register(dashboard: Dashboard) -> None` and stands in `MODULES` below. Its pages are made with
  `@dashboard.page("/things/{thing_id}", title="Thing")` on a function `build(view: View, thing_id: str, tab: str = "all")`:
  path and query parameters come by name, so every state worth a link is in the URL. The frame (header, navigation, heading)
  is there already.
- `build` draws and returns at once: it never waits for the gateway. What comes from there is drawn by
  `view.live(name, lambda client: client.jobs.list(), render)`, polled once for all browsers, drawn anew when it has changed,
  with its loading and error states; or told to `view.listen(view.feed(name, ask), changed)` where inputs must not be lost;
  or by `view.watch(job_id, changed)`, which follows a job over one event stream. One `name` always means one question,
  so ids belong into it. Subscriptions last as long as the page: none of these inside `render`.
- Handlers of events are async and ask with `await view.attempt(lambda client: ..., done="Promoted.", refresh=("models",))`,
  which shows failures, or `await view.call(ask)`, which raises `UserError`. What streams:
  `async for pieces in view.connection.stream(ask)`.
- What people or models wrote is text: `ui.label`, table cells, options. Never `ui.html`, `ui.markdown`, or inside a props
  string (`.props(f'label="{name}"')` breaks out); use arguments or `element.props["label"] = name`. Formatters of charts get
  numbers only.
- No element in a list of thousands: page it, or give the browser one `ui.table` with pagination or virtual scroll.
- Parts: `parts.states` (loading, empty, error), `parts.show` (pills, tiles, plain tables, times, bytes, numbers with units),
  `parts.charts`. Colours are the variables of `static/dashboard.css` (`--c0` to `--c5` for series, safe for colour
  blindness). No Tailwind: use its classes (`card`, `grid`, `tiles`, `soft`, `small`, `num`, `mono`, `scroll`, `notice warn`)
  or Quasar's.
- Headings with `layout.heading(text)`, buttons of an icon alone with an `aria-label`, nothing by colour alone.
"""

from __future__ import annotations

from typing import Protocol

from services.dashboard.app import Dashboard
from services.dashboard.pages import (
    comparisons,
    data,
    data_file,
    evaluations,
    home,
    job,
    learn,
    login,
    model,
    models,
    monitoring,
    playground,
    retrieval,
    settings,
    train,
    train_form,
)


class PageModule(Protocol):
    """A module of this package."""

    def register(self, dashboard: Dashboard) -> None:
        """Make its pages."""


MODULES: tuple[PageModule, ...] = (
    login,
    home,
    data,
    learn,
    data_file,
    train_form,
    train,
    job,
    models,
    model,
    settings,
    comparisons,
    playground,
    evaluations,
    retrieval,
    monitoring,
)
"""All of them; a new page is added here."""


def register(dashboard: Dashboard) -> None:
    """Make all pages."""
    for module in MODULES:
        module.register(dashboard)
