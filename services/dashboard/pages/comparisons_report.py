"""A finished comparison: verdict first, then arms and differences as pictures, kinds of question, next steps, export."""

from __future__ import annotations

import math
from functools import partial

from nicegui import ui

from model_training.client import Client
from model_training.contracts.comparisons import (
    ArmResult,
    ComparisonReport,
    Deployment,
    PairResult,
    ReportFormat,
)
from services.dashboard.app import View
from services.dashboard.layout import heading
from services.dashboard.parts import show
from services.dashboard.parts.intervals import Estimate, picture
from services.dashboard.views.scales import p_value, points, rate_words, usd

PRIMARY = "correct"
CONFIDENCE = {"high": ("confidence: high", "good"), "moderate": ("confidence: moderate", "info")}
EXPORTS: dict[ReportFormat, str] = {
    "html": "Report for people",
    "md": "For a pull request",
    "json": "For programs",
    "csv": "For a spreadsheet",
    "jsonl": "Questions to train on next",
}


def draw(view: View, report: ComparisonReport) -> None:
    """Verdict, arms, differences."""
    _verdict(view, report)
    graded = any(arm.n for arm in report.arms)
    if graded:
        _arms(report)
        _pairs(report)


def after_uses(view: View, report: ComparisonReport) -> None:
    """Kinds of question, next steps, export."""
    _kinds(report)
    _findings(report)
    _exports(view, report.id)


def _verdict(view: View, report: ComparisonReport) -> None:
    verdict = report.verdict
    with ui.element("section").classes("card verdict" + ("" if verdict.recommended else " open")):
        with ui.row().classes("items-center"):
            text = f"Deploy: {verdict.recommended}" if verdict.recommended else "Cannot tell yet"
            ui.label(text).classes("verdict-arm").props('role="heading" aria-level="2"')
            words, tone = CONFIDENCE.get(verdict.confidence, ("no verdict", "warn"))
            show.pill(words, "good" if tone == "good" else "info" if tone == "info" else "warn")()
        ui.label(verdict.reason).classes("wrap")
        if verdict.items_needed:
            ui.label(
                f"{verdict.items_needed:,} more items would tell; {verdict.items_available:,} are available."
            ).classes("notice warn")
        if report.leaked:
            ui.label(
                f"{len(report.leaked)} items stand in the passages: {', '.join(report.leaked[:20])}."
            ).classes("notice bad")
        if verdict.notes:
            with (
                ui.expansion("What to know about it").classes("w-full").props("dense"),
                ui.element("ul").classes("plain-list"),
            ):
                for note in verdict.notes:
                    with ui.element("li"):
                        ui.label(note)
        if verdict.recommended and report.deployment:
            _deploy(view, report.id, report.deployment)


def _deploy(view: View, comparison_id: str, plan: Deployment) -> None:
    async def promote() -> None:
        await view.attempt(
            lambda client: client.models.promote(plan.model, reason=f"recommended by {comparison_id}"),
            done=f"The champion is {plan.model} now.",
            refresh=("*",),
        )

    with ui.row().classes("items-center"):
        ui.button(f"Make {plan.arm} the champion", icon="emoji_events", on_click=promote)
        ui.label(
            f"{plan.model} · expect {plan.latency_p50_s:.2f} s a median answer, "
            f"{plan.latency_p95_s:.2f} s at the 95th percentile"
        ).classes("soft small wrap")


def _arms(report: ComparisonReport) -> None:
    best = report.verdict.recommended
    with ui.element("section").classes("card"):
        heading("How often each arm is right")
        picture(
            [
                Estimate(
                    arm.name,
                    arm.pass_rate,
                    arm.ci_low,
                    arm.ci_high,
                    rate_words(arm.correct, arm.n, arm.pass_rate, arm.ci_low, arm.ci_high),
                    "good" if arm.name == best else "",
                )
                for arm in report.arms
            ],
            tick=lambda value: f"{100 * value:g}%",
            label="Share of right answers with 95% intervals",
        )
        show.table(
            [
                "Arm",
                "Model",
                "Median",
                "95th percentile",
                "1,000 questions",
                "Before the first",
                "A right answer",
            ],
            [_arm_row(arm) for arm in report.arms],
            numbers=(2, 3, 4, 5, 6),
            label="Time and cost of each arm",
        )


def _arm_row(arm: ArmResult) -> list[show.Cell]:
    return [
        arm.name,
        arm.model,
        f"{arm.latency_p50_s:.2f} s",
        f"{arm.latency_p95_s:.2f} s",
        usd(1000 * arm.cost_usd / arm.n) if arm.n else "–",
        usd(arm.fixed_cost_usd),
        usd(arm.cost_per_correct_usd),
    ]


def _pairs(report: ComparisonReport) -> None:
    useful = float(report.rules.get("smallest_useful_difference", 0.05))
    alpha = float(report.rules.get("alpha", 0.05))
    by_metric: dict[str, list[PairResult]] = {}
    for pair in report.pairs:
        by_metric.setdefault(pair.metric, []).append(pair)
    with ui.element("section").classes("card"):
        heading("Differences, on the same items")
        ui.label(
            f"Points with 95% intervals; hatched: too small to matter ({100 * useful:g} points). "
            "p-values are adjusted over all pairs."
        ).classes("soft small")
        for metric, pairs in by_metric.items():
            if metric == PRIMARY or len(by_metric) == 1:
                _pair_picture(pairs, useful, alpha, "Right answers, all items")
        others = {metric: pairs for metric, pairs in by_metric.items() if metric != PRIMARY}
        if others and PRIMARY in by_metric:
            with ui.expansion("By suite").classes("w-full").props("dense"):
                for metric, pairs in others.items():
                    kind, _, suite = metric.partition(":")
                    title = f"Right answers, {suite}" if kind == PRIMARY else f"Mean score, {suite or metric}"
                    heading(title, level=3)
                    _pair_picture(pairs, useful if kind == PRIMARY else 0.0, alpha, title)


def _pair_picture(pairs: list[PairResult], useful: float, alpha: float, label: str) -> None:
    picture(
        [
            Estimate(
                f"{pair.b} − {pair.a}",
                pair.difference,
                pair.ci_low,
                pair.ci_high,
                f"{points(pair.difference)} [{points(pair.ci_low)}, {points(pair.ci_high)}] · "
                f"{p_value(pair.p_adjusted)} · {_outcome(pair, alpha)}",
                {"better": "good", "worse": "bad"}.get(_outcome(pair, alpha), "open"),
            )
            for pair in pairs
        ],
        tick=points,
        label=label,
        zero=True,
        band=useful or None,
    )


def _outcome(pair: PairResult, alpha: float) -> str:
    if pair.p_adjusted >= alpha or not math.isfinite(pair.difference):
        return "not settled"
    return "better" if pair.difference > 0 else "worse"


def _kinds(report: ComparisonReport) -> None:
    if not report.kinds:
        return
    arms = [arm.name for arm in report.arms]
    with ui.element("section").classes("card"):
        heading("By kind of question")
        show.table(
            ["Kind", "Items", *arms, "Better there"],
            [
                [
                    f"{kind.name} ({kind.by})",
                    f"{kind.n:,}",
                    *(show.percent(kind.rates.get(arm)) for arm in arms),
                    kind.favours or "not told",
                ]
                for kind in report.kinds
            ],
            numbers=tuple(range(1, len(arms) + 2)),
            label="Share of right answers by kind of question",
        )


def _findings(report: ComparisonReport) -> None:
    if not report.findings:
        return
    with ui.element("section").classes("card"):
        heading("Why items failed, and what to do next")
        for finding in report.findings:
            with ui.element("div"):
                ui.label(f"{finding.title}: {finding.count:,} of {finding.of:,}").classes("wrap").style(
                    "font-weight:600"
                )
                ui.label(finding.advice).classes("soft wrap")


def _exports(view: View, comparison_id: str) -> None:
    async def save(fmt: ReportFormat) -> None:
        def ask(client: Client) -> bytes:
            return client.comparisons.report(comparison_id, fmt)

        content = await view.attempt(ask)
        if content is not None:
            ui.download(content, f"{comparison_id}.{fmt}")

    with ui.element("section").classes("card"):
        heading("Take it with you")
        with ui.row():
            for fmt, words in EXPORTS.items():
                button = ui.button(fmt, icon="download", on_click=partial(save, fmt)).props("outline")
                button.tooltip(words).props(f'aria-label="{words} ({fmt})"')
