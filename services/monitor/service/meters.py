"""What the monitor counts of its own work."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

UP = Gauge("mt_service_up", "1 where a service answered the monitor's last question.", ["service"])
ALERTS = Gauge("mt_alerts", "Open alerts.", ["rule", "severity", "state"])
NOTIFICATIONS = Counter("mt_notifications_total", "Messages by what became of them.", ["channel", "outcome"])
ROUND_SECONDS = Histogram(
    "mt_monitor_round_seconds",
    "Time for one look at everything.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15),
)
CANARY_DISTANCE = Gauge(
    "mt_canary_distance_nats", "How far a model's canary answers moved, per token.", ["model"]
)
DRIFTED = Gauge("mt_live_drift", "1 where the newest window of live answers drifted.", ["model", "side"])
DRIFT_EFFECT = Gauge(
    "mt_live_drift_effect",
    "Largest distance of a live signal from its reference, in standard deviations.",
    ["model", "side"],
)
CANARY_CHANGED = Gauge(
    "mt_canary_changed", "1 where something else answers behind a model's name.", ["model"]
)
