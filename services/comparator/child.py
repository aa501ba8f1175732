"""The process that compares: it waits for evaluations, does the statistics and writes the report. No SQL here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from libs.common import tracing
from libs.common.errors import JobStopped
from libs.common.jobs.child import ChildContext, run_child
from model_training.contracts.chat import ChatMessage
from services.comparator.adapters.gateway_http import GatewayPlatform
from services.comparator.adapters.machine import describe_machine
from services.comparator.adapters.profile_files import shipped_profiles
from services.comparator.adapters.report_pages import render_html, render_markdown
from services.comparator.service.gathering import Gatherer
from services.comparator.service.running import REPORT, Pages, Plan, compare, write_report
from services.comparator.settings import ComparatorSettings


def work(context: ChildContext) -> dict[str, Any]:
    """Run one comparison.

    Returns:
        `{"report", "verdict"}`: the report directory's name in the workdir, and the verdict.

    Raises:
        JobFailure: an arm could not be evaluated, or the arms cannot be compared.
        JobStopped: a stop was asked for.
    """
    settings = ComparatorSettings()  # pyright: ignore[reportCallIssue] (the environment fills it)
    plan = Plan.of(context.spec)
    with _client(settings, context.spec["project"]) as client:
        platform = GatewayPlatform(
            client, patience_s=settings.comparator_patience_s, stopped=lambda: _leave_if_paused(context)
        )
        gatherer = Gatherer(
            context, platform, plan.request, settings.comparator_poll_s, _shots(context.spec.get("shots", {}))
        )
        found = compare(
            plan,
            gatherer,
            platform,
            machine=describe_machine,
            profiles=shipped_profiles(),
            kept=context.workdir / "judge.jsonl",
        )
    context.progress(999, 1000, "Writing the report")
    report = found.report
    write_report(context.workdir, found, Pages(render_html, render_markdown))
    context.event(report.verdict.reason, type="verdict", data=report.verdict.model_dump(mode="json"))
    return {"report": REPORT, "verdict": report.verdict.model_dump(mode="json")}


def _client(settings: ComparatorSettings, project: str) -> httpx.Client:
    token = settings.internal_token.get_secret_value()
    return httpx.Client(
        base_url=settings.gateway_url,
        headers={"Authorization": f"Bearer {token}", "x-mt-project": project},
        auth=tracing.Carried(),
        timeout=httpx.Timeout(settings.chat_timeout_s, connect=5.0),
    )


def _leave_if_paused(context: ChildContext) -> None:
    """While the gateway is away, a pause must not wait for it; a cancel is the gatherer's, who tidies up first."""
    if context.stop_requested() == "pause":
        raise JobStopped


def _shots(given: Mapping[str, Any]) -> dict[str, Sequence[ChatMessage]]:
    return {name: [ChatMessage.model_validate(turn) for turn in turns] for name, turns in given.items()}


if __name__ == "__main__":
    run_child(work)
