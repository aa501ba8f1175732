"""The curves of a training run as a picture, PNG and SVG: loss, learning rate, gradient norm, the kept step marked.

Colours are told apart by people who see few of them and, with the marks, in grey print.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

PICTURE = "curves.png"
DRAWING = "curves.svg"

_TRAINING, _VALIDATION, _KEPT = "#0072B2", "#D55E00", "#009E73"  # Okabe and Ito's palette
_GREY = "#595959"
_SMOOTHED_FROM = 60
"""Points from which the single steps are drawn pale, with their moving mean over them."""

History = Sequence[dict[str, float]]


def draw_curves(directory: Path, history: History, best_step: int | None, title: str) -> None:
    """Write `curves.png` and `curves.svg`.

    Args:
        directory: where to.
        history: the trainer's log, one dict a line, each with `step`.
        best_step: the step whose adapter was kept; None marks nothing.
        title: what the picture is called.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "curves"}
    with rc_context(style):
        figure = Figure(figsize=(7.2, 6.2), layout="constrained")
        FigureCanvasAgg(figure)
        loss, rate, norm = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1, 1))
        figure.suptitle(title, fontsize=11)
        _draw_loss(loss, history, best_step)
        _draw_one(rate, history, "learning_rate", "learning rate")
        _draw_one(norm, history, "grad_norm", "gradient norm")
        norm.set_xlabel("optimiser step")
        for axes in (loss, rate, norm):
            axes.grid(color="#D9D9D9", linewidth=0.6)
            axes.xaxis.get_major_locator().set_params(integer=True)
        figure.savefig(directory / PICTURE, dpi=150, metadata={"Software": None})
        figure.savefig(directory / DRAWING, metadata={"Date": None, "Creator": None})


def _draw_loss(axes: Any, history: History, best_step: int | None) -> None:
    steps, losses = _points(history, "loss")
    many = len(steps) >= _SMOOTHED_FROM
    label = "training, each report" if many else "training"
    axes.plot(
        steps, losses, color=_TRAINING, linewidth=1 if many else 1.6, alpha=0.35 if many else 1, label=label
    )
    if many:
        axes.plot(steps, _smooth(losses), color=_TRAINING, linewidth=1.8, label="training, moving mean")
    checked, validated = _points(history, "eval_loss")
    if checked:
        axes.plot(
            checked, validated, "s--", color=_VALIDATION, markersize=4, linewidth=1.6, label="validation"
        )
    if best_step is not None:
        _mark(axes, best_step, dict(zip(checked, validated, strict=True)).get(best_step))
    axes.set_ylabel("loss (nats per learnt token)")
    axes.legend(frameon=False)


def _mark(axes: Any, step: int, loss: float | None) -> None:
    axes.axvline(step, color=_KEPT, linewidth=1, linestyle=":")
    if loss is None:
        return
    label = f"kept: step {step}, {loss:.3f}"
    axes.plot([step], [loss], "*", color=_KEPT, markersize=13, markeredgecolor="black", label=label)


def _draw_one(axes: Any, history: History, name: str, label: str) -> None:
    axes.plot(*_points(history, name), color=_GREY, linewidth=1.2)
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)


def _points(history: History, name: str) -> tuple[list[float], list[float]]:
    lines = [line for line in history if name in line]
    return [line["step"] for line in lines], [line[name] for line in lines]


def _smooth(values: Sequence[float]) -> list[float]:
    """The mean over a twentieth of the run, up to each point."""
    width = max(2, len(values) // 20)
    return [
        sum(part) / len(part)
        for end in range(1, len(values) + 1)
        if (part := values[max(0, end - width) : end])
    ]
