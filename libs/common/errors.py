"""The one tree of errors that services raise. A class has a status, a stable code, and a docstring that is its title."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from model_training.contracts.jobs import JobError
from model_training.contracts.problems import Blame, Problem, RowFault


class PlatformError(Exception):
    """Something went wrong in the platform"""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    blame: ClassVar[Blame] = "system"

    def __init__(
        self,
        detail: str,
        *,
        param: str | None = None,
        hint: str | None = None,
        rows: Sequence[RowFault] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.param = param
        self.hint = hint
        self.rows = list(rows) if rows else None
        self.retry_after_s = retry_after_s

    def problem(self) -> Problem:
        """This error as an RFC 9457 problem."""
        return Problem(
            type=f"urn:model-training:problem:{self.code}",
            title=(self.__doc__ or "Error").splitlines()[0],
            status=self.status,
            detail=self.detail,
            code=self.code,
            param=self.param,
            blame=self.blame,
            hint=self.hint,
            rows=self.rows,
        )


class InvalidInput(PlatformError):
    """The request asks for something that cannot be done"""

    status, code, blame = 400, "invalid_input", "user"


class Unauthorized(PlatformError):
    """No valid key came with the request"""

    status, code, blame = 401, "invalid_api_key", "user"


class Forbidden(PlatformError):
    """The key may not do this"""

    status, code, blame = 403, "forbidden", "user"


class NotFound(PlatformError):
    """There is no such thing"""

    status, code, blame = 404, "not_found", "user"


class Conflict(PlatformError):
    """The request contradicts the present state"""

    status, code, blame = 409, "conflict", "user"


class IllegalTransition(Conflict):
    """The job cannot change to that state"""

    code = "illegal_transition"


class StaleVersion(PlatformError):
    """The thing has changed since it was read"""

    status, code, blame = 412, "stale_version", "user"


class VersionRequired(PlatformError):
    """The change does not say which version it is based on"""

    status, code, blame = 428, "version_required", "user"


class RateLimited(PlatformError):
    """The key has sent too many requests"""

    status, code, blame = 429, "rate_limited", "user"


class QuotaExceeded(PlatformError):
    """The key or its project has as much as it may have"""

    status, code, blame = 429, "quota_exceeded", "user"


class TooLarge(PlatformError):
    """The request is larger than allowed"""

    status, code, blame = 413, "too_large", "user"


class InvalidFile(PlatformError):
    """The file's content cannot be used"""

    status, code, blame = 400, "invalid_file", "user"


class Overloaded(PlatformError):
    """Too many requests at once; try again shortly"""

    status, code, blame = 429, "overloaded", "system"


class Unavailable(PlatformError):
    """A part of the platform that this needs is not ready"""

    status, code, blame = 503, "unavailable", "system"


class UpstreamFailed(PlatformError):
    """Another service of the platform answered with an error"""

    status, code, blame = 502, "upstream_failed", "system"


class LeaseLost(Exception):
    """The job belongs to another worker by now; what this one writes must not land."""


class JobStopped(Exception):
    """The work ended because somebody asked for it (pause or cancel), with everything worth keeping committed."""


class JobFailure(Exception):
    """The job cannot succeed, for a reason that is known: who can mend it, and how."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        blame: Blame = "system",
        param: str | None = None,
        hint: str | None = None,
        rows: Sequence[RowFault] | None = None,
        retry: bool = False,
    ) -> None:
        super().__init__(message)
        self.error = JobError(
            code=code, message=message, blame=blame, param=param, hint=hint, rows=list(rows) if rows else None
        )
        self.retry = retry

    @classmethod
    def of(cls, error: PlatformError) -> JobFailure:
        """The same complaint, as the end of a job."""
        return cls(
            error.code, error.detail, blame=error.blame, param=error.param, hint=error.hint, rows=error.rows
        )

    def as_dict(self) -> dict[str, Any]:
        """The error as it goes over the pipe and into the database."""
        return self.error.model_dump(mode="json")
