"""Arms that are given the right passages, items that come in blocks, and stopping at a look, with its error rate."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from libs.common.errors import InvalidInput
from model_training.contracts.comparisons import ArmSpec, ComparisonCreate, Prices
from model_training.contracts.evaluations import ItemResult, SuiteSpec
from services.comparator.adapters.machine import describe_machine
from services.comparator.adapters.report_pages import render_html, render_markdown
from services.comparator.domain.analysis import analyse, verdict_so_far
from services.comparator.domain.arms import Arm
from services.comparator.domain.looks import Looks, orders
from services.comparator.service.gathering import Gatherer
from services.comparator.service.running import Outcome, Plan, compare
from tests.unit.comparator.fake_platform import FakeContext, FakePlatform
from tests.unit.comparator.made_up import MODELS, answer, arm, arms_with_rates

BASE, RAG = (ArmSpec(name=name, model=MODELS[name]) for name in ("base", "rag"))
ORACLE = ArmSpec(name="oracle", model=MODELS["rag"], passages="right")
N = 240


def answers(right: int, n: int = N, *, seed: int = 1, **changes: object) -> list[ItemResult]:
    """So many right ones, strewn over all items."""
    chosen = set(random.Random(seed).sample(range(n), right))
    return [answer(i, i in chosen, **changes) for i in range(n)]


def platform(base: int, rag: int, oracle: int = 0) -> FakePlatform:
    found = [{"id": "p", "text": "a passage"}]
    return FakePlatform(
        answers={
            MODELS["base"]: answers(base),
            MODELS["rag"]: answers(rag, seed=2, sources=found),
            f"right:{MODELS['rag']}": answers(oracle, seed=3, sources=found),
        }
    )


def run(fake: FakePlatform, **changes: object) -> tuple[Outcome, FakeContext]:
    fields = {"arms": [BASE, RAG], "suites": [SuiteSpec(name="code_generation")], **changes}
    asked, context = ComparisonCreate.model_validate(fields), FakeContext()
    gatherer = Gatherer(context, fake, asked, poll_s=0.001)
    return compare(Plan(asked, {}), gatherer, fake, machine=describe_machine), context


def test_a_bound_stands_beside_the_arms_and_is_never_chosen() -> None:
    found, _ = run(platform(10, 60, oracle=200), arms=[BASE, RAG, ORACLE])
    report = found.report
    assert report.verdict.recommended == "rag"
    assert [arm.name for arm in report.arms] == ["base", "rag"]
    assert len(report.pairs) == 1
    (bound,) = report.bounds
    assert (bound.arm.correct, bound.of) == (200, "rag")
    assert bound.pair is not None
    assert bound.pair.difference == pytest.approx(140 / N)
    assert bound.not_used == 40
    assert bound.not_found == sum(
        item.answers["oracle"].correct and not item.answers["rag"].correct for item in found.items
    )
    assert "40 of 240 items are wrong even with the right passage at hand" in bound.words
    assert all("oracle" not in use.utility_usd for use in report.profiles)


def test_items_without_a_passage_are_counted() -> None:
    fake = platform(10, 60)
    fake.answers[f"right:{MODELS['rag']}"] = answers(5, sources=[])
    found, _ = run(fake, arms=[RAG, ORACLE])
    assert "(240 of the items have none in the index)" in found.report.bounds[0].words


def test_what_search_found_is_read_off_the_passages() -> None:
    def passages(i: int) -> list[dict[str, object]]:
        other, right = {"functions": ["library.other"]}, {"functions": [f"library.function_{i}"]}
        return [other, right] if i < 60 else [right] if i < 120 else [other]

    fake = platform(10, 60)
    fake.answers[MODELS["rag"]] = [answer(i, i < 90, sources=passages(i)) for i in range(N)]
    found, _ = run(fake)
    (one,) = found.report.retrieval
    assert (one.arm, one.n, one.found, one.recall) == ("rag", N, 120, 0.5)
    assert one.mrr == pytest.approx(0.375)
    assert one.mrr_low < 0.375 < one.mrr_high
    assert (one.right_when_found, one.right_when_not_found) == (0.75, 0.0)
    assert one.passages == 1.25
    html, markdown = render_html(found.report, found.items), render_markdown(found.report, found.items)
    assert "What search found" in html
    assert "| rag | 240 | 50.0% |" in markdown


def test_with_a_bound_search_answers_for_what_could_be_found_alone() -> None:
    fake = platform(10, 60)
    right = [answer(i, True, sources=[{"id": "p"}] if i < 100 else []) for i in range(N)]
    fake.answers[f"right:{MODELS['rag']}"] = right
    fake.answers[MODELS["rag"]] = [
        answer(i, True, sources=[{"functions": [f"library.function_{i}"]}] if i < 80 else [])
        for i in range(N)
    ]
    found, _ = run(fake, arms=[BASE, RAG, ORACLE])
    (one,) = found.report.retrieval
    assert (one.n, one.found, one.recall) == (100, 80, 0.8)


def test_bounds_alone_are_refused() -> None:
    alone = arm("oracle", answers(3), is_bound=True)
    request = ComparisonCreate(arms=[ORACLE], test_queries=["?"])
    with pytest.raises(InvalidInput, match="none can be recommended"):
        analyse(request, [alone])


def test_the_report_shows_bounds_and_looks_on_its_pages() -> None:
    found, _ = run(platform(10, 60, oracle=200), arms=[BASE, RAG, ORACLE], blocks=4, stop_early=True, seed=5)
    html, markdown = render_html(found.report, found.items), render_markdown(found.report, found.items)
    for text in (html, markdown):
        assert "even with the right passage at hand" in text
    assert 'id="bounds"' in html
    assert "stopped: settled" in html
    assert "## Looks at the growing data" in markdown


def test_blocks_hold_every_arm_once_in_an_order_of_their_own() -> None:
    fake = platform(10, 60)
    found, context = run(fake, blocks=5)
    assert len(fake.created) == 10
    asked = [(one.part.number, one.model) for one in fake.created.values() if one.part]
    assert [number for number, _ in asked] == [n for n in range(1, 6) for _ in range(2)]
    for first, second in zip(asked[::2], asked[1::2], strict=True):
        assert {first[1], second[1]} == {MODELS["base"], MODELS["rag"]}
    assert len({models for models in zip(asked[::2], asked[1::2], strict=True)}) > 1
    report = found.report
    assert report.arms[0].n == N
    assert report.looks == []
    assert report.rules["order"] == Gatherer(context, fake, ComparisonCreate(
        arms=[BASE, RAG], test_queries=["?"], blocks=5)).order  # fmt: skip
    assert len(report.arms[0].evaluations) == 5
    assert report.arms[0].machine_s == pytest.approx(60.0)
    steps = [step for step, _, _ in context.steps]
    assert all(a <= b for a, b in pairwise(steps))


def test_orders_are_random_and_the_same_for_the_same_seed() -> None:
    assert orders(4, 20, 1) == orders(4, 20, 1)
    assert orders(4, 20, 1) != orders(4, 20, 2)
    assert {tuple(sorted(order)) for order in orders(4, 20, 1)} == {(0, 1, 2, 3)}
    assert len({tuple(order) for order in orders(4, 20, 1)}) > 5


def test_a_clear_case_stops_early_and_a_close_one_goes_on_to_the_end() -> None:
    fake = platform(10, 200)
    found, context = run(fake, blocks=4, stop_early=True)
    report = found.report
    assert report.verdict.recommended == "rag"
    assert report.looks[-1].stopped == "decided"
    assert len(report.looks) < 4
    assert report.arms[0].n == report.looks[-1].items < N
    assert len(fake.created) == 2 * len(report.looks)
    assert "the verdict was settled" in report.verdict.notes[0]
    assert any("Block 1 of 4 is in, 60 items" in event for event in context.events)

    close, _ = run(platform(60, 66), blocks=4, stop_early=True)
    assert [look.stopped for look in close.report.looks] == [None, None, None, "end"]
    assert close.report.arms[0].n == N
    levels = [look.level for look in close.report.looks]
    assert levels == sorted(levels)
    assert levels[0] < 1e-4 < 0.03 < levels[-1] < 0.05


def test_no_block_begins_once_the_budget_is_spent() -> None:
    prices = Prices(machine_hour_usd=3600)  # a dollar a second; each evaluation takes 12 s
    found, _ = run(platform(60, 66), blocks=4, budget_usd=30.0, prices=prices)
    assert [round(look.cost_usd) for look in found.report.looks] == [24, 48]
    assert [look.stopped for look in found.report.looks] == [None, "budget"]


@pytest.mark.parametrize(
    "repetitions",
    [40, pytest.param(1000, marks=pytest.mark.slow)],
    ids=["40 repetitions", "1000 repetitions"],
)
def test_looking_five_times_claims_a_difference_of_equal_arms_in_one_case_of_twenty_at_most(
    repetitions: int,
) -> None:
    """Standard error of 1,000 repetitions at 5%: 0.7 points."""
    request = ComparisonCreate(
        arms=[BASE, RAG, ArmSpec(name="tuned", model="model_01")], test_queries=["?"], blocks=5
    )
    wrong = 0
    for seed in range(repetitions):
        arms = arms_with_rates(dict.fromkeys(("base", "rag", "tuned"), 0.4), 150, seed=seed)
        ids = list(arms[0].items)
        wrong += any(
            verdict_so_far(request, _first(arms, ids, block), _seen(ids, block)).recommended
            not in {None, "base"}
            for block in range(1, 6)
        )
    assert wrong / repetitions <= 0.05 + 2 * (0.05 * 0.95 / repetitions) ** 0.5


def _first(arms: list[Arm], ids: list[str], block: int) -> list[Arm]:
    return [arm(a.name, [a.items[i] for i in ids[: 30 * block]]) for a in arms]


def _seen(ids: list[str], block: int) -> Looks:
    return Looks(tuple(frozenset(ids[: 30 * number]) for number in range(1, block + 1)), 5)
