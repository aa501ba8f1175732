"""docs/security.md names tests that exist, and every test file of the security suite."""

from __future__ import annotations

import re

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
SUITE = ROOT / "tests" / "integration" / "security"


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"((?:tests/)?[\w/]+\.py)::(\w+)", PAGE)
    assert len(named) > 40
    for file, test in named:
        path = ROOT / file if file.startswith("tests/") else SUITE / file
        assert f"def {test}(" in path.read_text(encoding="utf-8"), f"{file}::{test}"


def test_every_file_of_the_suite_is_on_the_page() -> None:
    assert not [path.name for path in SUITE.glob("test_*.py") if path.name not in PAGE]


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
