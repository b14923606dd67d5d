"""The coordinator: everything that the service answers from, and that training drives.

It is a state machine without network or clock; see `Answers` for its other side. Whoever shares it
between threads locks it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from common import signature
from common.errors import InvalidFieldError
from learner.front.answers import Answers
from learner.front.queue_intake import QueueIntake
from learner.front.replay_intake import ReplayIntake
from learner.staleness import FRAGMENTS_PER_SLOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from common.signature import Signature
    from learner.experience.on_policy import OnPolicyBatch
    from learner.experience.segment_queue import Fragment
    from learner.experience.store import ExperienceStore
    from learner.exploration import Exploration
    from learner.publishing.publication import Publication
    from learner.rate_limiter import RateLimiter
    from learner.staleness import PublishingInterval, StalenessSettings
    from protos.wiserl.v1 import learner_pb2, trajectory_pb2


@dataclasses.dataclass(frozen=True)
class Changes:
    """Whose waiting calls may have an answer now.

    Attributes:
        everyone: All of them.
        samplers: Those of these samplers.
        pushes: Pushes that are held.
    """

    everyone: bool
    samplers: frozenset[str]
    pushes: bool


class Coordinator(Answers):
    """The state of a run, with what time, the shell and training do to it."""

    # Towards time and the shell.

    def tick(self, now: float) -> None:
        """Ends the leases that ran out by `now`, and deals their work again."""
        if self._dealer.tick(now):
            self._seats_changed()

    def next_tick(self) -> float | None:
        """When `tick` next has something to do, in seconds; None while no sampler is there."""
        return self._dealer.next_tick()

    def take_changes(self) -> Changes:
        """Whose waiting calls to look at again since this was last asked."""
        changes = Changes(
            self._everyone_changed, frozenset(self._sessions.changed), self._pushes_changed
        )
        self._everyone_changed = self._pushes_changed = False
        self._sessions.changed.clear()
        return changes

    # Towards training.

    @property
    def samplers(self) -> int:
        """How many samplers are there."""
        return len(self._sessions)

    @property
    def slots(self) -> int:
        """How many slots they have together; a round of fewer fragments leaves some idle."""
        return sum(session.slots for session in self._sessions)

    def open_run(self, policy: Signature, *, fragment_rows: int) -> None:
        """Lets samplers in: the policy is exported, and its signature is fixed for the run.

        Args:
            policy: The signature.
            fragment_rows: T of the fragments that will be granted; registration refuses samplers
                whose pushes could not hold one, or find no memory.

        Raises:
            ValueError: The run is open, or the signature records no `valid` column.
        """
        if self._signature is not None:
            raise ValueError("the run is open already")
        self._collection.prepare(policy, fragment_rows)
        self._signature = signature.to_proto(policy)
        self._everyone_changed = True

    def refuse_environment(self, message: str) -> None:
        """Answers every registration `ENVIRONMENT_UNSUPPORTED` with this message, for good."""
        self._unsupported = message
        self._everyone_changed = True

    def publish(
        self,
        publication: Publication,
        scalars: Mapping[str, Exploration] | None = None,
    ) -> None:
        """Makes a version the newest one, with new values of the scalars where any are given.

        Raises:
            ValueError: The version is not above the newest one.
        """
        self._bulletin.publish(publication)
        self._books.publications.published(publication.version)
        if scalars is not None:
            self._bulletin.set_scalars(scalars)
        self._everyone_changed = True

    def set_scalars(self, scalars: Mapping[str, Exploration]) -> None:
        """Sets all scalars, without a new version of the policy.

        Each is one number, one for each slot by its number in its sampler, or a `Ladder`, which
        runs over the slots of all samplers in the order of their index and follows who is there.
        """
        if self._bulletin.set_scalars(scalars):
            self._everyone_changed = True

    def open_round(self, now: float, *, n_envs: int, n_steps: int) -> None:
        """Opens a round of the newest version: exactly `n_envs` fragments of `n_steps` rows.

        Publish and open under one lock, so that one answer brings samplers both. The first round
        waits inside for `expect_samplers`.

        Raises:
            ValueError: Nothing is published, the budget is met or the run over, or the round before
                is still open or was not taken.
        """
        if self._bulletin.publication is None:
            raise ValueError("open_run and publish come before the first round")
        self._collection.open_round(now, self._bulletin.version, n_envs=n_envs, n_steps=n_steps)

    def closed_round(self) -> OnPolicyBatch | None:
        """The round whose last fragment has arrived, once; None while there is none."""
        return self._collection.take_closed()

    def open_replay(
        self, now: float, store: ExperienceStore, limiter: RateLimiter, *, fragments_in_flight: int
    ) -> None:
        """Sends all pushes into a store from now on, at the pace of a limiter, and grants credits.

        The first grants wait inside for `expect_samplers`. Of a resumed run whose budget is met,
        nothing is granted, and what the limiter's ratio still demands is due.

        Args:
            now: The time.
            store: Takes fragments of as many rows as `open_run` was told.
            limiter: Counts the store's valid rows.
            fragments_in_flight: Of all samplers together; each has at least one.

        Raises:
            InvalidFieldError: No fragments in flight, or a store of another number of rows.
            ValueError: Nothing is published, or rounds or a replay were opened before.
        """
        if store.block_rows != self._collection.fragment_rows:
            raise InvalidFieldError(
                "block_rows",
                f"{store.block_rows}, but fragments have {self._collection.fragment_rows} "
                "rows; a block holds one fragment",
            )
        self._collection.open_flow(
            now,
            lambda books: ReplayIntake(store, limiter, books),
            version=self.newest_version,
            fragments_in_flight=fragments_in_flight,
        )

    def open_queue(
        self, now: float, settings: StalenessSettings, interval: PublishingInterval
    ) -> None:
        """Sends all pushes into a queue from now on, and grants every slot fragments in flight.

        The first grants wait inside for `expect_samplers`. Of a resumed run whose budget is met,
        nothing is granted.

        Args:
            now: The time.
            settings: How old experience may be, and how much an update takes.
            interval: Adapts to what is found stale.

        Raises:
            InvalidFieldError: So little may be in flight that nobody could roll anything.
            ValueError: Nothing is published, or rounds, a replay or a queue were opened before.
        """
        self._collection.open_flow(
            now,
            lambda books: QueueIntake(settings, interval, books, self._dealer.judged),
            version=self.newest_version,
            fragments_in_flight=settings.most_in_flight,
            per_slot=FRAGMENTS_PER_SLOT,
        )

    def take_fragments(self) -> list[Fragment]:
        """What the next update is to be made on, which makes room for what is held.

        Empty while there is not enough, and without a queue. At the end of the budget the last
        batches may be smaller.
        """
        flow = self._collection.flow
        if not isinstance(flow, QueueIntake):
            return []
        was_full = not flow.has_room()
        taken = flow.take()
        if was_full and flow.has_room():
            self._pushes_changed = True
        return taken

    def updates_due(self) -> int:
        """How many gradient steps may be taken now; 0 without a replay."""
        return self._replay.limiter.due() if self._replay else 0

    @property
    def _replay(self) -> ReplayIntake | None:
        flow = self._collection.flow
        return flow if isinstance(flow, ReplayIntake) else None

    def updated(self, count: int) -> None:
        """Counts gradient steps, which makes room for what is held.

        Raises:
            ValueError: There is no replay.
        """
        replay = self._replay
        if replay is None:
            raise ValueError("updates are counted against a replay; open_replay comes first")
        was_full = not replay.limiter.may_insert()
        replay.limiter.updated(count)
        if was_full and replay.limiter.may_insert():
            self._pushes_changed = True

    def take_ended(self) -> list[tuple[int, trajectory_pb2.Episode]]:
        """The training episodes that came into a replay or queue and were not taken yet, in order.

        Each with the environment steps of the run when it ended.
        """
        return self._collection.flow.take_ended() if self._collection.flow else []

    def take_lags(self) -> dict[str, float]:
        """How far behind the policies were that acted, by metric name, since last asked.

        Of a replay that is what came into it, of a queue what was taken out of it.
        """
        return self._collection.flow.take_lags() if self._collection.flow else {}

    def flow_metrics(self) -> dict[str, float]:
        """The state of the replay or queue by metric name; empty without one."""
        return self._collection.metrics()

    @property
    def is_publication_due(self) -> bool:
        """Whether enough was taken out of a queue since the newest version; False without one."""
        flow = self._collection.flow
        return isinstance(flow, QueueIntake) and flow.is_publication_due

    def start_evaluation(self, now: float, seeds: Sequence[int]) -> int:
        """Has the newest version play a greedy episode for each seed; answers the evaluation's id.

        Raises:
            ValueError: Nothing is published, no seeds, one of them twice, or the run is over.
        """
        publication = self._bulletin.publication
        if publication is None or self._dealer.finish_reason is not None:
            raise ValueError("an evaluation needs a published version and a run that is not over")
        return self._dealer.start_evaluation(now, publication, seeds)

    def finished_evaluation(self, evaluation_id: int) -> list[learner_pb2.EvaluatedEpisode] | None:
        """The episodes of an evaluation in the order of its seeds, once; None while some lack.

        Raises:
            KeyError: No such evaluation, or its episodes were taken already.
        """
        return self._dealer.evaluations.take(evaluation_id)

    def set_metrics(self, metrics: Mapping[str, float]) -> None:
        """Sets the newest values of these metrics, for `WatchRun`."""
        self._metrics.update(metrics)

    def stop_collecting(self) -> None:
        """Ends the collecting, before the step budget is met or after it; pushes are ENDED."""
        self._collection.stop()
        self._everyone_changed = self._pushes_changed = True

    def finish(self, reason: str) -> None:
        """Ends the run: every sampler is told so, and what is still pushed is ENDED."""
        self._collection.abandon()
        self._dealer.finish(reason)
        self._everyone_changed = True
        self.milestones += 1

    def all_informed(self, now: float) -> bool:
        """Whether every sampler that is still there was told that the run is over."""
        self.tick(now)
        return all(session.informed for session in self._sessions)

    def drain(self) -> None:
        """Answers every call UNAVAILABLE from now on: the learner stops and may come back."""
        self.draining = True
        self._everyone_changed = True
        self.milestones += 1
