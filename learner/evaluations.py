"""Evaluations: one greedy episode for each seed, by version, whoever plays it and when it arrives.

A state machine without network or clock. Results are unique by (evaluation, seed) and filed under
the evaluation's own version, whose model is pinned until the last seed is in.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from learner.rounds import Seat, shares_of
from protos.wiserl.v1 import learner_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from learner.publishing.publication import Publication


@dataclasses.dataclass(frozen=True)
class EvaluationGrant:
    """Seeds that one sampler plays.

    Attributes:
        grant_id: Never used for other work.
        sampler_id: Who plays them.
        evaluation_id: Of which evaluation they are.
        version: Of the policy to play with.
        seeds: Which.
    """

    grant_id: int
    sampler_id: str
    evaluation_id: int
    version: int
    seeds: tuple[int, ...]


class Evaluation:
    """One evaluation: its seeds, who plays them, and the episodes so far."""

    def __init__(self, evaluation_id: int, publication: Publication, seeds: Sequence[int]) -> None:
        self.evaluation_id = evaluation_id
        self.publication = publication
        self.grants: dict[int, EvaluationGrant] = {}
        self._order = {seed: place for place, seed in enumerate(seeds)}
        self._undealt = list(seeds)
        self._results: dict[int, learner_pb2.EvaluatedEpisode] = {}
        self._lost: set[str] = set()

    @property
    def complete(self) -> bool:
        """Whether every seed has its episode."""
        return len(self._results) == len(self._order)

    def episodes(self) -> list[learner_pb2.EvaluatedEpisode]:
        """The episodes in the order of the seeds."""
        return [self._results[seed] for seed in self._order if seed in self._results]

    def deal(self, seats: Sequence[Seat], grant_ids: Iterator[int]) -> list[EvaluationGrant]:
        """Deals the seeds that nobody plays evenly over the seats.

        Who lost seeds of this evaluation gets some again only where nobody else is there.
        """
        willing = [seat for seat in seats if seat.sampler_id not in self._lost] or list(seats)
        if not willing or not self._undealt:
            return []
        shares = shares_of(len(self._undealt), [1] * len(willing))
        dealt = []
        for seat, share in zip(willing, shares, strict=True):
            seeds, self._undealt = self._undealt[:share], self._undealt[share:]
            if seeds:
                dealt.append(self._grant(next(grant_ids), seat.sampler_id, seeds))
        return dealt

    def _grant(self, grant_id: int, sampler_id: str, seeds: list[int]) -> EvaluationGrant:
        version = self.publication.version
        grant = EvaluationGrant(grant_id, sampler_id, self.evaluation_id, version, tuple(seeds))
        self.grants[grant_id] = grant
        return grant

    def missing_of(self, sampler_id: str) -> int:
        """How many of a sampler's seeds have no episode yet."""
        return sum(len(self._open(grant)) for grant in self._of(sampler_id))

    def take_back(self, sampler_id: str) -> list[int]:
        """Ends a sampler's grants that lack episodes, whose seeds can be dealt again.

        Returns:
            The grants that are over.
        """
        over = [grant for grant in self._of(sampler_id) if self._open(grant)]
        for grant in over:
            del self.grants[grant.grant_id]
            self._undealt += self._open(grant)
            self._lost.add(sampler_id)
        return [grant.grant_id for grant in over]

    def add(self, episodes: Sequence[learner_pb2.EvaluatedEpisode]) -> int:
        """Files episodes of seeds that were asked for and have none yet; answers how many."""
        accepted = 0
        for episode in episodes:
            if episode.seed in self._results or episode.seed not in self._order:
                continue
            # A copy of its own: a part of a message keeps the whole message alive.
            self._results[episode.seed] = learner_pb2.EvaluatedEpisode()
            self._results[episode.seed].CopyFrom(episode)
            if episode.seed in self._undealt:
                self._undealt.remove(episode.seed)
            accepted += 1
        return accepted

    def _of(self, sampler_id: str) -> list[EvaluationGrant]:
        return [grant for grant in self.grants.values() if grant.sampler_id == sampler_id]

    def _open(self, grant: EvaluationGrant) -> list[int]:
        return [seed for seed in grant.seeds if seed not in self._results]


class Evaluations:
    """All evaluations that run, and those that nobody has taken yet."""

    def __init__(self, evaluation_ids: Iterator[int], grant_ids: Iterator[int]) -> None:
        self._evaluation_ids = evaluation_ids
        self._grant_ids = grant_ids
        self._running: dict[int, Evaluation] = {}
        self._finished: dict[int, list[learner_pb2.EvaluatedEpisode]] = {}

    def start(self, publication: Publication, seeds: Sequence[int]) -> int:
        """Begins an evaluation of a publication; answers its id.

        Raises:
            ValueError: No seeds, or one of them twice.
        """
        if not seeds or len(set(seeds)) < len(seeds):
            raise ValueError(f"an evaluation needs seeds, each once; got {list(seeds)}")
        evaluation_id = next(self._evaluation_ids)
        self._running[evaluation_id] = Evaluation(evaluation_id, publication, seeds)
        return evaluation_id

    def deal(self, seats: Sequence[Seat]) -> list[EvaluationGrant]:
        """Deals all seeds that nobody plays."""
        return [
            grant
            for evaluation in self._running.values()
            for grant in evaluation.deal(seats, self._grant_ids)
        ]

    def take_back(self, sampler_id: str) -> list[int]:
        """Ends a sampler's unfinished grants; answers which."""
        return [
            grant_id
            for evaluation in self._running.values()
            for grant_id in evaluation.take_back(sampler_id)
        ]

    def missing_of(self, sampler_id: str) -> int:
        """How many episodes a sampler still owes."""
        return sum(evaluation.missing_of(sampler_id) for evaluation in self._running.values())

    def running(self, evaluation_id: int) -> Evaluation | None:
        """An evaluation that lacks episodes; None where it is complete, or never was."""
        return self._running.get(evaluation_id)

    def pinned(self, version: int) -> Publication | None:
        """The publication of a version that some evaluation still needs."""
        for evaluation in self._running.values():
            if evaluation.publication.version == version:
                return evaluation.publication
        return None

    def close(self, evaluation: Evaluation) -> list[EvaluationGrant]:
        """Files a complete evaluation, lets go of its model and answers its grants, now over."""
        del self._running[evaluation.evaluation_id]
        self._finished[evaluation.evaluation_id] = evaluation.episodes()
        return list(evaluation.grants.values())

    def take(self, evaluation_id: int) -> list[learner_pb2.EvaluatedEpisode] | None:
        """The episodes of a complete evaluation in the order of its seeds, once; else None.

        Raises:
            KeyError: No such evaluation, or its episodes were taken already.
        """
        if evaluation_id in self._running:
            return None
        return self._finished.pop(evaluation_id)

    def stop(self) -> None:
        """Ends everything that runs."""
        self._running.clear()
