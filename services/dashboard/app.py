"""The dashboard's frame for pages: who is asking, what they look at, and what happens when the gateway is away.

A page is a function that gets a `View`; `services.dashboard.pages` says how to write one.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast
from urllib.parse import quote

from nicegui import app as nicegui_app
from nicegui import background_tasks, ui
from nicegui.element import Element
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from model_training.client import Client
from model_training.errors import UserError
from services.dashboard.answered import Answered
from services.dashboard.answering import Runs
from services.dashboard.datafiles import Shelf
from services.dashboard.feeds import Feed, Feeds, Snapshot
from services.dashboard.gateway import Connection, Gateway
from services.dashboard.jobwatch import JobWatch, JobWatches
from services.dashboard.layout import frame
from services.dashboard.learning import Builds
from services.dashboard.parts import states
from services.dashboard.sessions import Sessions

T = TypeVar("T")
P = ParamSpec("P")

LOGIN = "login"
SETTLE_S = 0.8
"""How long the first answer of a page waits for its parts; later ones come over the socket."""


class View:
    """One page in one browser. Everything it subscribes to ends with it."""

    def __init__(self, dashboard: Dashboard, connection: Connection, request: Request) -> None:
        self.dashboard = dashboard
        self.connection = connection
        self.request = request
        self.client = ui.context.client
        self._first: list[asyncio.Event] = []

    async def call(self, ask: Callable[[Client], T]) -> T:
        """One request to the gateway. Not while the page is built (it may take long): in handlers of events.

        Raises:
            UserError: refused, or nobody answers; `attempt` shows it.
        """
        return await self.connection.call(ask)

    async def attempt(
        self, ask: Callable[[Client], T], *, done: str = "", refresh: tuple[str, ...] = ()
    ) -> T | None:
        """A request whose failure is shown as a notice; None then.

        Args:
            done: what to say when it has succeeded.
            refresh: names of feeds that have changed by it.
        """
        try:
            answer = await self.connection.call(ask)
        except UserError as error:
            self.notify_error(error)
            return None
        self.dashboard.feeds.refresh(self.connection, *refresh)
        if done:
            with self.client:
                ui.notify(done, type="positive")
        return answer

    def notify_error(self, error: UserError) -> None:
        """Show an error that is no part of the page."""
        with self.client:
            text = str(error)
            ui.notify(text, type="negative", multi_line=True, timeout=12_000, close_button="Close")

    def feed(self, name: str, ask: Callable[[Client], T], *, every_s: float = 5.0) -> Feed[T]:
        """The shared answer to a question that is asked again and again. One name always means one question."""
        return self.dashboard.feeds.get(self.connection, name, ask, every_s)

    def listen(self, feed: Feed[T], listener: Callable[[Snapshot[T]], None]) -> None:
        """Have a feed's changes told to this page as long as it is open."""
        self._first.append(feed.first)
        self._until_gone(feed.subscribe(self.inside(listener)))

    def live(
        self,
        name: str,
        ask: Callable[[Client], T],
        render: Callable[[T], None],
        *,
        every_s: float = 5.0,
        loading: str = "Loading",
    ) -> Feed[T]:
        """A part of the page that is drawn anew whenever its answer changes.

        Says so while it loads and when it cannot be had. No inputs in it: they would lose what was typed; use `listen`.
        """
        box = ui.element("div").classes("live").props('aria-live="off"')
        with box:
            states.loading(loading)

        feed = self.feed(name, ask, every_s=every_s)
        drawn: list[T | None] = []

        def changed(snapshot: Snapshot[T]) -> None:
            if snapshot.known and drawn and drawn[0] == snapshot.value:
                return  # only an error came or went: the banner says so
            if not snapshot.known and snapshot.error is None:
                return
            drawn.clear()
            box.clear()
            with box:
                if snapshot.known:
                    drawn.append(snapshot.value)
                    render(cast("T", snapshot.value))
                elif snapshot.error is not None:
                    states.error(snapshot.error)

        self.listen(feed, changed)
        return feed

    def watch(self, job_id: str, listener: Callable[[JobWatch], None]) -> JobWatch:
        """Follow a job: `listener` is called with what is known of it, once a second at most."""
        watch = self.dashboard.watches.get(self.connection, job_id)
        self._first.append(watch.first)
        self._until_gone(watch.subscribe(self.inside(listener)))
        return watch

    def refresh(self, *names: str) -> None:
        """Ask feeds again; a name that ends in `*` means all that begin so."""
        self.dashboard.feeds.refresh(self.connection, *names)

    def later(self, work: Awaitable[None]) -> None:
        """Do something after the page has been sent; errors are shown as notices."""

        async def run() -> None:
            with self.client:
                try:
                    await work
                except UserError as error:
                    self.notify_error(error)

        background_tasks.create(run(), name="later")

    async def settle(self) -> None:
        """Wait a moment for the first answers, so that the page comes whole when the gateway is quick."""
        waits = [event.wait() for event in self._first if not event.is_set()]
        if waits:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.gather(*waits), SETTLE_S)

    def on_gone(self, end: Callable[[], None]) -> None:
        """Have something ended with the page."""
        self._until_gone(end)

    def _until_gone(self, end: Callable[[], None]) -> None:
        self.client.on_delete(lambda: end())

    def inside(self, listener: Callable[P, None]) -> Callable[P, None]:
        """The listener, called where the page is now: what it makes comes into the element that was open."""
        slot: Element = ui.context.slot.parent

        def told(*args: P.args, **kwargs: P.kwargs) -> None:
            if not self.client.is_deleted and not slot.is_deleted:
                with slot:
                    listener(*args, **kwargs)

        return told


class Dashboard:
    """What all pages share.

    Args:
        folder: what outlives the process is kept there, if it can be written to.
    """

    def __init__(self, gateway: Gateway, sessions: Sessions, folder: Path) -> None:
        self.gateway = gateway
        self.runs = Runs(Answered(folder / "answers"))
        self.sessions = sessions
        self.feeds = Feeds()
        self.watches = JobWatches()
        self.shelf = Shelf()
        self.builds = Builds()
        self.paths: set[str] = set()

    def page(self, path: str, *, title: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Make `build(view, **parameters)` the page at a path; its parameters come from path and query.

        Browsers without a login are sent to give a key. A `UserError` of the function is shown in the page.
        """
        self.paths.add(path)

        def register(build: Callable[..., Any]) -> Callable[..., Any]:
            async def shown(request: Request, **arguments: Any) -> Response | None:
                connection = self.sessions.connection(sealed_login())
                if connection is None:
                    there = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                    return RedirectResponse(f"/login?next={quote(there)}")
                await self._build(View(self, connection, request), title, partial(build, **arguments))
                return None

            signature = inspect.signature(build, eval_str=True)
            asked = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Request)
            parameters = [asked, *list(signature.parameters.values())[1:]]
            shown.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
            shown.__name__ = build.__name__
            ui.page(path, title=f"{title} · Model training", response_timeout=15.0)(shown)
            return build

        return register

    async def _build(self, view: View, title: str, build: Callable[[View], Any]) -> None:
        with frame(view.connection, title, self.paths, needs_login=self.sessions.needs_login) as end:
            view.on_gone(end)
            try:
                made = build(view)
                if inspect.isawaitable(made):
                    await made
            except UserError as error:
                states.error(error)
        await view.settle()

    def close(self) -> None:
        """Stop asking the gateway, and remove what was kept for a while."""
        self.feeds.close()
        self.builds.close()
        self.shelf.close()
        self.gateway.close()


def browser_id() -> str:
    """The session of the browser that is asking, from its signed cookie."""
    return str(nicegui_app.storage.browser["id"])


def sealed_login() -> str | None:
    """The login that the browser brings along, from the same cookie."""
    return nicegui_app.storage.browser.get(LOGIN)


def keep_login(sealed: str | None) -> None:
    """Have the browser keep its login, or forget it with None. Only while a page is being built."""
    browser = nicegui_app.storage.browser
    if sealed is None:
        browser.pop(LOGIN, None)
    else:
        browser[LOGIN] = sealed
