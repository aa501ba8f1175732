"""A stand-in for a model server with a known stall, which keeps the truth about its own answers.

    python -m benchmarks.load_server PORT [--stall-at 2 --stall 1.5] [--first 0.02 --gap 0.005 --tokens 8]

Streams chat chunks. Once, `--stall-at` seconds after the first request, everything stands still for `--stall` seconds.
`GET /truth` gives, by request number (the field `user`), when the last piece was written by the monotonic clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any


class Server:
    """One event loop, so that a blocking sleep stalls every request, as a collection or a full cache would."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._written: dict[str, float] = {}
        self._has_stalled = False

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the requests of one connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    (
                        int(x.split(b":")[1])
                        for x in head.split(b"\r\n")
                        if x.lower().startswith(b"content-length")
                    ),
                    0,
                )
                body = await reader.readexactly(length)
                if head.startswith(b"GET"):
                    await self._send(writer, "application/json", [json.dumps(self._written)])
                else:
                    await self._answer(writer, json.loads(body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _stall(self) -> None:
        time.sleep(self._options.stall)

    async def _answer(self, writer: asyncio.StreamWriter, request: dict[str, Any]) -> None:
        if not self._has_stalled:
            self._has_stalled = True
            asyncio.get_running_loop().call_later(self._options.stall_at, self._stall)
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        await asyncio.sleep(self._options.first)
        for number in range(self._options.tokens):
            if number:
                await asyncio.sleep(self._options.gap)
            self._piece(writer, {"choices": [{"delta": {"content": f"t{number} "}}]})
        self._written[str(request.get("user"))] = time.monotonic()
        self._piece(writer, {"choices": [], "usage": {"completion_tokens": self._options.tokens}})
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    def _piece(self, writer: asyncio.StreamWriter, chunk: dict[str, Any]) -> None:
        data = f"data: {json.dumps(chunk)}\n\n".encode()
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def _send(self, writer: asyncio.StreamWriter, kind: str, parts: list[str]) -> None:
        data = "".join(parts).encode()
        writer.write(
            f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data
        )
        await writer.drain()


async def _serve(options: argparse.Namespace) -> None:
    server = await asyncio.start_server(Server(options).handle, "127.0.0.1", options.port)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Read the arguments and serve until killed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("port", type=int)
    parser.add_argument("--stall-at", type=float, default=2.0)
    parser.add_argument("--stall", type=float, default=1.5)
    parser.add_argument("--first", type=float, default=0.02)
    parser.add_argument("--gap", type=float, default=0.005)
    parser.add_argument("--tokens", type=int, default=8)
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
