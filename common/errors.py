"""Errors that a person or a peer can act on: value, constraint, remedy."""

from __future__ import annotations

import enum


class WiseRLError(Exception):
    """Base of every error that this project raises on purpose; its text is meant for people."""


class InvalidFieldError(WiseRLError):
    """A field of a message or a setting has a value that it cannot have.

    Attributes:
        field: Where, as a path such as `batch.columns[2].tensor.shape`.
        description: The value, the constraint that it breaks and the remedy.
    """

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}" if field else description)
        self.field = field
        self.description = description

    def under(self, parent: str) -> InvalidFieldError:
        """The same error seen from the message that holds this one as `parent`."""
        return InvalidFieldError(
            f"{parent}.{self.field}" if self.field else parent, self.description
        )


class UnsupportedSpaceError(WiseRLError):
    """A space that has no counterpart on the wire, or that an algorithm cannot take."""


class Reason(enum.StrEnum):
    """The stable `ErrorInfo.reason` values of the contract (domain `wiserl`)."""

    RUN_CHANGED = "RUN_CHANGED"
    UNKNOWN_SAMPLER = "UNKNOWN_SAMPLER"
    SPEC_MISMATCH = "SPEC_MISMATCH"
    PROTOCOL_MISMATCH = "PROTOCOL_MISMATCH"
    ENVIRONMENT_UNSUPPORTED = "ENVIRONMENT_UNSUPPORTED"
    INVALID_REQUEST = "INVALID_REQUEST"
    TOO_LARGE = "TOO_LARGE"
    NO_ROOM = "NO_ROOM"
    OVER_QUOTA = "OVER_QUOTA"
    VERSION_GONE = "VERSION_GONE"
    SUPERSEDED = "SUPERSEDED"
    DRAINING = "DRAINING"
    DEFECT = "DEFECT"
    TOKEN_MISSING = "TOKEN_MISSING"  # noqa: S105 - a reason, as the others are
    TOKEN_UNKNOWN = "TOKEN_UNKNOWN"  # noqa: S105
    TOKEN_EXPIRED = "TOKEN_EXPIRED"  # noqa: S105
    ROLE_FORBIDDEN = "ROLE_FORBIDDEN"


ERROR_DOMAIN = "wiserl"
