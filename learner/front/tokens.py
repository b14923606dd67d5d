"""The tokens that a learner knows: whose they are, what they allow, until when."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import enum
import hashlib
from typing import TYPE_CHECKING

from common.errors import Reason, WiseRLError
from common.security import TOKEN_PREFIX, parse_token
from common.statuses import Code
from common.watched_files import WatchedFiles, read
from learner.front.refusals import Refusal
from protos.wiserl.v1 import learner_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


class Role(enum.StrEnum):
    """What a token is for."""

    SAMPLER = "sampler"
    VIEWER = "viewer"


_SERVICE = learner_pb2.DESCRIPTOR.services_by_name["LearnerService"].full_name
_BOTH = frozenset(Role)

ALLOWED: Mapping[str, frozenset[Role]] = {
    f"/{_SERVICE}/{name}": roles
    for name, roles in {
        "GetRun": _BOTH,
        "Register": frozenset({Role.SAMPLER}),
        "PullWeights": frozenset({Role.SAMPLER}),
        "PushTrajectories": frozenset({Role.SAMPLER}),
        "ReportEpisodes": frozenset({Role.SAMPLER}),
        "WatchRun": frozenset({Role.VIEWER}),
    }.items()
}
"""Who may call what; what is not here nobody may."""


@dataclasses.dataclass(frozen=True)
class Grantee:
    """Whose a token is.

    Attributes:
        role: What it allows.
        expires: After when it is refused; None for never.
    """

    role: Role
    expires: dt.datetime | None


def parse(text: str, origin: str) -> dict[bytes, Grantee]:
    """The tokens of a file, by their SHA-256: one a line, as `ROLE TOKEN [EXPIRES]`.

    ROLE is `sampler` or `viewer`, EXPIRES a time of ISO 8601 with its offset, such as
    `2027-01-31T00:00:00Z`. What follows a `#` at the start of a line is a comment.

    Raises:
        WiseRLError: A line that is none of that, a token twice, or no token at all.
    """
    found: dict[bytes, Grantee] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        # The token itself is never repeated in an error: it would stand in a log.
        where = f"{origin}, line {number}"
        words = line.split()
        if len(words) not in {2, 3} or words[0] not in set(Role):
            raise WiseRLError(f"{where}: is no `sampler TOKEN` or `viewer TOKEN [EXPIRES]`")
        digest = _digest(parse_token(words[1], where))
        if digest in found:
            raise WiseRLError(f"{where}: the token stands there twice; give every line its own")
        expires = _time(words[2], where) if len(words) == 3 else None
        found[digest] = Grantee(Role(words[0]), expires)
    if not found:
        raise WiseRLError(f"{origin} holds no token; make some with `wiserl credentials`")
    return found


def _text(path: Path) -> str:
    return read(path, "the file of tokens").decode("utf-8", errors="replace")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _time(text: str, where: str) -> dt.datetime:
    with contextlib.suppress(ValueError):
        time = dt.datetime.fromisoformat(text)
        if time.tzinfo is not None:
            return time
    raise WiseRLError(f"{where}: {text!r} is no time with an offset, such as 2027-01-31T00:00:00Z")


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Tokens:
    """The tokens of a file, which may be replaced at any time.

    Looking one up takes its SHA-256 first, so that how long it takes tells nothing about the token.

    Args:
        path: The file, see `parse`.
        now: The time.

    Raises:
        WiseRLError: The file cannot be read or parsed.
    """

    def __init__(self, path: Path, now: Callable[[], dt.datetime] = _utc_now) -> None:
        self._known = WatchedFiles([path], lambda: parse(_text(path), str(path)))
        self._now = now

    def check(self, method: str, authorization: str | None) -> Role:
        """Whose call it is.

        Args:
            method: Such as `/wiserl.v1.LearnerService/GetRun`.
            authorization: The metadatum of that name; None where the call has none.

        Raises:
            Refusal: UNAUTHENTICATED without a token that is known and not expired;
                PERMISSION_DENIED where its role may not call this.
        """
        token = (authorization or "").removeprefix(TOKEN_PREFIX)
        if not authorization or token == authorization:
            raise Refusal(
                Code.UNAUTHENTICATED,
                Reason.TOKEN_MISSING,
                "the call has no metadatum `authorization: Bearer <token>`; give the client "
                "--token-file",
            )
        grantee = self._known.get().get(_digest(token))
        if grantee is None:
            raise Refusal(
                Code.UNAUTHENTICATED,
                Reason.TOKEN_UNKNOWN,
                "this learner does not know the token; add it to its --tokens-file, or give the "
                "client one of those",
            )
        if grantee.expires is not None and self._now() >= grantee.expires:
            raise Refusal(
                Code.UNAUTHENTICATED,
                Reason.TOKEN_EXPIRED,
                f"the token expired at {grantee.expires.isoformat()}; replace the client's "
                "--token-file",
            )
        if grantee.role not in ALLOWED.get(method, ()):
            raise Refusal(
                Code.PERMISSION_DENIED,
                Reason.ROLE_FORBIDDEN,
                f"a token of role {grantee.role} may not call {method[:128]}",
            )
        return grantee.role
