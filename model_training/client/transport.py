"""HTTP with the key, with retries where they are safe, and problems turned into exceptions."""

from __future__ import annotations

import json as json_library
import random
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
from httpx_sse import EventSource
from pydantic import BaseModel

from model_training.client.errors import ApiError, ConnectionFailed
from model_training.contracts.problems import Problem

Model = TypeVar("Model", bound=BaseModel)
Params = Mapping[str, str | int | list[str] | None]

RETRIED_STATUS = frozenset({429, 502, 503, 504})
DOWNLOAD_SILENCE_S = 120.0
"""The gateway may first have to make an archive."""
LONGEST_PAUSE_S = 60.0
"""A gateway that asks for more patience than this is not waited for: its answer is the error."""


class Transport:
    """Requests to one gateway.

    A request is sent again when the connection fails or the answer is 429, 502, 503 or 504, after as long as `Retry-After`
    asks for. Sending twice does no harm: creates carry an `Idempotency-Key`, and everything else asks for a state.
    """

    def __init__(self, base_url: str, api_key: str, *, timeout_s: float, attempts: int) -> None:
        self.base_url = base_url.rstrip("/").removesuffix(
            "/v1"
        )  # OpenAI clients want it there, and people copy it
        self._attempts = attempts
        self._http = httpx.Client(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=httpx.Timeout(timeout_s, connect=5.0),
            trust_env=False,  # the gateway is an address that we were given; a proxy between is never meant
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, reply: type[Model], path: str, params: Params | None = None) -> Model:
        """Read one thing."""
        return reply.model_validate_json(self.request("GET", path, params=params).content)

    def create(self, reply: type[Model], path: str, body: BaseModel, params: Params | None = None) -> Model:
        """Create one thing, once, however often the request has to be sent."""
        headers = {"Idempotency-Key": str(uuid4())}
        json = body.model_dump(mode="json", exclude_none=True)
        answer = self.request("POST", path, params=params, json=json, headers=headers)
        return reply.model_validate_json(answer.content)

    def act(self, reply: type[Model], path: str) -> Model:
        """Ask for a change of state; asking twice is the same as asking once."""
        return reply.model_validate_json(self.request("POST", path).content)

    def change(
        self, reply: type[Model], path: str, body: BaseModel, version: int, *, method: str = "POST"
    ) -> Model:
        """Change what has this version and no later one."""
        json = body.model_dump(mode="json", exclude_unset=True)
        headers = {"If-Match": f'"{version}"'}
        return reply.model_validate_json(self.request(method, path, json=json, headers=headers).content)

    def delete(self, reply: type[Model], path: str) -> Model:
        """Remove one thing."""
        return reply.model_validate_json(self.request("DELETE", path).content)

    def upload(
        self, reply: type[Model], path: str, files: list[tuple[str, Path]], data: dict[str, str]
    ) -> Model:
        """Send files as a form.

        Args:
            files: pairs of the form's field and the file's path.
        """
        headers = {"Idempotency-Key": str(uuid4())}
        response = self.request("POST", path, files=files, data=data, headers=headers, timeout_s=600.0)
        return reply.model_validate_json(response.content)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        json: Any = None,
        data: dict[str, str] | None = None,
        files: list[tuple[str, Path]] | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> httpx.Response:
        """Send a request and return the answer, read whole.

        Raises:
            ApiError: the gateway refused it.
            ConnectionFailed: nobody answers.
        """
        given = {name: value for name, value in (params or {}).items() if value is not None}
        for attempt in range(1, self._attempts + 1):
            last = attempt == self._attempts
            with _opened(files or []) as form:
                try:
                    response = self._http.request(
                        method,
                        path,
                        params=given,
                        json=json,
                        data=data,
                        files=form or None,
                        headers=headers,
                        timeout=timeout_s if timeout_s is not None else httpx.USE_CLIENT_DEFAULT,
                    )
                except httpx.TransportError as error:
                    if last or not _may_resend(error):
                        raise self._unreachable(error) from error
                    time.sleep(_pause_s(attempt, None))
                    continue
            if response.is_success:
                return response
            pause_s = _pause_s(attempt, response)
            if last or response.status_code not in RETRIED_STATUS or pause_s > LONGEST_PAUSE_S:
                raise ApiError.from_response(response)
            time.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    def save(self, path: str, target: Path) -> None:
        """Write what a GET answers to a file as it comes, however much it is.

        Raises:
            ApiError: the gateway refused it.
            ConnectionFailed: the connection broke; the file holds a part then.
        """
        try:
            with self.stream(path, {}, DOWNLOAD_SILENCE_S) as response, target.open("wb") as out:
                for block in response.iter_bytes():
                    out.write(block)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str], timeout_s: float) -> Generator[httpx.Response]:
        """A GET whose answer is read as it comes.

        Raises:
            ApiError: the gateway refused it.
            httpx.TransportError: the connection failed or fell silent; the caller knows how to go on.
        """
        with self._http.stream("GET", path, headers=dict(headers), timeout=timeout_s) as response:
            if not response.is_success:
                response.read()
                raise ApiError.from_response(response)
            yield response

    def pieces(self, path: str, body: dict[str, Any], timeout_s: float) -> Iterator[str]:
        """The text of a streamed chat answer, as it comes.

        Raises:
            ApiError: the gateway refused it, or the answer broke off with a reason.
            ConnectionFailed: the connection broke.
        """
        for chunk in self.chunks(path, body, timeout_s):
            yield "".join(choice.get("delta", {}).get("content") or "" for choice in chunk["choices"])

    def chunks(self, path: str, body: dict[str, Any], timeout_s: float) -> Iterator[dict[str, Any]]:
        """The pieces of a streamed chat answer as they come, each with its `choices`.

        Raises:
            ApiError: the gateway refused it, or the answer broke off with a reason.
            ConnectionFailed: the connection broke, or ended before the answer did.
        """
        try:
            with self._http.stream("POST", path, json=body, timeout=timeout_s) as response:
                if not response.is_success:
                    response.read()
                    raise ApiError.from_response(response)
                for message in EventSource(response).iter_sse():
                    if message.data == "[DONE]":
                        return
                    yield _chunk(message.data)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        raise ConnectionFailed(
            f"The answer of {self.base_url} ended in its middle.",
            hint="Ask again; `mt status` shows what runs.",
        )

    def _unreachable(self, error: httpx.TransportError) -> ConnectionFailed:
        if isinstance(error, httpx.TimeoutException):
            return ConnectionFailed(
                f"The gateway at {self.base_url} did not answer in time.", hint="See how it is: mt status"
            )
        return ConnectionFailed(
            f"Nobody answers at {self.base_url} ({error}).", hint="Start the platform with `mt up`."
        )


@contextmanager
def _opened(files: list[tuple[str, Path]]) -> Generator[list[tuple[str, tuple[str, Any]]]]:
    form: list[tuple[str, tuple[str, Any]]] = []
    try:
        for field, path in files:
            form.append((field, (path.name, path.open("rb"))))
        yield form
    finally:
        for _, (_, file) in form:
            file.close()


def _chunk(data: str) -> dict[str, Any]:
    chunk: dict[str, Any] = json_library.loads(data)
    if "choices" not in chunk:
        detail = str((chunk.get("error") or {}).get("message") or chunk.get("detail") or data)
        raise ApiError(Problem(title="The answer broke off", status=502, detail=detail, code="stream_failed"))
    return chunk


def _may_resend(error: httpx.TransportError) -> bool:
    # Every request is a read, carries an idempotency key, or asks for a state: all may be sent twice. A slow answer is
    # no reason to ask for the same work again.
    return not isinstance(error, httpx.TimeoutException) or isinstance(error, httpx.ConnectTimeout)


def _pause_s(attempt: int, response: httpx.Response | None) -> float:
    """Seconds until the next try: what the answer asks for, else twice as long each time, spread by chance."""
    asked = response.headers.get("Retry-After", "").strip() if response is not None else ""
    if asked.isdecimal():
        return float(asked)
    try:
        return max(0.0, (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return min(LONGEST_PAUSE_S, 0.2 * 2**attempt) * random.uniform(0.5, 1.0)
