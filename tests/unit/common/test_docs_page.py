"""`/docs`, the API's description in a browser: drawn without any other host."""

from __future__ import annotations

import re

from fastapi.testclient import TestClient

from libs.common.service import create_app


def test_the_docs_page_loads_everything_from_the_service_itself() -> None:
    with TestClient(create_app("gateway")) as http:
        page = http.get("/docs")
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert any(path.endswith(".js") for path in loaded)
        assert any(path.endswith(".css") for path in loaded)
        for path in loaded:
            assert path.startswith("/"), "another host is asked"
            assert http.get(path).is_success
    policy = page.headers["content-security-policy"]
    assert "https:" not in policy
    assert "script-src 'self'" in policy
