"""Renders a report as one HTML page and as Markdown. Everything that models or users wrote is escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from model_training.contracts.comparisons import ComparisonReport, SideBySide
from services.comparator.adapters import formats
from services.comparator.domain.page import build_page

PACKAGE = "services.comparator"


def render_html(report: ComparisonReport, items: Sequence[SideBySide]) -> str:
    """The whole report as one self-contained page: no request leaves it, and only our own script runs in it."""
    script = _template_text("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment(autoescape=True)
        .get_template("report.html.jinja")
        .render(
            page=build_page(report, items),
            report=report,
            script=Markup(script),  # nosec B704 # our own files
            style=Markup(_template_text("report.css")),  # nosec B704 # our own files
            policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        )
    )


def render_markdown(report: ComparisonReport, items: Sequence[SideBySide]) -> str:
    """The report without charts and answers, for a terminal or a pull request."""
    return (
        _environment(autoescape=False)
        .get_template("report.md.jinja")
        .render(page=build_page(report, items), report=report)
    )


def _template_text(name: str) -> str:
    return (files(PACKAGE) / "templates" / name).read_text(encoding="utf-8")


def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(  # nosec B701 # Markdown
        loader=PackageLoader(PACKAGE, "templates"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {name: getattr(formats, name) for name in formats.FILTERS}
    environment.filters.update(filters)
    return environment
