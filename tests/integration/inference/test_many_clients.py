"""Sixty-four clients at once, some of which leave in the middle: no answer is lost or mixed up, and memory stays flat."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from libs.common.db.engine import Database
from libs.common.testing.tiny_gemma import write_tiny_adapter
from tests.conftest import Stores
from tests.integration.inference.serving import BASE, Served, serving, wait_until, write_fingerprint

CLIENTS = 64
NEAR_TIE = 0.02
"""Nats between the two best tokens below which company may tip the balance."""
TOPICS = ["lists", "sets", "tuples", "strings", "files", "classes", "loops", "dicts"]
PROMPTS = [f"Question {number}: what are {topic} for?\nAnswer:" for number, topic in enumerate(TOPICS * 2)]


@dataclass(frozen=True)
class Alone:
    """An answer given without company: its tokens, and by how much each was better than the next best."""

    tokens: list[str]
    margins: list[float]

    def explains(self, tokens: list[str]) -> bool:
        """Whether tokens are these, or part from them where two were as good as each other."""
        for own, other, margin in zip(self.tokens, tokens, self.margins, strict=False):
            if own != other:
                return margin < NEAR_TIE
        return len(tokens) <= len(self.tokens)


@dataclass
class Tally:
    whole: int = 0
    left: int = 0
    identical: int = 0
    wrong: list[tuple[str, str, list[str]]] = field(default_factory=list)


@pytest.fixture(scope="module")
def served(stores: Stores, database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(stores, database, tmp_path_factory.mktemp("models"), inference_recheck_s=2) as served:
        yield served


@pytest.fixture(scope="module")
def tuned(served: Served, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("adapter") / "a"
    return served.publish(
        "model_many", write_fingerprint(write_tiny_adapter(folder, served.base, strength=0.2), served.base)
    )


class Crowd:
    """Clients that ask at random and compare."""

    def __init__(self, served: Served, models: list[str], http: httpx.AsyncClient) -> None:
        self._served = served
        self._http = http
        self._models = models
        self._alone: dict[tuple[str, str], Alone] = {}
        self.tally = Tally()

    async def listen(self) -> None:
        """Hear every answer alone."""
        for model in self._models:
            for prompt in PROMPTS:
                tokens: list[str] = []
                margins: list[float] = []
                async for choice in self._ask(model, prompt, 24):
                    tokens += choice["logprobs"]["tokens"]
                    for top in choice["logprobs"]["top_logprobs"]:
                        best, second = sorted(top.values(), reverse=True)[:2]
                        margins.append(best - second)
                self._alone[model, prompt] = Alone(tokens, margins)

    async def client(self, dice: random.Random, rounds: int | None, seconds: float) -> None:
        """Ask `rounds` times, or for so many seconds; leave one in four."""
        until = asyncio.get_running_loop().time() + seconds
        asked = 0
        while asked < rounds if rounds else asyncio.get_running_loop().time() < until:
            asked += 1
            model, prompt, length = dice.choice(self._models), dice.choice(PROMPTS), dice.randint(4, 24)
            leave_after = dice.randint(1, 6) if dice.random() < 0.25 else None
            await self._once(model, prompt, length, leave_after)

    async def _once(self, model: str, prompt: str, length: int, leave_after: int | None) -> None:
        tokens: list[str] = []
        ended = None
        async with aclosing(self._ask(model, prompt, length)) as choices:
            async for choice in choices:
                tokens += choice["logprobs"]["tokens"]
                ended = choice["finish_reason"]
                if leave_after is not None and len(tokens) >= leave_after:
                    break
        alone = self._alone[model, prompt]
        if not alone.explains(tokens) or (leave_after is None and ended is None):
            self.tally.wrong.append((model, prompt, tokens))
        self.tally.identical += tokens == alone.tokens[: len(tokens)]
        if ended is None:
            self.tally.left += 1
        else:
            self.tally.whole += 1

    async def _ask(self, model: str, prompt: str, length: int) -> Any:
        body = {"model": model, "prompt": prompt, "max_tokens": length, "stream": True, "logprobs": 2}
        async with self._http.stream("POST", "/v1/completions", json=body) as reply:
            assert reply.status_code == 200, await reply.aread()
            async for line in reply.aiter_lines():
                if line.startswith("data: {"):
                    event = json.loads(line[6:])
                    assert "error" not in event, event
                    yield event["choices"][0]


async def crowd(
    served: Served, models: list[str], rounds: int | None, seconds: float
) -> tuple[Tally, list[int]]:
    """The tally, and resident bytes after a warm-up and at the end."""
    limits = httpx.Limits(max_connections=None)
    headers = {"Authorization": f"Bearer {served.token}"}
    memory: list[int] = []
    async with httpx.AsyncClient(base_url=served.url, headers=headers, limits=limits, timeout=600) as http:
        everyone = Crowd(served, models, http)
        await everyone.listen()
        for part in (0.2, 0.8):  # the first part warms caches and the allocator
            share = max(1, round(rounds * part)) if rounds else None
            dice = [random.Random(f"{number} {part}") for number in range(CLIENTS)]
            await asyncio.gather(*(everyone.client(d, share, seconds * part) for d in dice))
            memory.append(psutil.Process().memory_info().rss)
    return everyone.tally, memory


@pytest.mark.parametrize(
    ("rounds", "seconds"),
    [(2, 0.0), pytest.param(None, 300.0, marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
)
def test_no_answer_is_lost_or_mixed_up(
    served: Served, tuned: str, rounds: int | None, seconds: float
) -> None:
    tally, (warm, end) = asyncio.run(crowd(served, [BASE, tuned], rounds, seconds))
    print(tally.whole, "whole", tally.left, "left", tally.identical, "identical", warm >> 20, end >> 20)  # noqa: T201
    assert tally.wrong == []
    assert tally.whole >= CLIENTS / 2
    assert tally.left >= CLIENTS / 8
    if rounds is None:  # two rounds warm nothing up
        assert end < 1.1 * warm + 50 * 2**20
    wait_until(lambda: all(value == 0.0 for value in load(served)))


def load(served: Served) -> list[float]:
    lines = httpx.get(f"{served.url}/metrics").text.splitlines()
    names = ("mt_inference_running{", "mt_inference_waiting{")
    return [float(line.split()[-1]) for line in lines if line.startswith(names)]
