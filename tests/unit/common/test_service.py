"""What every service counts of its requests."""

from __future__ import annotations

from fastapi.testclient import TestClient

from libs.common.service import REQUESTS, create_app


def counted(service: str) -> dict[str, float]:
    """Requests by route and status."""
    return {
        f"{sample.labels['route']} {sample.labels['status']}": sample.value
        for metric in REQUESTS.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.labels["service"] == service
    }


def test_a_service_that_is_starting_does_not_look_like_one_that_fails() -> None:
    app = create_app("slow", ready=lambda: "still reading the model")
    app.add_api_route("/v1/things", lambda: {"ok": True})
    client = TestClient(app)
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == client.get("/metrics").status_code == 200
    assert client.get("/v1/things").status_code == 200
    assert counted("slow") == {"/v1/things 200": 1.0}
