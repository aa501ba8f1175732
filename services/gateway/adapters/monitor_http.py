"""Asks the monitor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from libs.common.errors import Unavailable
from model_training.contracts.monitoring import Resources
from services.gateway.ports import Answered


class MonitorHttp:
    """The monitor over HTTP. Every method raises `Unavailable` when it does not answer."""

    def __init__(self, http: httpx.Client, url: str) -> None:
        self._http = http
        self._url = url

    def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answered:
        """Its answer, whatever it is. Parameters that are None are left out."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        try:
            answer = self._http.request(
                method, f"{self._url}{path}", params=given, json=body, headers=headers
            )
        except httpx.HTTPError as error:
            raise Unavailable("The monitor does not answer.", hint="`mt status` shows why.") from error
        return Answered(answer.status_code, answer.content, answer.headers.get("content-type"))

    def resources(self) -> Resources:
        """Everything at this moment. A monitor that cannot tell is one that does not answer."""
        answer = self.ask("GET", "/v1/monitoring/resources")
        if answer.status != httpx.codes.OK:
            raise Unavailable(
                f"The monitor answered {answer.status}.", hint="Its log shows why; `mt status` names it."
            )
        return Resources.model_validate_json(answer.content)
