"""What can be noticed about a training from its curves, and said in a sentence: stalled, plateau, diverging, overfitting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

from model_training.contracts.monitoring import Finding

STALLED_AFTER = 10.0
"""Times the longest of the usual intervals between steps."""
STALLED_AT_LEAST_S = 60.0

WINDOW = 10
"""Points whose mean is compared."""
RISE = 0.5
"""Share by which the loss must lie above its lowest mean; what `loss_rise_alert` is by default."""
SURE = 4.0
"""Standard errors that a rise must have."""

PLATEAU_SHARE = 0.3
"""Share of all steps over which nothing got better."""
PLATEAU_GAIN = 0.02
"""Share of the loss that a third of the run must gain to count as progress."""

OVERFIT_SHARE = 0.02
"""Share by which the last two validations must lie above the best."""


@dataclass(frozen=True)
class Curves:
    """A training's values by step, in order."""

    loss: Sequence[tuple[int, float]]
    eval_loss: Sequence[tuple[int, float]]
    total: int


def curves(steps: Sequence[tuple[int, Mapping[str, float]]], total: int) -> Curves:
    """The two losses of a job's metric points."""

    def of(name: str) -> list[tuple[int, float]]:
        return [(step, values[name]) for step, values in steps if name in values]

    return Curves(of("loss"), of("eval_loss"), total)


def findings(seen: Curves, intervals_s: Sequence[float], silent_s: float) -> list[Finding]:
    """Everything that is noticed.

    Args:
        intervals_s: seconds between the newest metric points of this attempt.
        silent_s: seconds since the job last said anything.
    """
    found = [_stalled(intervals_s, silent_s), _diverging(seen), _overfitting(seen)]
    if not any(found):
        found.append(_plateau(seen))
    return [finding for finding in found if finding is not None]


def _stalled(intervals_s: Sequence[float], silent_s: float) -> Finding | None:
    if len(intervals_s) < 3:
        return None
    usual = sorted(intervals_s)[int(0.9 * (len(intervals_s) - 1))]
    limit = max(STALLED_AT_LEAST_S, STALLED_AFTER * usual)
    if silent_s <= limit:
        return None
    text = f"No step for {silent_s:.0f} s; they came every {median(intervals_s):.1f} s."
    return Finding(finding="stalled", message=text)


def _diverging(seen: Curves) -> Finding | None:
    values = [value for _, value in seen.loss]
    if len(values) < 2 * WINDOW:
        return None
    means = [fmean(values[i : i + WINDOW]) for i in range(len(values) - WINDOW + 1)]
    lowest = min(range(len(means)), key=means.__getitem__)
    last = values[-WINDOW:]
    rise = means[-1] - means[lowest]
    error = (stdev(last) ** 2 / WINDOW + stdev(values[lowest : lowest + WINDOW]) ** 2 / WINDOW) ** 0.5
    if rise <= RISE * abs(means[lowest]) or rise <= SURE * error:
        return None
    step = seen.loss[lowest + WINDOW // 2][0]
    text = f"The loss rises: {means[lowest]:.3f} around step {step}, {means[-1]:.3f} now."
    return Finding(finding="diverging", message=text)


def _overfitting(seen: Curves) -> Finding | None:
    if len(seen.eval_loss) < 3:
        return None
    best_step, best = min(seen.eval_loss, key=lambda point: point[1])
    worse = [value > best * (1 + OVERFIT_SHARE) for step, value in seen.eval_loss[-2:] if step > best_step]
    trained = [value for step, value in seen.loss if step > best_step]
    before = [value for step, value in seen.loss if step <= best_step][-WINDOW:]
    falls = not trained or not before or fmean(trained[-WINDOW:]) < fmean(before)
    if len(worse) < 2 or not all(worse) or not falls:
        return None
    now = seen.eval_loss[-1][1]
    text = f"The validation loss rises since step {best_step} ({best:.3f} to {now:.3f}) while the training loss falls."
    return Finding(finding="overfitting", message=text)


def _plateau(seen: Curves) -> Finding | None:
    """No gain over the last stretch that is distinguishable from noise, and none worth having within its error."""
    first = seen.loss[-1][0] - PLATEAU_SHARE * seen.total if seen.loss else 0
    points = [point for point in seen.loss if point[0] >= first]
    if len(points) < 2 * WINDOW or seen.loss[0][0] >= first:
        return None
    steps, values = [float(step) for step, _ in points], [value for _, value in points]
    slope, error = _line(steps, values)
    length = steps[-1] - steps[0]
    gain = -(slope - 2 * error) * length  # the largest that the noise leaves room for
    if gain > PLATEAU_GAIN * abs(fmean(values)):
        return None
    text = f"The loss has not fallen since step {points[0][0]}: {fmean(values):.3f} on average."
    return Finding(finding="plateau", message=text)


def _line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Slope of the least-squares line, and its standard error."""
    mean_x, mean_y = fmean(x), fmean(y)
    spread = sum((one - mean_x) ** 2 for one in x)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    rest = sum((b - mean_y - slope * (a - mean_x)) ** 2 for a, b in zip(x, y, strict=True))
    return slope, (rest / max(1, len(x) - 2) / spread) ** 0.5
