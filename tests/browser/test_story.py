"""The whole story on a whole platform, by mouse and keys: from nothing to a library learnt, a verdict and a champion.

The model is a Gemma of two layers with random weights: every mechanism, little of the time. What it answers is nonsense,
so the verdict is that these items cannot tell.
"""

from __future__ import annotations

import os
import re
import signal
import tempfile
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from libs.common.models.prepare import default_model_dir
from libs.common.models.store import ModelStore
from model_training.embedded.platform import Platform
from model_training.embedded.state import ServiceState
from tests.browser.conftest import opened
from tests.conftest import free_ports
from tests.e2e.tiny_model import save_tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.weights, pytest.mark.timeout(1800)]
REAL, TINY = "gemma-3-270m", "gemma-3-1b"
LONG_MS = 600_000


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform as `mt up` starts it, with the tiny model beside the real one."""
    real = ModelStore(default_model_dir()).prepare(REAL)
    models = tmp_path_factory.mktemp("models")
    (models / REAL).symlink_to(real)
    save_tiny_model(models / TINY, tokenizer_from=real)
    with tempfile.TemporaryDirectory(prefix="mt-story-") as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MT_MODEL_DIR", str(models))
        patch.setenv("MT_HOME", home)
        patch.delenv("MT_GATEWAY_URL", raising=False)
        found = Platform(home, port_base=free_ports(9))
        with found.running():
            yield found


@pytest.fixture(scope="module")
def story(chromium: Browser, platform: Platform) -> Iterator[Page]:
    """One page for all chapters."""
    assert platform.state is not None
    port = next(service.port for service in platform.state.services if service.name == "dashboard")
    with opened(chromium, f"http://127.0.0.1:{port}") as page:
        yield page


def test_from_an_empty_platform_to_a_champion(story: Page, platform: Platform) -> None:
    story.goto("/")
    expect(story.get_by_text("Start here")).to_be_visible()
    pipeline = learn(story)
    watch_the_curve(story)
    read_the_verdict(story, pipeline)
    ask_four_arms(story)
    restart_in_the_middle(story, platform)
    promote(story)


def learn(page: Page) -> str:
    """Learn a library: build its data set, then index, train, evaluate, compare. The pipeline's address."""
    page.goto("/data/learn")
    page.get_by_label("Packages").fill("toolz")
    page.get_by_role("option", name="toolz", exact=True).click()
    page.keyboard.press("Escape")
    for label, value in (
        ("Training rows at most", 40),
        ("Tasks that run code, at most", 5),
        ("Questions at most", 5),
    ):
        page.get_by_label(label).fill(str(value))
    page.get_by_role("button", name="Build the data set").click()
    expect(page.get_by_text("3. Train and compare")).to_be_visible(timeout=LONG_MS)
    page.get_by_label("Model to tune").click()
    page.get_by_role("option", name=TINY, exact=True).click()
    page.get_by_label("Passes over the rows").fill("4")
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_url("**/jobs/pipe_*")
    return page.url


def watch_the_curve(page: Page) -> None:
    """The training shows a curve while it runs, or right after."""
    page.goto("/train")
    page.get_by_role("link", name=re.compile("^ftjob_")).first.click(timeout=LONG_MS)
    expect(page.get_by_text(re.compile("^(running|succeeded)$")).first).to_be_visible(timeout=LONG_MS)
    expect(page.locator(".chart canvas").first).to_be_visible(timeout=LONG_MS)
    page.reload()
    expect(page.locator(".chart canvas").first).to_be_visible(timeout=LONG_MS)


def read_the_verdict(page: Page, pipeline: str) -> None:
    """The comparison comes to a verdict; its items stand below."""
    page.goto(pipeline)
    expect(page.get_by_text("succeeded", exact=True).first).to_be_visible(timeout=LONG_MS)  # its first step
    page.goto("/comparisons")
    page.get_by_role("link", name=re.compile("^cmp_")).first.click(timeout=LONG_MS)
    verdict = page.get_by_role("heading", name=re.compile("^(Deploy:|Cannot tell yet)"))
    expect(verdict).to_be_visible(timeout=LONG_MS)
    expect(page.get_by_text(re.compile(r"^1–\d+ of \d+$"))).to_be_visible()
    page.locator(".items-table button.linklike").first.click()
    expect(page.get_by_role("heading", name=re.compile("^Item "))).to_be_visible()


def ask_four_arms(page: Page) -> None:
    """Base and tuned, each alone and with passages."""
    page.goto("/playground")
    expect(page.locator(".q-chip")).to_have_count(4)
    page.get_by_role("textbox", name="Question").fill("What does toolz.groupby do?")
    page.get_by_label("Longest answer").fill("24")
    page.get_by_role("button", name="Ask", exact=True).click()
    cards = page.locator("section[aria-label^='Answer of']")
    expect(cards.get_by_text("done", exact=True)).to_have_count(4, timeout=LONG_MS)
    expect(page.get_by_text(re.compile("passages read"))).to_have_count(2)
    page.get_by_role("button", name="Best").first.click()
    expect(page.get_by_text("Your choice")).to_have_count(1)


def restart_in_the_middle(page: Page, platform: Platform) -> None:
    """A refresh, and a gateway that dies and comes back, while answers are written: all four are there in the end."""
    cards = page.locator("section[aria-label^='Answer of']")
    inference, gateway = _service(platform, "inference"), _service(platform, "gateway")
    assert inference.pid is not None
    assert gateway.pid is not None
    try:
        _ask_and_hold(page, inference.pid)
        os.kill(gateway.pid, signal.SIGKILL)
        expect(cards.get_by_text("asking again").first).to_be_visible(timeout=LONG_MS)
    finally:
        os.kill(inference.pid, signal.SIGCONT)
    expect(cards.get_by_text("done", exact=True)).to_have_count(4, timeout=LONG_MS)
    assert _service(platform, "gateway").restarts > gateway.restarts
    expect(page.get_by_text("The gateway does not answer")).to_be_hidden(timeout=LONG_MS)


def _ask_and_hold(page: Page, inference: int) -> None:
    """Ask, and stop the model in the middle of an answer, as the page shows after a refresh."""
    writing = page.locator("section[aria-label^='Answer of']").get_by_text("writing", exact=True)
    for number in range(10):
        page.goto(f"/playground?q=What+does+toolz.partition+do+with+{number}+items%3F")
        expect(page.locator(".q-chip")).to_have_count(4)
        page.get_by_label("Longest answer").fill("400")  # with passages, the window of 1,024 holds no more
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.get_by_text(re.compile("^(writing|done)$")).first).to_be_visible(timeout=LONG_MS)
        os.kill(inference, signal.SIGSTOP)
        page.reload()
        expect(page.get_by_role("textbox", name="Question")).to_have_value(re.compile(f"with {number} items"))
        expect(page.locator("section[aria-label^='Answer of']")).to_have_count(4)
        if writing.count():
            return
        os.kill(inference, signal.SIGCONT)  # all had ended before it was stopped: once more
    raise AssertionError("ten questions, and each was answered before the model could be stopped")


def _service(platform: Platform, name: str) -> ServiceState:
    assert platform.state is not None
    return next(service for service in platform.state.services if service.name == name)


def promote(page: Page) -> None:
    """The tuned model becomes the champion."""
    page.goto("/models")
    page.get_by_role("link", name=re.compile("^model_")).first.click()
    page.get_by_role("button", name="Promote").click()
    page.get_by_role("dialog").get_by_role("button", name="Promote").click()
    expect(page.get_by_text("It is the champion.")).to_be_visible()
    page.goto("/")
    expect(page.get_by_text(re.compile("^model_")).first).to_be_visible()
