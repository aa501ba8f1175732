"""Asks the canary questions of the inference service."""

from __future__ import annotations

import httpx

from services.monitor.domain.canaries import ALTERNATIVES, QUESTIONS, TOKENS, Answer, parse

TIMEOUT_S = 300.0


class CanaryAsker:
    """Asks a model over HTTP, at temperature 0, one question after the other."""

    def __init__(self, url: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False)

    def ask(self, model: str) -> list[Answer] | None:
        """Every answer with its log-probabilities; None when the model cannot be asked now."""
        try:
            return [self._one(model, question) for question in QUESTIONS]
        except (httpx.HTTPError, ValueError, KeyError, IndexError):
            return None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _one(self, model: str, question: str) -> Answer:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": TOKENS,
            "logprobs": True,
            "top_logprobs": ALTERNATIVES,
        }
        answer = self._http.post("/v1/chat/completions", json=body)
        answer.raise_for_status()
        return parse(answer.json()["choices"][0]["logprobs"]["content"])
