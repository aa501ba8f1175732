"""Changes that name the version they are based on: `If-Match` against what is there."""

from __future__ import annotations

from libs.common.errors import StaleVersion, VersionRequired


def etag(version: int) -> str:
    """A version as an ETag."""
    return f'"{version}"'


def require_match(if_match: str | None, version: int, what: str) -> None:
    """Go on only if the change is based on the present version. `*` stands for any.

    Raises:
        VersionRequired: the request names no version.
        StaleVersion: it names another one.
    """
    now = etag(version)
    if if_match is None:
        raise VersionRequired(
            f"The request does not say which version of {what} it changes.",
            param="If-Match",
            hint=f"Send `If-Match: {now}` to change the one that is there now.",
        )
    given = [part.strip().removeprefix("W/") for part in if_match.split(",")]
    if "*" not in given and now not in given:
        raise StaleVersion(
            f"{what[:1].upper()}{what[1:]} is at version {version} by now; If-Match names {if_match[:100]!r}.",
            param="If-Match",
            hint="Read it again, and decide whether the change still makes sense.",
        )
