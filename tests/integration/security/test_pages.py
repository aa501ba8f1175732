"""What browsers are told, and what hostile text becomes on a page."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import httpx
import pytest

from model_training.contracts.comparisons import ArmSpec, ComparisonCreate
from model_training.contracts.evaluations import ItemResult
from services.comparator.adapters.machine import describe_machine
from services.comparator.adapters.report_pages import render_html
from services.comparator.domain.analysis import analyse
from services.comparator.domain.arms import Arm
from services.comparator.service.reporting import compose
from tests.integration.security.conftest import World, standing_in_for
from tests.unit.comparator.demo_report import HOSTILE
from tests.unit.comparator.made_up import MODELS, answer, arm

ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/docs",
        "/redoc",
        "/metrics",
        "/v1/jobs",
        "/v1/nothing",
        "/nothing",
    ],
)
def test_every_answer_carries_the_headers(world: World, path: str) -> None:
    with world.http() as http:
        answer = http.get(path)
    assert {name: answer.headers.get(name) for name in ALWAYS} == ALWAYS
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert "access-control-allow-origin" not in answer.headers
    assert "set-cookie" not in answer.headers
    assert "server" not in answer.headers or "uvicorn" in answer.headers["server"]


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/files", "/v1/nothing"])
def test_what_belongs_to_a_project_is_kept_by_no_cache(world: World, path: str) -> None:
    with world.http() as http:
        assert http.get(path).headers["cache-control"] == "no-store"


def test_refusals_carry_the_headers_too(world: World) -> None:
    for headers in ({}, {"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        answer = httpx.get(f"{world.gateway.url}/v1/jobs", headers=headers)
        assert {name: answer.headers.get(name) for name in ALWAYS} == ALWAYS


def test_a_report_has_no_origin_and_calls_nobody(world: World) -> None:
    """Even a report with a script in it could read nothing of the gateway's."""
    page = "<!doctype html><script>fetch('/v1/api_keys')</script>"
    with (
        standing_in_for(world, "COMPARATOR", page, **{"Content-Type": "text/html; charset=utf-8"}),
        world.http(world.victim) as owner,
    ):
        answer = owner.get(f"/v1/comparisons/{world.ids['comparison']}/report.html")
    policy = answer.headers["content-security-policy"]
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in policy, "no connection is allowed"
    assert "connect-src" not in policy
    assert "sandbox allow-scripts" in policy
    assert "allow-same-origin" not in policy


class _Reader(HTMLParser):
    """What a browser would run or load of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts = 0
        self.handlers: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note scripts, handlers and what would be fetched."""
        self.scripts += tag == "script"
        for name, value in attrs:
            if name.startswith("on") or (value or "").strip().lower().startswith("javascript:"):
                self.handlers.append(f"{tag} {name}")
            if name in ("src", "srcset", "action", "formaction", "data", "poster") or (
                name == "href" and not (value or "").startswith("#")
            ):
                self.loads.append(f"{tag} {name}={value}")


HOSTILE_TEXTS = {
    "in one go": HOSTILE,
    "out of an attribute": '" onmouseover="alert(1)" x="',
    "out of a style": "</style><script>alert(1)</script>",
    "out of our script": "</script><script>alert(1)</script>",
    "an entity": "&lt;script&gt;alert(1)&lt;/script&gt;",
    "an address": "javascript:alert(1)",
    "a template": "{{ ''.__class__ }}{% for x in () %}{% endfor %}",
    "a picture": "<svg/onload=alert(1)>",
    "a frame": "<iframe srcdoc='<script>alert(1)</script>'>",
    "a base": "<base href=https://evil.example/>",
    "a comment": "<!--><script>alert(1)</script>-->",
}


@pytest.fixture(scope="module")
def page() -> str:
    """A report whose every text is hostile: names of arms, questions, answers, references, reasons, prompts, sources."""
    texts = list(HOSTILE_TEXTS.values())
    arms: list[Arm] = []
    for text, name in zip(texts, MODELS, strict=False):
        answers = [_answer(number, texts[number % len(texts)]) for number in range(2 * len(texts))]
        arms.append(replace(arm(name, answers, prompt_description=text), name=f"{name} {text}"))
    request = ComparisonCreate(arms=[ArmSpec(name=name, model=model) for name, model in MODELS.items()])
    analysis = analyse(request, arms)
    environment = {"host": texts[0], **describe_machine([texts[1]])}
    report = compose("cmp_01hostile", request, analysis, arms, training={}, environment=environment)
    return render_html(report, analysis.items)


def _answer(number: int, text: str) -> ItemResult:
    fields = ("question", "output", "reference", "reason", "prompt", "form", "group")
    source = {
        "number": 1,
        "rank": 1,
        "id": text,
        "title": text,
        "source": {"path": text, "url": text},
        "text": text,
    }
    return answer(
        number, number % 3 == 0, suite="code_generation", sources=[source], **dict.fromkeys(fields, text)
    )


def test_a_report_full_of_markup_runs_and_loads_nothing(page: str) -> None:
    reader = _Reader()
    reader.feed(page)
    assert reader.scripts == 1, "our own"
    assert reader.handlers == []
    assert reader.loads == []


@pytest.mark.parametrize("name", HOSTILE_TEXTS)
def test_hostile_names_and_answers_are_text_in_the_report(page: str, name: str) -> None:
    text = HOSTILE_TEXTS[name]
    if set(text) & set("<>\"'"):
        assert text not in page
    assert "\u202e" not in page


def test_hostile_names_are_data_in_json(world: World) -> None:
    """A name with markup comes back as it was, in JSON that no browser takes for a page."""
    with world.gateway.http() as admin:
        made = admin.post("/v1/projects", json={"name": f"<script>alert({id(world)})</script>"})
        shown = admin.get(f"/v1/projects/{made.json()['id']}")
    assert shown.headers["content-type"] == "application/json"
    assert json.loads(shown.text)["name"].startswith("<script>")
    assert shown.headers["x-content-type-options"] == "nosniff"
