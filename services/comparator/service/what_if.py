"""Looks at the answers of a finished comparison with other prices: the report's own formulas, on the stored answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from model_training.contracts.comparison_views import WhatIf, WhatIfReply
from model_training.contracts.comparisons import ArmResult, ComparisonReport, Prices
from model_training.contracts.evaluations import ItemResult
from services.comparator.domain.arms import RAG_PREFIX, Arm, PairedItems
from services.comparator.domain.break_even import break_evens
from services.comparator.domain.costs import hourly_usd
from services.comparator.domain.economics import Setup, answer_costs
from services.comparator.domain.profiles import PER, judge

KEPT = 2
"""Comparisons in memory; one of 10,000 items and four arms takes about 60 MB."""
UNUSED: Mapping[str, Any] = {"prompt": "", "output": "", "extracted": None, "sources": [], "reason": ""}
"""Fields of an answer that prices do not look at, and that are most of its size."""


@dataclass(frozen=True)
class Stored:
    """A finished comparison as it was analysed."""

    report: ComparisonReport
    items: PairedItems
    setup: Setup


def what_if(directory: Path, request: WhatIf) -> WhatIfReply:
    """Break-even and uses of the comparison in a report's directory at other prices."""
    stored = _read(str(directory))
    report, items, setup, prices = stored.report, stored.items, stored.setup, request.prices
    seed = int(report.rules.get("seed", 0))
    profiles = [found.profile for found in report.profiles] if request.profiles is None else request.profiles
    graded = bool(items.ids)
    return WhatIfReply(
        prices=prices,
        cost_usd={
            arm.name: PER * float(np.mean(answer_costs(arm, items, prices))) if graded else 0.0
            for arm in items.arms
        },
        fixed_cost_usd={arm.name: setup.cost_of(arm, prices) for arm in items.arms},
        break_even=break_evens(items, setup, prices, seed),
        profiles=[
            judge(use, items, report.arms, setup, prices, seed=seed, kept_up=report.upkeep)
            for use in profiles
        ]
        if graded
        else [],
    )


@lru_cache(maxsize=KEPT)
def _read(directory: str) -> Stored:
    folder = Path(directory)
    report = ComparisonReport.model_validate_json((folder / "report.json").read_text(encoding="utf-8"))
    answers: dict[str, dict[str, ItemResult]] = {arm.name: {} for arm in report.arms}
    with (folder / "items.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            item: dict[str, Any] = json.loads(line)
            for arm, answer in item["answers"].items():
                if arm in answers and answer["status"] != "not_graded":
                    answers[arm][item["item_id"]] = ItemResult.model_validate(answer | UNUSED)
    own = {name: Prices.model_validate(prices) for name, prices in report.rules.get("own_prices", {}).items()}
    arms = [
        Arm(arm.name, arm.model, answers[arm.name], arm.evaluation, arm.machine_s, prices=own.get(arm.name))
        for arm in report.arms
    ]
    items = PairedItems(arms, list(arms[0].items) if arms else [], 0)
    return Stored(report, items, _setup(report))


def _setup(report: ComparisonReport) -> Setup:
    """What training and indexing took: stated for training, and by what an arm cost before its first answer for an index."""
    training_s: float | None = report.training.get("seconds")
    price = hourly_usd(Prices.model_validate(report.rules.get("prices") or {}))
    indexing_s: dict[str, float] = {}
    for arm in report.arms:
        if arm.model.startswith(RAG_PREFIX) and price > 0:
            name = arm.model.removeprefix(RAG_PREFIX).partition("@")[0]
            indexing_s[name] = max(0.0, _seconds(arm, price) - _trained_s(arm, training_s))
    return Setup(training_s, indexing_s)


def _seconds(arm: ArmResult, machine_hour_usd: float) -> float:
    return arm.fixed_cost_usd / machine_hour_usd * 3600


def _trained_s(arm: ArmResult, training_s: float | None) -> float:
    return (training_s or 0.0) if Arm(arm.name, arm.model).is_tuned else 0.0
