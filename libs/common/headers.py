"""Headers that tell browsers what an answer may do: on every answer, and stricter ones on pages.

An answer that sets one of them itself keeps its own. `Strict-Transport-Security` is not among them: it belongs to whoever
ends TLS (docs/security.md).
"""

from __future__ import annotations

ALWAYS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)

NOTHING = b"default-src 'none'; frame-ancestors 'none'"
"""For answers to programs: shown in a browser they load and run nothing."""

PAGE = (
    b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    b"form-action 'none'; frame-ancestors 'none'; sandbox allow-scripts"
)
"""For a report: it calls nobody and has no origin. Which of its scripts run is said by the policy that it carries itself."""

API_BROWSER = (
    b"default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""For `/docs`, which draws the API's description with scripts that come from the service itself."""

_DOCS = "/docs"
_PRIVATE = "/v1/"


def protect(path: str, headers: list[tuple[bytes, bytes]]) -> None:
    """Add what is missing to an answer's headers, in place. Names are lower case, as ASGI has them."""
    named = {name for name, _ in headers}
    headers.extend(pair for pair in ALWAYS if pair[0] not in named)
    if b"content-security-policy" not in named:
        headers.append((b"content-security-policy", _policy(path, headers)))
    if path.startswith(_PRIVATE) and b"cache-control" not in named:
        headers.append((b"cache-control", b"no-store"))


def _policy(path: str, headers: list[tuple[bytes, bytes]]) -> bytes:
    kind = next((value for name, value in headers if name == b"content-type"), b"")
    if not kind.startswith(b"text/html"):
        return NOTHING
    return API_BROWSER if path == _DOCS else PAGE
