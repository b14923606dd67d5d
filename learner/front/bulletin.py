"""The bulletin: the newest policy and scalars, and what of them is news to a sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import Reason
from common.statuses import Code
from learner.exploration import Ladder
from learner.front.refusals import Refusal
from protos.wiserl.v1 import learner_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from learner.evaluations import Evaluations
    from learner.exploration import Exploration
    from learner.front.session import Session
    from learner.publishing.publication import Publication
    from learner.rounds import Seat


class Bulletin:
    """What is published.

    Attributes:
        publication: The newest version; None while there is none.
    """

    def __init__(self, first_scalars_version: int) -> None:
        self.publication: Publication | None = None
        self._scalars: dict[str, float | list[float] | Ladder] = {}
        self._scalars_version = 0
        self._next_scalars_version = first_scalars_version
        self._seats: list[Seat] = []

    @property
    def version(self) -> int:
        """The newest version; 0 while there is none."""
        return self.publication.version if self.publication else 0

    def publish(self, publication: Publication) -> None:
        """Makes a publication the newest one.

        Raises:
            ValueError: Its version is not above the newest one.
        """
        if publication.version <= self.version:
            raise ValueError(
                f"version {publication.version} is not above {self.version}, the newest one; "
                "versions never go backwards"
            )
        self.publication = publication

    def set_scalars(self, scalars: Mapping[str, Exploration]) -> bool:
        """Sets all scalars, under a new version where any differs from what it was.

        Returns:
            Whether any does.
        """
        values = {
            key: value if isinstance(value, int | float | Ladder) else list(value)
            for key, value in sorted(scalars.items())
        }
        if values == self._scalars:
            return False
        self._scalars = values
        self._revise_scalars()
        return True

    def seat(self, seats: list[Seat]) -> bool:
        """Takes note of who is there, by index: a ladder runs over all of their slots.

        Returns:
            Whether that changes anybody's scalars.
        """
        if seats == self._seats:
            return False
        self._seats = seats
        if not any(isinstance(value, Ladder) for value in self._scalars.values()):
            return False
        self._revise_scalars()
        return True

    def _revise_scalars(self) -> None:
        self._scalars_version = self._next_scalars_version
        self._next_scalars_version += 1

    def _scalars_of(self, session: Session) -> list[learner_pb2.Scalar]:
        return [
            learner_pb2.Scalar(key=key, values=self._values(value, session))
            for key, value in self._scalars.items()
        ]

    def _values(self, value: float | list[float] | Ladder, session: Session) -> list[float]:
        if isinstance(value, int | float):
            return [value]
        if isinstance(value, list):
            return value
        ids = [seat.sampler_id for seat in self._seats]
        slots = [seat.slots for seat in self._seats]
        first = sum(slots[: ids.index(session.sampler_id)])
        return value.values(first, session.slots, sum(slots))

    def find(self, version: int, evaluations: Evaluations) -> Publication | None:
        """The publication that a pull asks for: 0 for the newest, or one that is still evaluated.

        Raises:
            Refusal: NOT_FOUND `VERSION_GONE`.
        """
        if version in {0, self.version}:
            return self.publication
        pinned = evaluations.pinned(version)
        if pinned is None:
            raise Refusal(
                Code.NOT_FOUND,
                Reason.VERSION_GONE,
                f"version {version} is not kept: its evaluation is complete, or it never had one; "
                "pull without a version",
            )
        return pinned

    def is_news(self, session: Session, request: learner_pb2.PullWeightsRequest) -> bool:
        """Whether a sampler lacks anything, or asks for a certain version and so for an answer."""
        return (
            request.version > 0
            or request.have_version != self.version
            or request.have_scalars_version != self._scalars_version
            or request.have_grants_revision != session.grants_revision
        )

    def news(
        self,
        session: Session,
        request: learner_pb2.PullWeightsRequest,
        publication: Publication | None,
    ) -> learner_pb2.PullWeightsResponse:
        """Everything, but for the model and the scalars that the sampler has."""
        response = learner_pb2.PullWeightsResponse(
            scalars_version=self._scalars_version,
            grants_revision=session.grants_revision,
            grants=session.grants.values(),
        )
        if request.have_scalars_version != self._scalars_version:
            response.scalars.extend(self._scalars_of(session))
        if publication is None:
            return response
        response.version = publication.version
        response.model_sha256 = publication.sha256
        if request.have_model_sha256 != publication.sha256:
            response.model = publication.model
        if not request.have_model_sha256:
            response.golden.CopyFrom(publication.golden())
        return response
