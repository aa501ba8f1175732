"""How to put the recommended arm to work on this platform, what to watch, and when to look again."""

from __future__ import annotations

from collections.abc import Sequence

from model_training.contracts.comparisons import ArmResult, Deployment, KindResult, Verdict

SLOWER = 1.5
"""An answer that takes so many times the measured 95th percentile is no longer the arm that was compared."""


def deployment(arms: Sequence[ArmResult], verdict: Verdict, kinds: Sequence[KindResult]) -> Deployment | None:
    """Guidance for the recommended arm; until there is one, for the simplest. None where nothing was graded."""
    if not arms or not arms[0].n:
        return None
    arm = next((arm for arm in arms if arm.name == verdict.recommended), arms[0])
    by_name = {other.name: other for other in arms}
    routes = {
        kind.name: by_name[kind.favours].model
        for kind in kinds
        if kind.by == "form" and kind.favours and kind.favours != arm.name
    }
    return Deployment(
        arm=arm.name,
        model=arm.model,
        steps=_steps(arm),
        latency_p50_s=arm.latency_p50_s,
        latency_p95_s=arm.latency_p95_s,
        routes=routes,
        watch={"pass_rate_below": arm.ci_low, "latency_p95_s_above": SLOWER * arm.latency_p95_s},
        look_again=_look_again(arm, verdict),
    )


def _steps(arm: ArmResult) -> list[str]:
    return [
        f'mt models promote "{arm.model}"',
        'mt chat --model champion "Your question"',
        'In requests to /v1/chat/completions: "model": "champion"',
        "mt models rollback  # if it disappoints",
    ]


def _look_again(arm: ArmResult, verdict: Verdict) -> list[str]:
    reasons = ["when the library has a new version"]
    if verdict.items_needed is not None:
        reasons.append(f"when {verdict.items_needed:,} more items are at hand")
    if arm.effort:
        reasons.append("when a new base model is out: it may know what this arm adds")
    return [*reasons, "when one of the thresholds is crossed"]
