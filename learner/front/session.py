"""A session: one sampler that is there, what it was granted and where it is."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING

from learner.front.refusals import Refusal
from protos.wiserl.v1 import learner_pb2

if TYPE_CHECKING:
    from learner.front.quota import ByteQuota
    from learner.totals import SamplerTotals
    from protos.wiserl.v1 import grant_pb2

JUDGED = 32
"""The last fragments of a sampler, of which more than half must not be stale."""

INCARNATIONS = 1 << 20
"""Incarnation numbers that one registration of an index has to itself."""


@dataclasses.dataclass
class Session:
    """A sampler that is there.

    Attributes:
        sampler_id: Random, of the sampler's process.
        name: For people.
        index: Its number in the run.
        slots: How many environment copies it has.
        max_slots_per_push: The most slots of one push.
        reserved_bytes: Set aside for its pushes.
        incarnation_base: The first incarnation number of its slots.
        grants_revision: Changes with `grants`, never to a value that it had before.
        totals: What outlives the session, above all the last sequence that got a final answer.
        last_answer: What that sequence was answered: a verdict or the refusal.
        registered_at: When it registered, in seconds.
        pulled_at: When it last asked, in seconds.
        moved_at: When it last made progress or got work while it had none, in seconds.
        has_pulled: Whether it ever asked since it registered.
        informed: Whether it was told that the run is over.
        version: The policy version that it said it has.
        environment_steps: Valid steps accepted from it.
        progress: What it last told of its work.
        pushing: The sequence of the push that it last told to be under way; 0 for none.
        pushing_since: When it first told so, in seconds.
        grants: By grant id; what a pull answers.
        lives: By slot: incarnation, and the first row that it may push next.
        stale: Which of its last fragments were too old.
        quota: What it may send; None for no limit. It outlives a new registration.
    """

    sampler_id: str
    name: str
    index: int
    slots: int
    max_slots_per_push: int
    reserved_bytes: int
    incarnation_base: int
    grants_revision: int
    totals: SamplerTotals
    registered_at: float
    pulled_at: float
    moved_at: float
    last_answer: learner_pb2.Verdict.ValueType | Refusal = learner_pb2.VERDICT_ACCEPTED
    has_pulled: bool = False
    informed: bool = False
    version: int = 0
    environment_steps: int = 0
    progress: learner_pb2.SamplerProgress = dataclasses.field(
        default_factory=learner_pb2.SamplerProgress
    )
    pushing: int = 0
    pushing_since: float = 0.0
    grants: dict[int, grant_pb2.Grant] = dataclasses.field(default_factory=dict)
    lives: dict[int, tuple[int, int]] = dataclasses.field(default_factory=dict)
    stale: collections.deque[bool] = dataclasses.field(
        default_factory=lambda: collections.deque(maxlen=JUDGED)
    )
    quota: ByteQuota | None = None

    def charge(self, now: float, size_bytes: int) -> None:
        """Counts a message that has come.

        Raises:
            Refusal: RESOURCE_EXHAUSTED with RetryInfo: it came too early, and counts nothing.
        """
        early = self.quota.charge(now, size_bytes) if self.quota and size_bytes else 0.0
        if self.quota and early:
            raise Refusal.over_quota(self.quota.bytes_per_second, early)

    def judge(self, fragments: int, *, is_stale: bool) -> bool:
        """Notes whether fragments were too old; answers whether most of the last ones were.

        It counts from none again then.
        """
        self.stale.extend([is_stale] * fragments)
        mostly = len(self.stale) == JUDGED and 2 * sum(self.stale) > JUDGED
        if mostly:
            self.stale.clear()
        return mostly

    @property
    def last_sequence(self) -> int:
        """The last sequence that got a final answer; 0 for none."""
        return self.totals.sequence

    def settle(self, sequence: int, answer: learner_pb2.Verdict.ValueType | Refusal) -> int:
        """Makes an answer the final one; answers how many sequences before it never came."""
        gap = sequence - self.last_sequence - 1
        self.totals.sequence, self.last_answer = sequence, answer
        return gap

    def repeated(self, sequence: int) -> learner_pb2.Verdict.ValueType:
        """The answer to a sequence that had one: the same, but DUPLICATE where it was accepted.

        Raises:
            Refusal: It was refused.
        """
        if sequence < self.last_sequence or self.last_answer == learner_pb2.VERDICT_ACCEPTED:
            return learner_pb2.VERDICT_DUPLICATE
        if isinstance(self.last_answer, Refusal):
            raise self.last_answer
        return self.last_answer
