"""Sessions: which samplers are there, under which index, and what is remembered of those gone.

A state machine without network or clock. A session ends when its sampler leaves or is silent for a
lease; its index is free at once. What is remembered of it is the last sequence, for a while, also
by the next process: a sampler that comes back goes on where it was.
"""

from __future__ import annotations

import collections
import itertools
from typing import TYPE_CHECKING

from common.errors import Reason
from common.statuses import Code
from learner.front.quota import ByteQuota
from learner.front.refusals import Refusal
from learner.front.session import INCARNATIONS, Session
from learner.rounds import Seat
from learner.totals import SamplerTotals, Totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from learner.front.settings import Limits
    from protos.wiserl.v1 import grant_pb2, learner_pb2

MAX_SAMPLERS = 4096
"""Also the bound of an index; connections run out long before."""

SEQUENCE_RETENTION_SECONDS = 900.0
"""How long a gone sampler's last sequence is kept; a push is retried for far shorter."""


class Sessions:
    """All sessions, in the order of their index, and what outlives them.

    Args:
        limits: What they may ask for.
        totals: Of the run; `samplers` of it follows what is known here.
    """

    def __init__(self, limits: Limits, totals: Totals) -> None:
        self._limits = limits
        self._totals = totals
        self._restarts = totals.restarts
        self._live: dict[str, Session] = {}
        self._registrations: collections.Counter[int] = collections.Counter()
        self._revisions = numbers(totals.restarts)
        self._gone: dict[str, float | None] = dict.fromkeys(totals.samplers)
        """Since when each is gone, the longest first; None where that was before this process."""
        self.changed: set[str] = set()
        """Samplers whose grants changed since the shell last looked."""

    def __len__(self) -> int:
        """How many samplers are there."""
        return len(self._live)

    def __iter__(self) -> Iterator[Session]:
        """The sessions by index."""
        return iter(sorted(self._live.values(), key=lambda session: session.index))

    def get(self, sampler_id: str) -> Session:
        """The session of a sampler.

        Raises:
            Refusal: FAILED_PRECONDITION `UNKNOWN_SAMPLER`.
        """
        session = self._live.get(sampler_id)
        if session is None:
            raise Refusal.precondition(
                Reason.UNKNOWN_SAMPLER,
                f"no session of sampler_id {sampler_id[:64]!r}: it never registered, left, or was "
                f"silent for {self._limits.lease_milliseconds} ms; register again",
            )
        return session

    def find(self, sampler_id: str) -> Session | None:
        """The session of a sampler, or None."""
        return self._live.get(sampler_id)

    def seats(self) -> list[Seat]:
        """The samplers to deal to, by index."""
        return [Seat(session.sampler_id, session.slots) for session in self]

    def open(self, now: float, request: learner_pb2.RegisterRequest, reserved: int) -> Session:
        """Opens a session in place of the one that the sampler may have had.

        The caller has ended the former session's grants.

        Raises:
            Refusal: RESOURCE_EXHAUSTED: too many samplers, or no memory for its pushes is left.
        """
        former = self._live.get(request.sampler_id)
        self._check_room(reserved, former)
        index = former.index if former else self._index(request)
        unused = former is not None and not former.has_pulled
        if not unused:
            self._registrations[index] += 1
        session = Session(
            sampler_id=request.sampler_id,
            name=request.name,
            index=index,
            slots=request.slots,
            max_slots_per_push=request.max_slots_per_push,
            reserved_bytes=reserved,
            incarnation_base=self._incarnation_base(index),
            grants_revision=next(self._revisions),
            totals=self._remembered(request.sampler_id),
            registered_at=now,
            pulled_at=now,
            moved_at=now,
            quota=former.quota if former else self._quota(),
        )
        self._gone.pop(request.sampler_id, None)
        self._live[session.sampler_id] = session
        self.changed.add(session.sampler_id)
        return session

    def _quota(self) -> ByteQuota | None:
        rate = self._limits.bytes_per_second
        return None if rate is None else ByteQuota(rate)

    def _remembered(self, sampler_id: str) -> SamplerTotals:
        """What is known of a sampler; of the others, no more are remembered than there is room."""
        samplers = self._totals.samplers
        if sampler_id not in samplers:
            if len(samplers) >= MAX_SAMPLERS:
                self._forget(next(iter(self._gone)))
            samplers[sampler_id] = SamplerTotals()
        return samplers[sampler_id]

    def _check_room(self, reserved: int, former: Session | None) -> None:
        others = [session for session in self._live.values() if session is not former]
        if len(others) >= MAX_SAMPLERS:
            raise Refusal(
                Code.RESOURCE_EXHAUSTED,
                Reason.NO_ROOM,
                f"{len(others)} samplers are registered, the most is {MAX_SAMPLERS}; "
                "give fewer samplers more slots",
            )
        left = self._limits.push_budget_bytes - sum(session.reserved_bytes for session in others)
        if reserved > left:
            raise Refusal(
                Code.RESOURCE_EXHAUSTED,
                Reason.NO_ROOM,
                f"a push of this sampler may take {reserved} bytes, but only {left} of "
                f"push_budget_bytes ({self._limits.push_budget_bytes}) are left; lower the "
                "sampler's slots per push or raise the learner's push_budget_bytes",
            )

    def _index(self, request: learner_pb2.RegisterRequest) -> int:
        taken = {session.index for session in self._live.values()}
        previous = request.previous_index if request.HasField("previous_index") else MAX_SAMPLERS
        if previous < MAX_SAMPLERS and previous not in taken:
            return previous
        return next(index for index in itertools.count() if index not in taken)

    def _incarnation_base(self, index: int) -> int:
        """Counts registrations of the index, in this process and apart for each one before it."""
        return (self._restarts << 44) + (self._registrations[index] - 1) * INCARNATIONS

    def close(self, now: float, session: Session) -> None:
        """Ends a session; its index and its memory are free."""
        del self._live[session.sampler_id]
        self._gone[session.sampler_id] = now
        self.changed.add(session.sampler_id)

    def pass_over(self, sampler_id: str, sequence: int) -> bool:
        """Notes that a push of a sampler that is gone was refused; answers whether it is new."""
        if sampler_id not in self._gone:
            return True
        totals = self._totals.samplers[sampler_id]
        is_new = sequence > totals.sequence
        totals.sequence = max(totals.sequence, sequence)
        return is_new

    def forget(self, now: float) -> None:
        """Forgets the sequences of samplers that are gone for long."""
        while self._gone:
            longest, since = next(iter(self._gone.items()))
            if since is None:
                # Known from before this process, whose time begins here.
                self._gone = {name: now if at is None else at for name, at in self._gone.items()}
                since = now
            if now - since <= SEQUENCE_RETENTION_SECONDS:
                break
            self._forget(longest)

    def _forget(self, sampler_id: str) -> None:
        del self._gone[sampler_id]
        del self._totals.samplers[sampler_id]

    def renew(self, session: Session, request: learner_pb2.PullWeightsRequest, now: float) -> None:
        """Takes note of a pull that arrived at `now`: it renews the lease."""
        session.has_pulled = True
        session.pulled_at = max(session.pulled_at, now)
        session.version = request.have_version
        if request.pushing_sequence != session.pushing:
            session.pushing, session.pushing_since = request.pushing_sequence, now
        is_pushing = (
            session.pushing > session.last_sequence
            and now <= session.pushing_since + self._limits.longest_push_seconds
        )
        if is_pushing or request.progress.rows_rolled > session.progress.rows_rolled:
            session.moved_at = max(session.moved_at, now)
        session.progress.CopyFrom(request.progress)

    def put(self, session: Session, grants: Iterable[grant_pb2.Grant]) -> None:
        """Adds to a session's grants."""
        for grant in grants:
            session.grants[grant.grant_id] = grant
            self._revise(session)

    def drop(self, session: Session, grant_ids: Iterable[int]) -> None:
        """Takes away from a session's grants those that it has."""
        for grant_id in grant_ids:
            if session.grants.pop(grant_id, None) is not None:
                self._revise(session)

    def _revise(self, session: Session) -> None:
        session.grants_revision = next(self._revisions)
        self.changed.add(session.sampler_id)


def numbers(restarts: int) -> Iterator[int]:
    """Numbers from 1 that no earlier process of the run gave out."""
    return itertools.count((restarts << 32) + 1)
