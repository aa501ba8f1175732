"""What an answer took, in words: time, tokens, rate, price of the machine's time."""

from __future__ import annotations

from model_training.contracts.chat import Usage
from model_training.contracts.comparisons import Prices
from services.dashboard.views.scales import usd

STATES = {
    "waiting": ("waiting", ""),
    "writing": ("writing", "info"),
    "again": ("the gateway went away; asking again", "warn"),
    "done": ("done", "good"),
    "failed": ("failed", "bad"),
}


def figures(first_s: float | None, total_s: float | None, usage: Usage | None, prices: Prices) -> str:
    """`first word 0.21 s · 1.84 s · 380 tokens read, 42 written (26 a second) · $0.000051`."""
    parts: list[str] = []
    if first_s is not None:
        parts.append(f"first word {first_s:.2f} s")
    if total_s is not None:
        parts.append(f"{total_s:.2f} s")
    if usage is not None:
        rate = ""
        if total_s and first_s is not None and total_s > first_s and usage.completion_tokens > 1:
            rate = f" ({(usage.completion_tokens - 1) / (total_s - first_s):.0f} a second)"
        parts.append(f"{usage.prompt_tokens:,} tokens read, {usage.completion_tokens:,} written{rate}")
    if total_s is not None:
        parts.append(usd(cost_usd(total_s, usage, prices)))
    return " · ".join(parts)


def cost_usd(seconds: float, usage: Usage | None, prices: Prices) -> float:
    """The whole machine while the answer took, and its tokens: at most what it cost, since arms share the machine."""
    tokens = 0.0
    if usage is not None:
        tokens = usage.prompt_tokens * prices.million_prompt_tokens_usd
        tokens += usage.completion_tokens * prices.million_completion_tokens_usd
    return seconds / 3600 * prices.machine_hour_usd + tokens / 1e6
