"""Pages as a browser gets them first: whole, with what the gateway says, and with all of it as text."""

from __future__ import annotations

import io
import re
import time
import zipfile

import httpx
import pytest

from tests.conftest import Stores
from tests.integration.dashboard import seed
from tests.integration.dashboard.conftest import Site, running_dashboard
from tests.integration.dashboard.seed import XSS
from tests.integration.gateway.conftest import KEY

PAGES = {
    "/": ("model_two", "ftjob_one", "Recent jobs"),
    "/data": ("rows.jsonl", "Learn a library"),
    "/train": ("ftjob_two", "Lay over each other"),
    "/train/new": ("learning rate", "rows.jsonl", "What it would take"),
    "/train/overlay?jobs=ftjob_one,ftjob_two": ("ftjob_one", "learning_rate"),
    "/jobs/ftjob_one": ("model_one", "packs on a GPU only", "Sample answers"),
    "/models": ("model_three", "Roll back", "Compare two"),
    "/models/model_one": ("ftjob_one", "Gate: passed", "From data to verdict"),
    "/models/compare?a=model_one&b=model_two": ("What differs", "Both must have been evaluated"),
    "/settings": ("requests_per_s", "API keys", "bootstrap"),
}
"""Address, and words that only the gateway's answers bring."""


def patiently(client: httpx.Client, path: str, *words: str) -> str:
    """The page once it holds the words: its first answer waits only a moment for the gateway."""
    for _ in range(120):
        text = client.get(path).raise_for_status().text
        if all(word in text for word in words):
            return text
        time.sleep(0.25)
    missing = [word for word in words if word not in text]
    raise AssertionError(f"{path} lacks {missing}")


@pytest.mark.parametrize("path", PAGES)
def test_pages_come_whole_and_hold_no_foreign_markup(dashboard: httpx.Client, path: str, site: Site) -> None:
    text = patiently(dashboard, path, *PAGES[path])
    assert XSS not in text
    assert "<img src=x" not in text


def test_a_file_is_shown_with_what_its_check_found(dashboard: httpx.Client, site: Site) -> None:
    text = patiently(dashboard, f"/data/{site.file}", "rows.jsonl", "Thorough check")
    assert '"31"' in text  # so many rows


def test_what_is_not_there_is_said_in_the_page(dashboard: httpx.Client, site: Site) -> None:
    patiently(dashboard, "/models/model_none", "There is no model")
    patiently(dashboard, "/jobs/ftjob_none", "There is no job")


def test_everything_comes_from_the_dashboard_itself(dashboard: httpx.Client, site: Site) -> None:
    text = dashboard.get("/").text
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", text)
    assert not re.findall(r"url\([\"']?(?:https?:)?//", text)
    policy = dashboard.get("/").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    style = re.search(r'href="(/static/dashboard\.css[^"]*)"', text)
    assert style is not None
    assert dashboard.get(style.group(1)).headers["content-type"].startswith("text/css")


def test_it_has_what_every_service_has(dashboard: httpx.Client) -> None:
    assert dashboard.get("/healthz").json() == {"status": "ok"}
    assert "mt_http_requests_total" in dashboard.get("/metrics").text


def test_pages_of_other_sites_get_nothing(dashboard: httpx.Client) -> None:
    assert dashboard.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert dashboard.get("/readyz", headers={"Host": "10.0.0.7:8008"}).status_code == 200
    answer = dashboard.post("/_nicegui/client/x/upload/1", headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    handshake = upgrade | {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Origin": "http://evil.example"}
    refused = dashboard.get("/_nicegui_ws/socket.io/?EIO=4&transport=websocket", headers=handshake)
    assert refused.status_code == 403


def test_a_model_is_downloaded_through_the_dashboard(
    dashboard: httpx.Client, site: Site, stores: Stores
) -> None:
    lost = dashboard.get("/download/models/model_one")  # its row is there, its files are not
    assert lost.status_code == 404
    assert "artifact" in lost.text
    assert dashboard.get("/download/models/model_none").status_code == 404
    folder = stores.home / "artifacts" / seed.artifact_of("two")
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text('{"r": 16}', encoding="utf-8")
    found = dashboard.get("/download/models/model_two").raise_for_status()
    assert found.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(found.content)) as archive:
        assert archive.read("adapter_config.json") == b'{"r": 16}'


def test_without_a_key_of_its_own_it_asks_for_one(site: Site) -> None:
    with running_dashboard(site.gateway.url, {"MT_DASHBOARD_LOGIN": "true"}) as client:
        answer = client.get("/models/model_one?x=1")
        assert answer.status_code == 307
        assert answer.headers["location"] == "/login?next=/models/model_one%3Fx%3D1"
        assert "API key" in client.get("/login").text
        assert client.get("/download/models/model_one").status_code == 307
        assert KEY not in client.get("/login").text
