"""A model as judge between two evaluations' answers, each pair asked in both orders.

Judges prefer a position, so an opinion counts only where both orders agree; else it is a tie. The report says how often the
judge flipped, and how often its opinion is that of the tests where these separate the two answers. Never decisive.

    python -m services.evaluator.judge A/items.jsonl B/items.jsonl --url …/v1/chat/completions --model NAME [--limit 100]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import httpx

from libs.common.statistics.intervals import wilson_interval

Opinion = Literal["a", "b", "tie"]
Ask = Callable[[str], str]
AT_A_TIME = 4
_PROMPT = """Two answers to one question follow. Say which is better: correct first, then clear. Answer with one letter: \
A, B, or T for equally good.

Question:
{question}

Reference answer:
{reference}

Answer A:
{first}

Answer B:
{second}

The better answer (A, B or T):"""
_FIRST_LETTER = re.compile(r"\b(A|B|T)\b")


@dataclass(frozen=True)
class Judgement:
    """One item: what was said with a first, with b first, and what that makes."""

    item_id: str
    forward: Opinion
    backward: Opinion
    by_tests: Opinion

    @property
    def opinion(self) -> Opinion:
        """The common opinion, or a tie."""
        return self.forward if self.forward == self.backward else "tie"

    @property
    def is_flip(self) -> bool:
        """Whether the order alone changed who is better."""
        return {self.forward, self.backward} == {"a", "b"}


@dataclass(frozen=True)
class JudgeReport:
    """Counts over all items; `agreement` is with the tests, where both they and the judge prefer one."""

    items: int
    a_better: int
    b_better: int
    ties: int
    flip_rate: float
    agreement: float | None
    agreement_low: float | None
    agreement_high: float | None
    agreement_items: int


def judge_item(ask: Ask, a: dict[str, Any], b: dict[str, Any]) -> Judgement:
    """Ask about one item in both orders. `a` and `b` are `ItemResult`s of the same item."""
    shown = {"question": a["question"], "reference": a["reference"]}
    forward = read_opinion(ask(_PROMPT.format(**shown, first=a["output"], second=b["output"])))
    swapped = read_opinion(ask(_PROMPT.format(**shown, first=b["output"], second=a["output"])))
    back: dict[Opinion, Opinion] = {"a": "b", "b": "a", "tie": "tie"}
    by_tests: Opinion = "tie" if a["correct"] == b["correct"] else "a" if a["correct"] else "b"
    return Judgement(a["item_id"], forward, back[swapped], by_tests)


def read_opinion(text: str) -> Opinion:
    """The first letter that stands alone; a tie where there is none."""
    found = _FIRST_LETTER.search(text.strip()[:200])
    letters: dict[str, Opinion] = {"A": "a", "B": "b"}
    return letters.get(found.group(1), "tie") if found else "tie"


def summarise(judgements: Sequence[Judgement]) -> JudgeReport:
    """Sum up. Raises ValueError for no items."""
    if not judgements:
        raise ValueError("the two evaluations share no item")
    opinions = [one.opinion for one in judgements]
    decided = [one for one in judgements if one.opinion != "tie" and one.by_tests != "tie"]
    same = sum(one.opinion == one.by_tests for one in decided)
    interval = wilson_interval(same, len(decided)) if decided else None
    return JudgeReport(
        items=len(judgements),
        a_better=opinions.count("a"),
        b_better=opinions.count("b"),
        ties=opinions.count("tie"),
        flip_rate=sum(one.is_flip for one in judgements) / len(judgements),
        agreement=same / len(decided) if decided else None,
        agreement_low=interval.low if interval else None,
        agreement_high=interval.high if interval else None,
        agreement_items=len(decided),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Read two files of items, judge what they share, print the report and every judgement as JSON."""
    parser = argparse.ArgumentParser(
        prog="mt eval judge", description="Let a model judge between two evaluations."
    )
    parser.add_argument("a", type=Path, help="items.jsonl of one evaluation")
    parser.add_argument("b", type=Path, help="items.jsonl of the other")
    parser.add_argument(
        "--url", required=True, help="…/v1/chat/completions of any OpenAI-compatible endpoint"
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument(
        "--key-variable", default="MT_API_KEY", help="environment variable that holds the key"
    )
    given = parser.parse_args(arguments)
    a, b = _rows(given.a), _rows(given.b)
    shared = [name for name in a if name in b][: given.limit]
    headers = {"Authorization": f"Bearer {os.environ.get(given.key_variable, '')}"}
    with httpx.Client(headers=headers, timeout=600) as http, ThreadPoolExecutor(AT_A_TIME) as pool:
        ask = _asker(http, given.url, given.model)
        tasks = [pool.submit(judge_item, ask, a[name], b[name]) for name in shared]
        judgements = [task.result() for task in tasks]
    report = {
        "judge": given.model,
        **asdict(summarise(judgements)),
        "judgements": [asdict(one) for one in judgements],
    }
    sys.stdout.write(json.dumps(report, indent=2) + "\n")


def _asker(http: httpx.Client, url: str, model: str) -> Ask:
    def ask(prompt: str) -> str:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": 8,
        }
        reply = http.post(url, json=body).raise_for_status().json()
        return str(reply["choices"][0]["message"]["content"] or "")

    return ask


def _rows(path: Path) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return {row["item_id"]: row for row in rows}


if __name__ == "__main__":
    main()
