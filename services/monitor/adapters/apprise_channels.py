"""Sends messages with Apprise: webhooks (`json://`), Slack, e-mail and what else it knows.

Only public addresses are reached, and those that `MT_EGRESS_ALLOWED` names (`libs.common.egress`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import apprise

from libs.common.egress import HINT, Egress
from services.monitor.domain.notices import Channel


class AppriseSender:
    """Sends to channels by name.

    Args:
        channels: those of the configuration.
        egress: which addresses may be reached.

    Raises:
        ValueError: Apprise does not understand a URL.
    """

    def __init__(self, channels: Sequence[Channel], egress: Egress) -> None:
        self._egress = egress
        logging.getLogger("apprise").setLevel(logging.ERROR)  # it logs URLs, and they hold passwords
        self._targets: dict[str, apprise.Apprise] = {}
        for channel in channels:
            target = self._targets[channel.name] = apprise.Apprise()
            for number, url in enumerate(channel.urls, start=1):
                if not target.add(url):
                    kind = url.partition(":")[0]
                    raise ValueError(f"channel {channel.name}: Apprise cannot use URL {number} ({kind}://…)")

    def send(self, channel: str, title: str, body: str, *, urgent: bool) -> str | None:
        """Send to all addresses of a channel; why it did not reach all of them, or None."""
        target = self._targets.get(channel)
        if target is None:
            return "the configuration has no such channel any more"
        kind = apprise.NotifyType.FAILURE if urgent else apprise.NotifyType.INFO
        try:
            with self._egress.guarded() as refused:
                reached = target.notify(body=body, title=title, notify_type=kind)
        except Exception as error:  # a plugin's own fault must not end the telling
            return f"{type(error).__name__}: {error}"
        if refused:
            return f"it leads to {refused[0]} {HINT}"
        return None if reached else "not every address took the message"
