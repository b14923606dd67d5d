"""What a sampler knows of itself, for whoever watches it."""

from __future__ import annotations

import collections
import dataclasses
import time

from protos.wiserl.v1 import learner_pb2

READY_SECONDS = 15.0
"""A pull is answered within the wait of 2 s; a sampler that heard nothing for longer idles."""


@dataclasses.dataclass
class Record:
    """What the client's calls tell.

    Attributes:
        calls: Answered calls by method and the name of their status code.
        pulled_at: When a pull was answered last, on the clock of `time.monotonic`.
        progress: As it was told the learner last; totals since registration.
        run_id: The run that the learner serves; None until one was heard of.
        index: The sampler's number in the run; None until it is registered.
        version: The newest policy version of the run that was heard of.
    """

    calls: collections.Counter[tuple[str, str]] = dataclasses.field(
        default_factory=collections.Counter
    )
    pulled_at: float | None = None
    progress: learner_pb2.SamplerProgress = dataclasses.field(
        default_factory=learner_pb2.SamplerProgress
    )
    run_id: str | None = None
    index: int | None = None
    version: int = 0

    def found(self, run: learner_pb2.GetRunResponse) -> None:
        """A learner said what run it serves; versions of another one count no more."""
        if run.run_id != self.run_id:
            self.run_id, self.index, self.version = run.run_id, None, 0

    def registered(self, response: learner_pb2.RegisterResponse) -> None:
        """The learner let this sampler in."""
        self.index = response.index

    def attributes(self) -> dict[str, str | int]:
        """Who this is, for traces; what is not known yet is left out."""
        return {
            name: value
            for name, value in (
                ("wiserl.run_id", self.run_id),
                ("wiserl.sampler_index", self.index),
                ("wiserl.policy_version", self.version or None),
            )
            if value is not None
        }

    def pulled(self, response: learner_pb2.PullWeightsResponse) -> None:
        """A pull was answered."""
        self.pulled_at = time.monotonic()
        self.version = max(self.version, response.version)

    def not_ready(self) -> str:
        """Why the sampler does no work at the moment; empty where it does."""
        if self.pulled_at is None:
            return "not registered with a learner yet"
        silence = time.monotonic() - self.pulled_at
        return f"no word of the learner for {silence:.0f} s" if silence > READY_SECONDS else ""
