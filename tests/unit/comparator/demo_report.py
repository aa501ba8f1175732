"""A made-up comparison of full size, with hostile answers in it, for the report's tests and for looking at the page.

`python -m tests.unit.comparator.demo_report DIR [scenario [items]]` writes its report into a directory.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from model_training.contracts.comparisons import ArmSpec, ComparisonCreate
from model_training.contracts.evaluations import ItemResult
from model_training.contracts.judges import JudgeReport, Opinion, Quality
from services.comparator.adapters.machine import describe_machine
from services.comparator.adapters.profile_files import shipped_profiles
from services.comparator.adapters.report_pages import render_html, render_markdown
from services.comparator.domain.analysis import analyse, fair_items
from services.comparator.domain.arms import Arm, PairedItems
from services.comparator.domain.economics import Setup
from services.comparator.domain.judging import QUALITIES, Judged, Pairing, pairings, summarise
from services.comparator.domain.upkeep import IndexVersion, upkeep
from services.comparator.service.reporting import compose
from services.comparator.service.running import Outcome, Pages, write_report
from tests.unit.comparator.made_up import MODELS, answer, arm

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOSTILE = '</pre><script>alert(1)</script><img src=x onerror="alert(2)">\u202egnp.exe & | `rm -rf`'

SCENARIOS = {
    "winner": {"base": (0.03, 0.10), "rag": (0.10, 0.34), "tuned": (0.13, 0.30), "tuned+rag": (0.30, 0.58)},
    "open": {"base": (0.02, 0.20), "rag": (0.06, 0.30), "tuned": (0.08, 0.26), "tuned+rag": (0.12, 0.30)},
    "floor": {"base": (0.0, 0.0), "rag": (0.01, 0.0), "tuned": (0.0, 0.01), "tuned+rag": (0.01, 0.02)},
}
FUNCTIONS = [
    "chunked",
    "windowed",
    "flatten",
    "partition",
    "unique_everseen",
    "groupby",
    "merge_with",
    "iterate",
    "remap",
]


def code_answer(number: int, correct: bool, name: str, draw: random.Random) -> ItemResult:
    function = f"{FUNCTIONS[number % len(FUNCTIONS)]}_{number // 14}"
    right = f"list({function}([1, 2, 3, 4, 5], 2))"
    wrong = [
        f"{function}([1, 2, 3, 4, 5])",
        "[[1, 2], [3, 4], [5]]",
        f"list({function}(data, n=2, strict=True))",
    ]
    status = "passed" if correct else draw.choice(["wrong", "wrong", "error", "not_called"])
    return answer(
        number,
        correct,
        group=f"more_itertools.{function}",
        question=f"You have `[1, 2, 3, 4, 5]` and want `[[1, 2], [3, 4], [5]]` (case {number}). Write one expression.",
        output=right if correct else HOSTILE if number == 3 else draw.choice(wrong),
        reference=right,
        status=status,
        reason="the value is as expected"
        if correct
        else "raises TypeError: missing 1 required argument: 'n'",
        prompt=f"Question: You have `[1, 2, 3, 4, 5]` and want … (case {number}).\nAnswer:",
        sources=_sources(function) if "rag" in name else [],
        latency_s=draw.gammavariate(4, 0.2) * (2 if "rag" in name else 1),
        prompt_tokens=380 if "rag" in name else 120,
    )


def text_answer(number: int, correct: bool, name: str, draw: random.Random) -> ItemResult:
    function = FUNCTIONS[number % len(FUNCTIONS)]
    score = draw.uniform(0.6, 1.0) if correct else draw.uniform(0.0, 0.5)
    return answer(
        number,
        correct,
        suite="qa_accuracy",
        group=f"more_itertools.{function}_{number // 14}",
        score=score,
        question=f"What does `more_itertools.{function}` do (wording {number})?",
        output="Breaks an iterable into lists of length n."
        if correct
        else "It is a function of the library.",
        reference="Break an iterable into lists of length *n*.",
        status="passed" if correct else "wrong",
        reason=f"token F1 {score:.2f} against the reference",
        sources=_sources(function) if "rag" in name else [],
        scores={"f1": score, "exact_match": 0.0, "bleu": 0.6 * score, "rouge_l": score, "chrf": 0.8 * score},
        latency_s=draw.gammavariate(4, 0.25) * (2 if "rag" in name else 1),
        completion_tokens=24,
    )


def _sources(function: str) -> list[dict[str, Any]]:
    path = {
        "package": "more_itertools",
        "version": "10.8.0",
        "path": "more_itertools/more.py",
        "line_start": 139,
    }
    return [
        {"number": 1, "rank": 1, "id": f"{function}-doc", "title": f"more_itertools.{function}", "source": path,
         "text": "Break *iterable* into lists of length *n*. " + HOSTILE, "score": 0.7},
        {"number": 2, "rank": 3, "id": "readme-4", "title": "README: Grouping", "source": {"path": "README.rst"},
         "text": "These tools yield groups of items from a source iterable.", "score": 0.4},
    ]  # fmt: skip


def demo_arms(scenario: str, *, items: int = 110) -> list[Arm]:
    """Four arms over two suites of `items` items each."""
    arms: list[Arm] = []
    ease = random.Random(1)
    hardness = [ease.random() for _ in range(items)]
    for position, (name, (code, text)) in enumerate(SCENARIOS[scenario].items()):
        draw = random.Random(position)
        answers = [code_answer(i, draw.random() < 2 * code * hardness[i], name, draw) for i in range(items)]
        answers += [text_answer(i, draw.random() < 2 * text * hardness[i], name, draw) for i in range(items)]
        arms.append(
            arm(
                name,
                answers,
                machine_s=75.0 + (60 if "rag" in name else 0),
                prompt_description="4 solved examples as earlier turns. Temperature 0.\n\n--- code_generation:\nuser: …",
                isolation="user, pid, network and mount namespaces",
            )
        )
    return arms


def demo_report(
    scenario: str = "winner", *, items: int = 110, renamed: Mapping[str, str] | None = None
) -> Outcome:
    """A whole report with its items; `renamed` gives arms other names."""
    names = renamed or {}
    arms = [replace(one, name=names.get(one.name, one.name)) for one in demo_arms(scenario, items=items)]
    request = ComparisonCreate(
        arms=[ArmSpec(name=name, model=model) for name, model in MODELS.items()], dataset=_dataset()
    )
    setup = Setup(446.0, {"library": 30.0})
    kept_up = [upkeep("library", _versions(), NOW, arms, setup, request.prices)]
    analysis = analyse(
        request, arms, items_available=46, setup=setup, profiles=shipped_profiles(), kept_up=kept_up
    )
    judge = _judge(fair_items(arms))
    training = _training()
    machine = describe_machine([a.isolation or "" for a in arms])
    report = compose(
        "cmp_01demo",
        request,
        analysis,
        arms,
        training=training,
        environment=machine,
        upkeep=kept_up,
        judge=judge,
    )
    return Outcome(report, analysis.items, analysis.proposals)


def demo_queries() -> Outcome:
    """A comparison of free questions only."""
    queries = ["How to implement LoRA?", "Explain Gemma architecture"]
    arms = [Arm(name, model) for name, model in MODELS.items()]
    text = (
        "LoRA adds two small matrices to a frozen weight: W + BA.\n\n1. Freeze the base.\n2. Train A and B.\n"
    )
    free = {
        name: [
            answer(i, False, suite="test_queries", question=q, output=text * (1 + i), reference="",
                   status="not_graded", sources=_sources("lora") if "rag" in name else [])
            for i, q in enumerate(queries)
        ]
        for name in MODELS
    }  # fmt: skip
    request = ComparisonCreate(
        arms=[ArmSpec(name=name, model=model) for name, model in MODELS.items()], test_queries=queries
    )
    analysis = analyse(request, arms, free=free)
    report = compose("cmp_01free", request, analysis, arms, training={}, environment=describe_machine([]))
    return Outcome(report, analysis.items, analysis.proposals)


def _versions() -> list[IndexVersion]:
    """A library that changed four times in ninety days."""
    days = (90, 71, 50, 33, 12)
    return [
        IndexVersion(NOW - timedelta(days=day), 30.0 if day == 90 else 4.0, 40, 0 if day == 90 else 772, 0)
        for day in days
    ]


def _judge(items: PairedItems) -> JudgeReport:
    """A judge that knows what is right, and now and then prefers what it is shown first."""
    draw = random.Random(4)

    def votes(one: Pairing, forward: bool) -> dict[Quality, Opinion]:
        better: Opinion = (
            "tie" if one.first.correct == one.second.correct else "a" if one.first.correct else "b"
        )
        turned: dict[Opinion, Opinion] = {"a": "b", "b": "a", "tie": "tie"}
        seen = better if forward else turned[better]
        return {quality: "a" if draw.random() < 0.1 else seen for quality in QUALITIES}

    judged = [Judged(one, votes(one, True), votes(one, False)) for one in pairings(items, 50, 0)]
    return summarise("external:big", judged, items, of=50, tokens=(261_000, 5_400))


def _training() -> dict[str, Any]:
    draw = random.Random(3)
    losses: list[dict[str, Any]] = [
        {"step": s, "loss": 0.7 + 1.9 * math.exp(-s / 40) + draw.gauss(0, 0.06), "learning_rate": 2e-4}
        for s in range(1, 200)
    ]
    for s in range(20, 200, 20):
        losses[s - 1]["eval_loss"] = 0.95 + 1.4 * math.exp(-s / 45)
    return {
        "job": "ftjob_01demo", "state": "succeeded", "base": "gemma-3-270m", "model": "model_01demo", "seconds": 446.2,
        "cost_usd": 0.0124, "trained_tokens": 148_230, "best_step": 180, "early_stopped": False,
        "metrics": {"eval_loss": 0.961, "tokens_per_second": 332.0}, "effective": [], "losses": losses,
    }  # fmt: skip


def _dataset() -> dict[str, Any]:
    """In the shape that `mt dataset from-package` writes."""
    packages = [
        {
            "name": name, "distribution": name, "version": version, "functions": 120, "functions_asked": 40,
            "yields": {
                "doctest": {"seen": 520, "candidates": 300, "confirmed": 280, "functions": 90, "dropped": {"no value": 12}},
                "test": {"seen": 200, "candidates": 80, "confirmed": 61, "functions": 40, "dropped": {}},
            },
            "tasks": {"write_call": 40, "which_call": 12}, "rows": {"write_call": 210, "what_does": 120}, "chunks": 270,
            "unreadable": {}, "not_asked": {"too long": 3},
        }
        for name, version in [("more_itertools", "10.8.0"), ("toolz", "1.1.0"), ("boltons", "25.0.0")]
    ]  # fmt: skip
    return {
        "packages": packages, "seed": 0, "python": "3.11.7", "tasks": 156, "questions": 110, "rows": 1097,
        "validation_rows": 60, "chunks": 812,
        "notes": ["Every function that is asked about is covered by training rows."],
        "held_out": [{"where": f"more_itertools.f{i}", "text": ">>> chunked([1, 2], 1)"} for i in range(83)], "leaks": [],
    }  # fmt: skip


if __name__ == "__main__":
    which = sys.argv[2] if len(sys.argv) > 2 else "winner"
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 220
    made = demo_queries() if which == "queries" else demo_report(which, items=count // 2)
    write_report(Path(sys.argv[1]), made, Pages(render_html, render_markdown))
