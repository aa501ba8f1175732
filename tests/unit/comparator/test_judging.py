"""A judge of answers: both orders, what flips, how it is checked against the grader, and judges that fail."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from libs.common.errors import JobFailure, JobStopped
from model_training.contracts.comparisons import ArmSpec, ComparisonCreate
from model_training.contracts.evaluations import ItemResult, SuiteSpec
from model_training.contracts.judges import JudgeReport, JudgeSpec
from services.comparator.adapters.machine import describe_machine
from services.comparator.adapters.report_pages import render_html, render_markdown
from services.comparator.domain.arms import Arm, PairedItems, pair
from services.comparator.domain.judging import QUALITIES, pairings, read_votes
from services.comparator.service.gathering import Gatherer
from services.comparator.service.judging import HOPELESS, Judge
from services.comparator.service.running import Outcome, Plan, compare
from tests.unit.comparator.fake_platform import FakeContext, FakePlatform
from tests.unit.comparator.made_up import MODELS, answer, arm

N = 40
Speaks = Callable[[str], str]
A_T = "clarity: A\ncompleteness: T\nusefulness: A"


def answers(right: int, tag: str) -> list[ItemResult]:
    return [
        answer(i, i < right, output=f"{'right' if i < right else 'wrong'} {i} of {tag}") for i in range(N)
    ]


def arms() -> list[Arm]:
    return [arm("base", answers(8, "base")), arm("rag", answers(30, "rag"))]


def shown(prompt: str) -> tuple[str, str]:
    """The two answers of a prompt, in its order."""
    first, second = re.findall(r"=== Answer [AB]\n(.*)", prompt)
    return first, second


def expert(prompt: str) -> str:
    """Prefers what is right."""
    first, second = (text.startswith("right") for text in shown(prompt))
    letter = "T" if first == second else "A" if first else "B"
    return "".join(f"{quality}: {letter}\n" for quality in QUALITIES)


def judged(speaks: Speaks, *, items: PairedItems | None = None, kept: Path | None = None) -> JudgeReport:
    fake = FakePlatform(speaks=speaks)
    judge = Judge(FakeContext(), fake, JudgeSpec(model="external:big"), kept)
    return judge.judge(items or pair(arms()), 0)


def test_a_judge_that_knows_is_trusted_and_prefers_the_better_arm() -> None:
    report = judged(expert)
    assert report.trusted
    assert (report.calls, report.unreadable, report.flip_rate, report.agreement) == (2 * N, 0, 0.0, 1.0)
    useful = report.qualities[2]
    assert [one.arm for one in useful.arms] == ["base", "rag"]
    assert useful.arms[1].preferred == pytest.approx(0.5 + 22 / (2 * N))
    assert useful.arms[1].low < useful.arms[1].preferred < useful.arms[1].high
    (both,) = useful.pairs
    assert (both.a_better, both.b_better, both.ties) == (0, 22, N - 22)
    assert both.p_adjusted < 0.001
    assert sum(one.by_tests == "b" for one in report.judged) == report.agreement_n == 22
    assert "agrees with the grader in 100% of 22" in report.words


def test_a_judge_that_prefers_a_place_has_no_opinion_and_is_said_not_to() -> None:
    report = judged(lambda prompt: A_T)
    assert all(one.preferred == 0.5 for one in report.qualities[0].arms)
    assert report.qualities[0].flip_rate == 1.0
    assert report.qualities[1].flip_rate == 0.0
    assert not report.trusted
    assert "67% of its opinions changed with the order" in report.words


def test_a_judge_that_is_wrong_about_what_was_tested_is_not_trusted() -> None:
    def fool(prompt: str) -> str:
        return expert(prompt).translate(str.maketrans("AB", "BA"))

    report = judged(fool)
    assert (report.agreement, report.trusted) == (0.0, False)
    assert "no better than a coin" in report.words


@pytest.mark.parametrize(
    ("text", "votes"),
    [
        ("clarity: A\ncompleteness: B\nusefulness: T", {"clarity": "a", "completeness": "b", "usefulness": "tie"}),
        ('{"Clarity": "B", "usefulness": "Tie"}', {"clarity": "b", "usefulness": "tie"}),
        ("**Clarity**: Answer A. Hmm, no.\nclarity: B", {"clarity": "b"}),
        ("Both are fine.", {}),
        ("A clarity of its own", {}),
        ("", {}),
    ],
)  # fmt: skip
def test_replies_are_read_as_they_come(text: str, votes: dict[str, str]) -> None:
    assert read_votes(text) == votes


def test_nonsense_is_counted_and_said() -> None:
    report = judged(lambda prompt: "I cannot say.")
    assert report.unreadable == report.calls == 2 * N
    assert not report.trusted
    assert "80 of 80 replies held no opinion" in report.words


def test_equal_answers_are_ties_that_cost_nothing() -> None:
    same = pair([arm("base", answers(8, "x")), arm("rag", answers(8, "x"))])
    report = judged(failing("asked"), items=same)
    assert report.calls == 0
    assert report.qualities[0].pairs[0].ties == N


def test_answers_cannot_leave_their_place_and_long_ones_are_cut() -> None:
    long = [answer(0, True, output="x" * 10_000), answer(1, False, output="{question} {0}")]
    wanted = pairings(pair([arm("base", long), arm("rag", answers(2, "rag")[:2])]), 5, 0)
    prompts = [prompt for one in wanted for prompt in one.prompts()]
    assert all(len(prompt) < 6_000 for prompt in prompts)
    assert any("{question} {0}" in prompt for prompt in prompts)


def test_a_sample_is_the_seed_s() -> None:
    items = pair(arms())
    assert len(pairings(items, 7, 1)) == 7
    assert pairings(items, 7, 1) == pairings(items, 7, 1)
    assert pairings(items, 7, 1) != pairings(items, 7, 2)


def test_a_second_attempt_asks_only_what_is_missing(tmp_path: Path) -> None:
    kept = tmp_path / "judge.jsonl"
    asked: list[str] = []

    def speaks(prompt: str) -> str:
        asked.append(prompt)
        return expert(prompt)

    first = judged(speaks, kept=kept)
    lines = kept.read_text(encoding="utf-8").splitlines()
    kept.write_text("\n".join(lines[:50]) + '\n{"key": "cut', encoding="utf-8")
    asked.clear()
    assert judged(speaks, kept=kept) == first
    assert len(asked) == 2 * N - 50


def failing(code: str, after: int = 0) -> Speaks:
    count = iter(range(10**6))

    def speaks(prompt: str) -> str:
        if next(count) < after:
            return expert(prompt)
        raise JobFailure(code, "the endpoint says no")

    return speaks


def test_a_judge_that_is_gone_leaves_what_it_said() -> None:
    report = judged(failing("platform_unreachable", after=30))
    assert 0 < report.items < report.of == N
    assert "of 40 that were chosen" in report.words
    assert "stopped answering: the endpoint says no" in report.words


def test_a_judge_that_refuses_everything_is_left_alone() -> None:
    fake = FakePlatform(speaks=failing("context_length_exceeded"))
    report = Judge(FakeContext(), fake, JudgeSpec(model="external:big")).judge(pair(arms()), 0)
    assert HOPELESS <= len(fake.asked) < 2 * N
    assert (report.items, report.qualities, report.trusted) == (0, [], False)
    assert "it gave no opinion" in report.words


def test_a_stop_ends_the_asking() -> None:
    context = FakeContext(stop="cancel", stop_after=5)
    fake = FakePlatform(speaks=expert)
    with pytest.raises(JobStopped):
        Judge(context, fake, JudgeSpec(model="external:big")).judge(pair(arms()), 0)
    assert len(fake.asked) < 2 * N


def compared(speaks: Speaks) -> Outcome:
    fake = FakePlatform(
        answers={MODELS["base"]: answers(8, "base"), MODELS["rag"]: answers(30, "rag")},
        speaks=speaks,
    )
    asked = ComparisonCreate(
        arms=[ArmSpec(name=name, model=MODELS[name]) for name in ("base", "rag")],
        suites=[SuiteSpec(name="code_generation")],
        judge=JudgeSpec(model=MODELS["base"], items=10),
    )
    gatherer = Gatherer(FakeContext(), fake, asked, poll_s=0.001)
    return compare(Plan(asked, {}), gatherer, fake, machine=describe_machine)


def test_the_report_shows_the_judge_and_its_verdict_stays() -> None:
    found, without = compared(expert), compared(failing("not_found"))
    assert found.report.verdict == without.report.verdict
    html, markdown = render_html(found.report, found.items), render_markdown(found.report, found.items)
    judge = found.report.judge
    assert judge is not None
    assert "judges answers of its own (base)" in judge.words
    rag = f"{100 * judge.qualities[0].arms[1].preferred:.1f}%"
    for text in (html, markdown):
        assert "changed with the order" in text.lower()
        assert rag in text
    assert "Not to be relied on" in html
    assert "gave no opinion" in render_html(without.report, without.items)
