"""Users of the platform who do not give up: every request is sent until it is answered, with one key for idempotency."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import uuid4

import httpx

from tests.integration.chaos.site import KEY

PATIENCE_S = 40.0
ROWS = "".join(
    json.dumps({"question": f"What is {n} + {n}?", "answer": str(2 * n)}) + "\n" for n in range(20)
)


class Client:
    """Submits toy jobs as fine-tuning jobs and steers them."""

    def __init__(self, url: str) -> None:
        headers = {"Authorization": f"Bearer {KEY}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=5)
        upload = {"files": {"file": ("train.jsonl", ROWS.encode())}, "data": {"purpose": "fine-tune"}}
        self._file = self._until_answered("POST", "/v1/files", **upload)["id"]

    def submit(self, toy: dict[str, Any]) -> str:
        """Have a job created and accepted; returns its id."""
        body = {
            "model": "gemma-3-270m",
            "training_file": self._file,
            "metadata": {"toy": json.dumps(toy), "ticket": uuid4().hex},
        }
        key = {"Idempotency-Key": uuid4().hex}
        return self._until_answered("POST", "/v1/fine_tuning/jobs", json=body, headers=key)["id"]

    def steer(self, job_id: str, action: str) -> int:
        """Cancel, pause or resume; returns the status of the answer, 409 for one that came too late."""
        return self._send("POST", f"/v1/jobs/{job_id}/{action}").status_code

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _until_answered(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        answer = self._send(method, path, **request)
        assert answer.is_success, answer.text
        return answer.json()

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = self._http.request(method, path, **request)
                if answer.status_code < 500 or time.monotonic() > deadline:
                    return answer
            except httpx.HTTPError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)
