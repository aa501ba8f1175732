"""Getting the arms' answers: evaluations created once, waited for, refused with a reason, cancelled with the comparison."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from libs.common.errors import JobFailure, JobStopped
from model_training.contracts.chat import ChatMessage, ChatReply
from model_training.contracts.comparisons import ArmSpec, ComparisonCreate
from model_training.contracts.evaluations import SuiteSpec
from model_training.contracts.jobs import JobError
from model_training.datasets.rows import TrainingRow
from services.comparator.domain.shots import choose_shots, wants_shots
from services.comparator.service.gathering import Gatherer
from services.comparator.service.running import Plan, compare
from tests.unit.comparator.fake_platform import FakeContext, FakePlatform
from tests.unit.comparator.made_up import MODELS, answer

ARMS = [ArmSpec(name=name, model=MODELS[name]) for name in ("base", "rag")]


def request(**changes: object) -> ComparisonCreate:
    fields: dict[str, object] = {"arms": ARMS, "suites": [SuiteSpec(name="code_generation")]}
    return ComparisonCreate.model_validate(fields | changes)


def platform(**changes: object) -> FakePlatform:
    answers = {
        MODELS["base"]: [answer(i, i < 3) for i in range(60)],
        MODELS["rag"]: [answer(i, i < 30) for i in range(60)],
    }
    return FakePlatform(answers=answers, **changes)  # type: ignore[arg-type]


def gatherer(fake: FakePlatform, asked: ComparisonCreate, context: FakeContext | None = None) -> Gatherer:
    return Gatherer(context or FakeContext(), fake, asked, poll_s=0.001)


def test_every_arm_is_evaluated_on_the_same_suites() -> None:
    fake, context = platform(), FakeContext()
    arms, looks = gatherer(fake, request(), context).arms()
    assert looks.ids == ()
    assert [arm.name for arm in arms] == ["base", "rag"]
    assert {created.suites[0].name for created in fake.created.values()} == {"code_generation"}
    assert arms[1].machine_s == 12.0
    assert len(arms[0].items) == 60
    assert context.steps[0][2] == "base: look 1"
    assert [step for step, _, _ in context.steps] == sorted(step for step, _, _ in context.steps)


def test_a_second_attempt_finds_the_evaluations_of_the_first() -> None:
    fake = platform()
    gatherer(fake, request()).arms()
    gatherer(fake, request()).arms()
    assert list(fake.created) == ["cmp_1:0", "cmp_1:1"]


def test_a_finished_evaluation_is_used_again() -> None:
    fake = platform()
    gatherer(fake, request()).arms()
    known = [arm.model_copy(update={"evaluation": f"eval_{i}"}) for i, arm in enumerate(ARMS)]
    gatherer(fake, request(arms=known, suites=[]), FakeContext(job_id="cmp_2")).arms()
    assert list(fake.created) == ["cmp_1:0", "cmp_1:1"]


def test_an_evaluation_of_another_model_is_refused() -> None:
    fake = platform()
    gatherer(fake, request()).arms()
    mixed = [ARMS[0].model_copy(update={"evaluation": "eval_1"}), ARMS[1]]
    with pytest.raises(JobFailure, match="evaluation eval_1 is of rag:library@gemma-3-270m"):
        gatherer(fake, request(arms=mixed), FakeContext(job_id="cmp_2")).arms()


NO_ITEMS = JobError(code="no_items", message="the file holds no items", blame="user", hint="Name the suite.")


def test_where_all_evaluations_fail_the_comparison_ends_with_the_first_reason() -> None:
    fails = {MODELS["base"]: NO_ITEMS, MODELS["rag"]: NO_ITEMS}
    with pytest.raises(JobFailure, match=r"arm 'base' .* failed: the file holds no items") as caught:
        gatherer(platform(fails=fails), request()).arms()
    assert caught.value.error.blame == "user"
    assert caught.value.error.hint == "Name the suite."


@pytest.mark.parametrize("blocks", [1, 3])
def test_an_arm_that_fails_is_missing_and_the_others_are_compared(blocks: int) -> None:
    tuned = ArmSpec(name="tuned", model=MODELS["tuned"])
    fake = platform(fails={MODELS["tuned"]: NO_ITEMS})
    asked = request(arms=[*ARMS, tuned], blocks=blocks, stop_early=blocks > 1)
    found = compare(Plan(asked, {}), gatherer(fake, asked), fake, machine=lambda isolation: {})
    report = found.report
    assert [arm.name for arm in report.arms] == ["base", "rag"]
    assert (report.verdict.recommended, report.verdict.confidence) == ("rag", "moderate")
    assert report.missing[0].arm == "tuned"
    assert report.verdict.notes[0].startswith(
        "tuned is missing from the items: The evaluation of arm 'tuned'"
    )
    assert report.verdict.notes[0].endswith("failed: the file holds no items. Name the suite.")
    assert sum(created.model == MODELS["tuned"] for created in fake.created.values()) == 1


def test_an_arm_that_does_not_answer_free_questions_is_missing_from_them_alone() -> None:
    class Deaf(FakePlatform):
        def chat(self, model: str, messages: Sequence[ChatMessage], max_tokens: int) -> ChatReply:
            if model == MODELS["rag"]:
                raise JobFailure("platform_unreachable", "nobody is there")
            return super().chat(model, messages, max_tokens)

    fake = Deaf(answers=platform().answers)
    asked = request(test_queries=["How?"])
    report = compare(Plan(asked, {}), gatherer(fake, asked), fake, machine=lambda isolation: {}).report
    assert [arm.name for arm in report.arms] == ["base", "rag"]
    assert report.verdict.confidence == "high"
    assert report.verdict.notes[0] == "rag is missing from the free questions: nobody is there."
    alone = request(suites=[], test_queries=["How?"])
    found = compare(Plan(alone, {}), gatherer(fake, alone), fake, machine=lambda isolation: {})
    assert [arm.name for arm in found.report.arms] == ["base"]
    assert list(found.items[0].answers) == ["base"]


@pytest.mark.parametrize(("stop", "cancelled"), [("cancel", ["eval_0", "eval_1"]), ("pause", [])])
def test_a_stop_ends_the_wait(stop: str, cancelled: list[str]) -> None:
    fake = platform(looks=10**6)
    with pytest.raises(JobStopped):
        gatherer(fake, request(), FakeContext(stop=stop, stop_after=3)).arms()
    assert fake.cancelled == cancelled


def test_free_questions_are_answered_and_not_graded() -> None:
    fake = FakePlatform()
    asked = request(suites=[], test_queries=["How to implement LoRA?", "Explain Gemma architecture"])
    one = gatherer(fake, asked)
    one.shots = {"base": [ChatMessage(role="user", content="q"), ChatMessage(role="assistant", content="a")]}
    found = compare(Plan(asked, {}), one, fake, machine=lambda isolation: {"isolation": "none"})
    report, items = found.report, found.items
    assert report.verdict.confidence == "cannot_tell"
    assert report.verdict.recommended is None
    assert "no question with a known answer" in report.verdict.reason
    assert [item.question for item in items] == asked.test_queries
    assert items[0].answers["rag"].sources == [{"title": "a page"}]
    assert items[0].answers["rag"].status == "not_graded"
    assert report.arms[0].prompt_tokens == 14
    assert report.prompts["base"]["description"] == "Solved examples as earlier turns (1). Temperature 0."
    assert report.prompts["rag"]["description"].startswith("The question alone; passages from the index")
    assert report.arms[0].latency_p50_s > 0
    assert [len(messages) for model, messages in fake.asked if model == MODELS["base"]] == [3, 3]
    assert [len(messages) for model, messages in fake.asked if model == MODELS["rag"]] == [1, 1]


def test_some_evaluations_without_suites_are_refused() -> None:
    mixed = [ARMS[0].model_copy(update={"evaluation": "eval_0"}), ARMS[1]]
    asked = request(arms=mixed, suites=[], test_queries=["Why?"])
    with pytest.raises(JobFailure, match="no suites to evaluate arm 'rag' on"):
        compare(Plan(asked, {}), gatherer(platform(), asked), platform(), machine=lambda isolation: {})


def test_a_whole_comparison_names_what_is_available() -> None:
    fake, asked = platform(), request(training_job="ftjob_1")
    plan = Plan(asked, {"code_generation": 75})
    found = compare(plan, gatherer(fake, asked), fake, machine=lambda isolation: {"isolation": isolation[0]})
    report, items = found.report, found.items
    assert report.verdict.recommended == "rag"
    assert report.verdict.items_available == 15
    assert report.environment["isolation"] == "namespaces"
    assert report.prompts["rag"]["description"] == f"how {MODELS['rag']} was asked"
    assert report.training["losses"][0] == {"step": 1, "loss": 2.0}
    assert len(items) == 60


@pytest.mark.parametrize(
    ("rows", "used", "expected"),
    [({"a": 100, "b": 64}, 110, 54), ({"a": 100, "b": None}, 10, None), ({}, 5, None)],
)
def test_available_items(rows: dict[str, int | None], used: int, expected: int | None) -> None:
    assert Plan(request(), rows).available(used) == expected


def test_shots_are_of_typical_length_and_about_different_functions() -> None:
    rows = [
        TrainingRow(
            question=f"What does f{i // 2} do?", answer="It breaks lists. " * (i + 1), function=f"f{i // 2}"
        )
        for i in range(24)
    ]
    turns = choose_shots(rows, 3)
    assert [turn.role for turn in turns] == ["user", "assistant"] * 3
    assert len({turn.content for turn in turns[::2]}) == 3
    assert all(120 < len(turn.content) < 200 for turn in turns[1::2])
    assert choose_shots(rows[::-1], 3) == turns
    assert turns[0] not in choose_shots(rows, 3, asked=[turns[0].content])
    assert wants_shots("auto", never_instructed=True) == 3
    assert wants_shots("auto", never_instructed=False) == 0
    assert wants_shots(2, never_instructed=False) == 2
