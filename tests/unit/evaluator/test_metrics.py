"""Text metrics: parity with the reference libraries, the SQuAD definition, and laws that any such metric keeps."""

from __future__ import annotations

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from services.evaluator.metrics import code_scores, exact_match, normalise, text_scores, token_f1

PAIRS = [
    ("The cat sat on the mat.", "A cat sat on a mat"),
    ("Return chunks of length n.", "Break the iterable into lists of length n."),
    ("chunked", "batched"),
    ("yes", "yes"),
    ("", "something"),
    ("Gemma uses grouped-query attention and RoPE.", "Gemma uses RoPE; attention is grouped-query."),
]


@pytest.mark.parametrize(("answer", "reference"), PAIRS)
def test_parity_with_the_libraries(answer: str, reference: str) -> None:
    scores = text_scores(answer, [reference])
    bleu = sacrebleu.sentence_bleu(answer, [reference], use_effective_order=True)
    rouge = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"]).score(reference, answer)
    assert scores["bleu"] == pytest.approx(bleu.score / 100, abs=1e-9)
    assert scores["chrf"] == pytest.approx(sacrebleu.sentence_chrf(answer, [reference]).score / 100, abs=1e-9)
    assert scores["rouge1"] == pytest.approx(rouge["rouge1"].fmeasure, abs=1e-9)
    assert scores["rouge2"] == pytest.approx(rouge["rouge2"].fmeasure, abs=1e-9)
    assert scores["rouge_l"] == pytest.approx(rouge["rougeL"].fmeasure, abs=1e-9)
    assert scores["rouge_lsum"] == pytest.approx(rouge["rougeLsum"].fmeasure, abs=1e-9)


def test_known_values() -> None:
    # Words "cat sat on mat" on both sides once articles and punctuation are gone.
    assert exact_match("The cat sat on the mat.", ["a cat sat on a mat"]) == 1.0
    # {brown, fox} of {quick, brown, fox} and of {brown, fox, jumps}: precision 2/3, recall 2/3.
    assert token_f1("the quick brown fox", ["a brown fox jumps"]) == pytest.approx(2 / 3)
    # Repeated words count as often as they stand: 1 of 3 and 1 of 1.
    assert token_f1("go go go", ["go"]) == pytest.approx(0.5)
    # ROUGE-L: the longest common subsequence "police the gunman" has 3 of 4 words on both sides.
    scores = text_scores("police kill the gunman", ["police killed the gunman"])
    assert scores["rouge_l"] == pytest.approx(0.75)


def test_the_nearest_reference_counts() -> None:
    references = ["something else", "the answer"]
    assert exact_match("Answer!", references) == 1.0
    assert token_f1("answer", references) == 1.0
    assert text_scores("the answer", references)["rouge_l"] == 1.0


def test_operators_are_not_all_equal() -> None:
    assert normalise("+") == "+"
    assert exact_match("+", ["-"]) == 0.0


words = st.text(alphabet="abcdefg the.,!", max_size=40)


@settings(deadline=None)
@given(words, words)
def test_laws(answer: str, reference: str) -> None:
    forth, back = token_f1(answer, [reference]), token_f1(reference, [answer])
    assert forth == pytest.approx(back)
    assert 0 <= forth <= 1
    assert exact_match(answer, [answer]) == 1.0
    if exact_match(answer, [reference]) and normalise(reference):
        assert forth == 1.0


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=60), st.text(min_size=1, max_size=60))
def test_scores_lie_between_0_and_1(answer: str, reference: str) -> None:
    assert all(0 <= value <= 1 + 1e-9 for value in text_scores(answer, [reference]).values())


def test_code_is_compared_without_layout_and_comments() -> None:
    reference = 'def f(x):\n    """Add one."""\n    return x + 1\n'
    same = "def f( x ):  # adds\n\n    return (x+1)"
    assert code_scores(same, reference) == {"syntax_valid": 1.0, "code_chrf": pytest.approx(1.0)}
    assert code_scores("    return x + 1\n", "    return (x + 1)  # done\n")["code_chrf"] == pytest.approx(
        1.0
    )
    broken = code_scores("def f(x:\n    return x + 1", reference)
    assert broken["syntax_valid"] == 0.0
    assert 0 < broken["code_chrf"] < 1
    assert code_scores("", reference)["code_chrf"] < 0.1
