"""Why a call is refused: a status code, a stable reason, the field and the remedy, without gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import InvalidFieldError, Reason, WiseRLError
from common.statuses import Code

if TYPE_CHECKING:
    from typing import Self


RETRY_SECONDS = 0.25
"""After how long to repeat a push that was held in vain: it has waited for long already."""


class Refusal(WiseRLError):  # noqa: N818 - it is an answer, not a failure
    """An answer that is no response; the shell maps it to a status with details.

    Attributes:
        code: What kind of refusal, and so what the client does next.
        reason: `ErrorInfo.reason`.
        message: The value, the constraint and the remedy.
        field: The offending field of the request, for INVALID_ARGUMENT; else empty.
        retry_seconds: After how long to repeat the same call, where that can help; else None.
    """

    def __init__(
        self,
        code: Code,
        reason: Reason,
        message: str,
        *,
        field: str = "",
        retry_seconds: float | None = None,
    ) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.code = code
        self.reason = reason
        self.message = message
        self.field = field
        self.retry_seconds = retry_seconds

    @classmethod
    def invalid(cls, error: InvalidFieldError, parent: str = "") -> Self:
        """A malformed request, from the error of a codec about its field `parent`."""
        seen = error.under(parent) if parent else error
        return cls(
            Code.INVALID_ARGUMENT, Reason.INVALID_REQUEST, seen.description, field=seen.field
        )

    @classmethod
    def precondition(cls, reason: Reason, message: str) -> Self:
        """A request that fits another run, another spec or a session that is gone."""
        return cls(Code.FAILED_PRECONDITION, reason, message)

    @classmethod
    def too_large(cls, message: str) -> Self:
        """Larger than a limit; the same request never succeeds."""
        return cls(Code.RESOURCE_EXHAUSTED, Reason.TOO_LARGE, message)

    @classmethod
    def no_room(cls, waited_seconds: float, full: str) -> Self:
        """The learner is busy with what it has (`full`); the same push will be taken later."""
        return cls(
            Code.RESOURCE_EXHAUSTED,
            Reason.NO_ROOM,
            f"held for {waited_seconds:.1f} s, and the learner still has {full}; repeat the same "
            "push",
            retry_seconds=RETRY_SECONDS,
        )

    @classmethod
    def over_quota(cls, bytes_per_second: int, early_seconds: float) -> Self:
        """A sampler sends more than its share; the same call will be taken later."""
        return cls(
            Code.RESOURCE_EXHAUSTED,
            Reason.OVER_QUOTA,
            f"this sampler sends more than {bytes_per_second} bytes a second; repeat the same call "
            f"in {early_seconds:.2f} s, or raise the learner's --sampler-bytes-per-second",
            retry_seconds=early_seconds,
        )

    @classmethod
    def draining(cls) -> Self:
        """The learner is about to stop without having finished; it, or the next one, returns."""
        return cls(
            Code.UNAVAILABLE, Reason.DRAINING, "the learner is stopping; retry until it is back"
        )

    @classmethod
    def superseded(cls) -> Self:
        """A later call of the same sampler took the place of this one."""
        return cls(
            Code.CANCELLED, Reason.SUPERSEDED, "a later call of the same sampler replaced this one"
        )

    @classmethod
    def defect(cls) -> Self:
        """An error that nobody foresaw; what it was stands in the learner's log alone."""
        return cls(
            Code.INTERNAL, Reason.DEFECT, "a defect of the learner; its log says more, retry later"
        )
