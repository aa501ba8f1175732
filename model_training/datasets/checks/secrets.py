"""Finds credentials in text: a short list of shapes that are hardly ever anything else.

Not a scanner of repositories: passwords without a shape of their own are not found. The list is that of issuers who
give their keys a recognisable prefix, private keys, and passwords in URLs. A key made of few different characters, or one
that says EXAMPLE, is a placeholder and no finding. The secret itself is never shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

LEAST_DIFFERENT = 8
"""A key with fewer different characters is a placeholder (`AKIAXXXXXXXXXXXXXXXX`)."""
_PLACEHOLDER = re.compile(
    r"example|changeme|your[-_]|placeholder|dummy|redacted|<|\$|\{|\*\*\*|xxxx|1234567890", re.I
)
_PLAIN_PASSWORD = re.compile(
    r"(?i)pass(word|wd)?\d*|secret|pw|pwd|token|key|user(name)?|postgres|root|admin|guest|test"
)


@dataclass(frozen=True)
class Shape:
    """`marker` is a text that every secret of this shape holds; looking for it is cheap. `secret` is group 1."""

    name: str
    marker: str
    pattern: re.Pattern[str]


def _shape(name: str, marker: str, pattern: str) -> Shape:
    return Shape(name, marker, re.compile(pattern))


# Every repetition has an upper end, so that no text can make the search slow.
SHAPES = (
    _shape("an AWS access key", "AKIA", r"\b(AKIA[A-Z2-7]{16})\b"),
    _shape("a temporary AWS access key", "ASIA", r"\b(ASIA[A-Z2-7]{16})\b"),
    _shape(
        "a private key",
        "PRIVATE KEY",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:\\[rn]|\s|[A-Za-z-]{1,30}: [^\r\n]{0,80}\r?\n)*"
        r"([A-Za-z0-9+/=]{40,100})",
    ),
    *(_shape("a GitHub token", f"gh{kind}_", rf"\b(gh{kind}_[A-Za-z0-9]{{36,255}})\b") for kind in "pousr"),
    _shape("a GitHub token", "github_pat_", r"\b(github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59})\b"),
    _shape("a GitLab token", "glpat-", r"\b(glpat-[A-Za-z0-9_-]{20,200})"),
    _shape("a Slack token", "xox", r"\b(xox[abeoprs]-[0-9]{8,20}-[0-9A-Za-z-]{10,200})"),
    _shape(
        "a Slack webhook",
        "hooks.slack.com",
        r"(hooks\.slack\.com/services/T[A-Z0-9]{8,20}/B[A-Z0-9]{8,20}/[A-Za-z0-9]{20,60})",
    ),
    _shape("a Hugging Face token", "hf_", r"\b(hf_[A-Za-z0-9]{34,40})\b"),
    _shape("an OpenAI key", "T3BlbkFJ", r"\b(sk-[A-Za-z0-9_-]{16,200}T3BlbkFJ[A-Za-z0-9_-]{16,200})"),
    _shape("an Anthropic key", "sk-ant-", r"\b(sk-ant-[a-z0-9]{1,20}-[A-Za-z0-9_-]{80,200})"),
    _shape("a Google API key", "AIza", r"\b(AIza[0-9A-Za-z_-]{35})(?![0-9A-Za-z_-])"),
    _shape("a Google OAuth secret", "GOCSPX-", r"\b(GOCSPX-[0-9A-Za-z_-]{28})(?![0-9A-Za-z_-])"),
    _shape("a Stripe key", "k_live_", r"\b([sr]k_live_[0-9A-Za-z]{20,250})\b"),
    _shape("an npm token", "npm_", r"\b(npm_[A-Za-z0-9]{36})\b"),
    _shape("a PyPI token", "pypi-AgE", r"\b(pypi-AgE[A-Za-z0-9_-]{50,500})"),
    _shape("a SendGrid key", "SG.", r"\b(SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43})(?![A-Za-z0-9_-])"),
    _shape("an Azure storage key", "AccountKey=", r"AccountKey=([A-Za-z0-9+/]{86}==)"),
    _shape(
        "a signed token (JWT)", "eyJ", r"\b(eyJ[A-Za-z0-9_-]{10,500}\.eyJ[A-Za-z0-9_-]{10,3000}\.[A-Za-z0-9_-]{20,700})"
    ),
)  # fmt: skip
_URL_PASSWORD = re.compile(
    r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@\"'<>]{1,64}:([^\s:/@\"'<>]{6,100})@([A-Za-z0-9.-]+)"
)


@dataclass(frozen=True)
class Secret:
    """What was found, without the secret: its kind, its first characters, its length."""

    kind: str
    start: str
    length: int

    def __str__(self) -> str:
        """For a finding."""
        return f"holds {self.kind} ({self.start}…, {self.length} characters)"


def possible(texts: Iterable[str]) -> tuple[Shape, ...]:
    """The shapes whose marker stands in any of the texts: looking once through many texts saves looking through each."""
    together = "\n".join(texts)
    return tuple(shape for shape in SHAPES if shape.marker in together)


def find_secrets(text: str, shapes: Sequence[Shape] = SHAPES) -> Iterator[Secret]:
    """The credentials in a text, one of each shape at most. `shapes` may be those that are `possible`."""
    for shape in shapes:
        if shape.marker in text:
            for match in shape.pattern.finditer(text):
                secret = match.group(1)
                if len(set(secret)) >= LEAST_DIFFERENT and not _PLACEHOLDER.search(secret):
                    yield Secret(shape.name, secret[:4], len(secret))
                    break
    if "://" in text and "@" in text:
        yield from _passwords(text)


def _passwords(text: str) -> Iterator[Secret]:
    for match in _URL_PASSWORD.finditer(text):
        password, host = match.groups()
        local = host in ("localhost", "127.0.0.1", "host") or "example" in host
        if not (local or _PLACEHOLDER.search(password) or _PLAIN_PASSWORD.fullmatch(password)):
            yield Secret("a password in a URL", password[:1], len(password))
            return
