"""The gateway as pages see it: the project's own client, called on threads so that no page waits for another."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TypeVar

from model_training.client import ApiError, Client, ConnectionFailed

T = TypeVar("T")
OnAway = Callable[[bool], object]

THREADS = 16
MOST_KEYS = 1000
TIMEOUT_S = 30.0
AWAY = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})


class Connection:
    """The gateway with one key. Shared by all browsers that use the key."""

    def __init__(self, url: str, key: str, pool: ThreadPoolExecutor) -> None:
        self.id = hashlib.sha256(key.encode()).hexdigest()[:16]
        self.away = False
        self._client = Client(url, key, timeout_s=TIMEOUT_S, attempts=2)
        self._pool = pool
        self._listeners: set[OnAway] = set()

    async def call(self, ask: Callable[[Client], T]) -> T:
        """Run a request of the client on a thread.

        Raises:
            ApiError: the gateway refused it.
            ConnectionFailed: nobody answers.
        """
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._pool, ask, self._client)
        except ConnectionFailed:
            self._set_away(True)
            raise
        except ApiError as error:
            self._set_away(error.status in AWAY)
            raise
        self._set_away(False)
        return answer

    async def stream(self, ask: Callable[[Client], Iterator[T]]) -> AsyncIterator[list[T]]:
        """What a stream of the client brings, in batches of what came since the last look, on a thread of its own.

        Leaving the loop ends the stream after its next piece.

        Raises:
            ApiError: the gateway refused it, or it broke off with a reason.
            ConnectionFailed: nobody answers.
        """
        pieces: asyncio.Queue[T | Exception | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        stopped = threading.Event()
        threading.Thread(
            target=_pump, args=(ask, self._client, pieces, loop, stopped), name="stream", daemon=True
        ).start()
        try:
            while True:
                batch = [await pieces.get()]
                while not pieces.empty():
                    batch.append(pieces.get_nowait())
                if found := [p for p in batch if p is not None and not isinstance(p, Exception)]:
                    yield found
                if isinstance(batch[-1], Exception):
                    raise batch[-1]
                if batch[-1] is None:
                    return
        finally:
            stopped.set()

    @property
    def client(self) -> Client:
        """The client itself, for threads that wait by themselves."""
        return self._client

    def on_away(self, listener: OnAway) -> Callable[[], None]:
        """Be told when the gateway goes away and comes back; the answer ends that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _set_away(self, away: bool) -> None:
        if away == self.away:
            return
        self.away = away
        for listener in list(self._listeners):
            listener(away)


def _pump(
    ask: Callable[[Client], Iterator[T]],
    client: Client,
    pieces: asyncio.Queue[T | Exception | None],
    loop: asyncio.AbstractEventLoop,
    stopped: threading.Event,
) -> None:
    def put(piece: T | Exception | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

    try:
        for piece in ask(client):
            if stopped.is_set():
                return
            put(piece)
    except Exception as error:  # told to the page, which says it
        put(error)
    else:
        put(None)


class Gateway:
    """Connections to one gateway, one for each key in use."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="gateway")
        self._connections: dict[str, Connection] = {}

    def connect(self, key: str) -> Connection:
        """The connection with a key that was good once. Those that nobody has asked for for longest are closed."""
        found = self._connections.pop(key, None) or Connection(self.url, key, self._pool)
        self._connections[key] = found  # the newest stands last
        while len(self._connections) > MOST_KEYS:
            self._connections.pop(next(iter(self._connections))).close()
        return found

    async def check(self, key: str) -> None:
        """Is the key good?

        Raises:
            ApiError: it is not.
            ConnectionFailed: nobody answers.
        """
        connection = Connection(self.url, key, self._pool)
        try:
            await connection.call(lambda client: client.models.list())
        finally:
            connection.close()

    def close(self) -> None:
        """Close everything."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)
