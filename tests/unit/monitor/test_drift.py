"""Drift: false alarms as stated, power of the best fixed rule, and what canaries notice."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from libs.common.live_samples import project
from services.monitor.domain.canaries import Answer, Token, as_json, changed, distance, from_json, parse
from services.monitor.domain.drift import Detector, Difference, compare, drifted

SIZES = [(200, 50, 0.562), (1000, 100, 0.902), (1000, 500, 1.0), (5000, 2000, 1.0)]
"""Sizes of reference and window; power of the best fixed rule with false alarms near 5% (Kolmogorov-Smirnov)."""


def rates(known: int, new: int, repetitions: int, permutations: int) -> tuple[float, float]:
    """How often a beta(8, 2) window is alarmed about beside its like, and how often a beta(8, 2.6) one."""
    rng = np.random.default_rng(7)
    alarms = [0, 0]
    for number in range(repetitions):
        reference = rng.beta(8, 2, known)
        for which, other in enumerate((2.0, 2.6)):
            found = compare(reference, rng.beta(8, other, new), permutations=permutations, seed=number)
            alarms[which] += found.p <= 0.05
    return alarms[0] / repetitions, alarms[1] / repetitions


def test_false_alarms_and_power_at_the_smallest_size() -> None:
    false_alarms, power = rates(200, 50, repetitions=150, permutations=99)
    assert stats.binomtest(round(false_alarms * 150), 150, 0.05, "greater").pvalue > 0.001
    assert power >= 0.562


@pytest.mark.slow
@pytest.mark.parametrize(("known", "new", "best"), SIZES)
def test_false_alarms_and_power(known: int, new: int, best: float) -> None:
    false_alarms, power = rates(known, new, repetitions=400, permutations=199)
    assert stats.binomtest(round(false_alarms * 400), 400, 0.05, "greater").pvalue > 0.001
    assert power >= best - 0.01


@given(st.floats(-5, 5), st.floats(0.1, 10))
def test_a_shift_is_measured_in_standard_deviations(shift: float, scale: float) -> None:
    base = np.random.default_rng(0).normal(0, scale, 300)
    found = compare(base, base + shift * float(base.std()), permutations=19)
    assert found.effect == pytest.approx(abs(shift), abs=1e-6)


def test_constant_values_are_no_drift() -> None:
    assert compare([1.0] * 20, [1.0] * 20).p == 1.0
    assert compare([0.0] * 50, [1.0] * 50).p < 0.01


def test_a_certain_but_small_difference_is_no_drift() -> None:
    signals = {"tiny": Difference(0.05, 0.001, 0.01), "large": Difference(0.5, 0.001, 0.01)}
    assert drifted(signals) == {"large"}


def test_of_many_signals_few_are_false() -> None:
    rng = random.Random(2)
    false_share: list[float] = []
    for _ in range(300):
        signals = {f"same{i}": Difference(1, rng.random(), 0) for i in range(18)}
        signals |= {f"other{i}": Difference(1, rng.random() * 1e-3, 0) for i in range(2)}
        found = drifted(signals)
        false_share.append(sum(name.startswith("same") for name in found) / max(1, len(found)))
    assert sum(false_share) / len(false_share) <= 0.06


def run_length(seed: int, shift: float, most: int, stated: float) -> int:
    rng = random.Random(seed)
    detector = Detector([rng.gauss(0, 1) for _ in range(200)], stated, seed)
    for count in range(1, most + 1):
        if detector.add(rng.gauss(shift, 1)):
            return count
    return most


def test_a_detector_runs_as_long_as_it_says_and_notices_a_shift() -> None:
    lengths = [run_length(seed, 0.0, 2000, 500) for seed in range(60)]
    assert sum(lengths) / len(lengths) >= 500  # cut at 2000, so the true mean is larger
    delays = [run_length(seed, 1.0, 2000, 500) for seed in range(30)]
    assert sum(delays) / len(delays) < 40


def test_a_detector_of_yes_and_no_is_not_fooled_by_ties() -> None:
    rng = random.Random(1)
    detector = Detector([float(rng.random() < 0.05) for _ in range(300)], 2000)
    assert not any(detector.add(float(rng.random() < 0.05)) for _ in range(500))
    assert any(detector.add(float(rng.random() < 0.6)) for _ in range(500))


BASE: Answer = (Token("The", -0.5, (("The", -0.5), ("A", -1.2))), Token(" sea", -0.2, ((" sea", -0.2),)))


def test_the_same_model_is_not_noticed_and_another_is() -> None:
    rounding: Answer = tuple(Token(token.text, token.logprob + 0.004, token.beside) for token in BASE)
    moved: Answer = tuple(Token(token.text, token.logprob - 0.06, token.beside) for token in BASE)
    assert not changed([BASE], [rounding])
    assert changed([BASE], [moved])  # the same words, less surely


def test_other_words_count_by_what_the_old_ones_would_be_worth() -> None:
    other: Answer = (Token("A", -0.4, (("A", -0.4), ("The", -1.5))),)
    assert distance([BASE], [other]) == pytest.approx(1.0)
    assert distance([BASE], [(Token("Zzz", -0.1),)]) == 3.0
    assert distance([BASE], [()]) == 3.0
    assert distance([], []) == 0.0


def test_stored_answers_come_back() -> None:
    assert from_json(as_json([BASE, ()])) == [BASE, ()]


def test_an_answer_without_log_probabilities_is_refused() -> None:
    with pytest.raises(ValueError, match="no log-probabilities"):
        parse(None)
    content = [{"token": "a", "logprob": -1, "top_logprobs": [{"token": "b", "logprob": -2}]}]
    assert parse(content) == (Token("a", -1.0, (("b", -2.0),)),)


THINGS = ["list", "dict", "tuple", "generator", "string", "set", "iterator", "sequence"]
OLD = [
    "chunked",
    "windowed",
    "flatten",
    "partition",
    "unique",
    "groupby",
    "interleave",
    "zip",
    "slice",
    "count",
]
NEW = ["tensor", "gradient", "device", "layer", "optimizer", "loss", "dtype", "checkpoint", "batch", "epoch"]


def questions(verbs: list[str], count: int, seed: int) -> list[list[float]]:
    draw = random.Random(seed)
    return [
        project(f"How do I use {draw.choice(verbs)} and {draw.choice(verbs)} on a {draw.choice(THINGS)}?")
        for _ in range(count)
    ]


def test_questions_about_another_subject_are_noticed_by_their_words_and_others_of_the_same_are_not() -> None:
    """None of 40 windows of the same subject may be called drift; false alarms are 1 in 100 and must be large too."""
    reference = questions(OLD, 500, 0)
    same = [compare(reference, questions(OLD, 200, seed), permutations=99) for seed in range(1, 41)]
    assert sum(bool(drifted({"words": one}, share=0.05)) for one in same) <= 5
    half = questions(OLD, 100, 50) + questions(NEW, 100, 51)
    assert drifted({"words": compare(reference, half, permutations=199)}, share=0.01)
    assert compare(reference, questions(NEW, 200, 52), permutations=19).effect > 0.4


def test_vectors_of_one_number_are_numbers() -> None:
    rng = np.random.default_rng(3)
    reference, window = rng.normal(size=80), rng.normal(0.4, 1, 40)
    plain = compare(reference, window, permutations=99)
    assert compare(reference[:, None], window[:, None], permutations=99) == plain
    scaled = stats.wasserstein_distance(reference, window) / float(reference.std())
    assert plain.effect == pytest.approx(scaled, abs=1e-12)
