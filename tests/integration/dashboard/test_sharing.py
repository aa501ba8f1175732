"""What browsers share: one poll for each question, one stream for each job, and both outlive a gateway that restarts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from model_training.client import Client, ConnectionFailed
from model_training.contracts.base import Page
from model_training.contracts.models import ModelObject
from services.dashboard.feeds import Feeds, Snapshot
from services.dashboard.gateway import Gateway
from services.dashboard.jobwatch import JobWatches
from tests.conftest import free_ports
from tests.integration.dashboard.conftest import Site
from tests.integration.gateway.conftest import KEY

PATIENCE_S = 120.0


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, PATIENCE_S))


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.02)


def test_fifty_browsers_cost_one_poll(site: Site) -> None:
    asked: list[int] = []

    def ask(client: Client) -> Page[ModelObject]:
        asked.append(1)
        return client.models.list()

    async def look() -> None:
        gateway, feeds = Gateway(site.gateway.url), Feeds()
        connection = gateway.connect(KEY)
        seen: list[list[str]] = [[] for _ in range(50)]

        def listener(number: int) -> Callable[[Snapshot[Page[ModelObject]]], None]:
            return lambda found: seen[number].extend(model.id for model in found.value.data if found.value)

        ends = [feeds.get(connection, "models", ask, 3600.0).subscribe(listener(i)) for i in range(50)]
        await until(lambda: all(seen))
        assert len(asked) == 1
        assert {tuple(ids) for ids in seen} == {tuple(seen[0])}
        feeds.refresh(connection, "mod*")
        await until(lambda: len(asked) == 2)
        for end in ends:
            end()
        feeds.close()
        gateway.close()

    run(look())


class Models(BaseHTTPRequestHandler):
    """A gateway that knows no model."""

    def do_GET(self) -> None:
        body = Page[ModelObject](data=[]).model_dump_json().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quietly."""


@contextmanager
def little_gateway(port: int) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", port), Models)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_feed_outlives_a_gateway_that_restarts() -> None:
    port = free_ports(1)

    async def look() -> None:
        feeds, snapshots, away = Feeds(), list[Snapshot[Page[ModelObject]]](), list[bool]()
        gateway = Gateway(f"http://127.0.0.1:{port}")
        connection = gateway.connect(KEY)
        connection.on_away(away.append)
        with little_gateway(port):
            feed = feeds.get(connection, "models", lambda client: client.models.list(), 0.1)
            feed.subscribe(snapshots.append)
            await until(lambda: snapshots and snapshots[-1].known)
        await until(lambda: isinstance(snapshots[-1].error, ConnectionFailed))
        assert snapshots[-1].value is not None, "what was known stays in sight"
        assert away == [True]
        with little_gateway(port):
            await until(lambda: snapshots[-1].error is None)
            assert away == [True, False]
        feeds.close()
        gateway.close()

    run(look())


def test_one_stream_a_job_brings_events_and_curves(site: Site) -> None:
    async def look() -> None:
        gateway, watches = Gateway(site.gateway.url), JobWatches()
        connection = gateway.connect(KEY)
        watch = watches.get(connection, "ftjob_one")
        assert watches.get(connection, "ftjob_one") is watch
        told: list[int] = [0, 0]

        def tell(number: int) -> Callable[[object], None]:
            def one(_: object) -> None:
                told[number] += 1

            return one

        for number in (0, 1):
            watch.subscribe(tell(number))
        await until(lambda: watch.is_over and len(watch.curves.by_name.get("loss", ())) == 400)
        await until(lambda: len(watch.events) == 4)
        assert [event.sequence for event in watch.events] == [1, 2, 3, 4]
        assert watch.curves.by_name["eval_loss"].steps[-1] == 400
        await until(lambda: told[0] == told[1] > 0)
        gateway.close()

    run(look())


def test_a_refused_question_is_an_error_and_not_an_end(site: Site) -> None:
    async def look() -> None:
        gateway, feeds = Gateway(site.gateway.url), Feeds()
        connection = gateway.connect(KEY)
        seen: list[Snapshot[Any]] = []
        feeds.get(connection, "none", lambda client: client.models.get("model_none"), 3600.0).subscribe(
            seen.append
        )
        await until(lambda: seen)
        assert not seen[0].known
        assert "There is no model" in str(seen[0].error)
        assert not connection.away
        feeds.close()
        gateway.close()

    run(look())
