"""The policies that a pull brings: which models the sampler has, and which it still lacks."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from common.errors import InvalidFieldError

if TYPE_CHECKING:
    from protos.wiserl.v1 import learner_pb2
    from sampler.pool import Pool


class Policies:
    """The newest model, which collects, and the one that evaluates.

    Attributes:
        version: The newest version, 0 before the first.
        model_sha256: Of its model.
        scalars_version: Of the exploration values at hand.
        evaluation_version: The version that evaluates; 0 for none.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.reset()

    def reset(self) -> None:
        """The pool has forgotten everything."""
        self.version = 0
        self.model_sha256 = b""
        self.scalars_version = 0
        self.evaluation_version = 0
        self._model = b""

    def take(self, response: learner_pb2.PullWeightsResponse, asked: int) -> None:
        """Hands the pool what a pull brought.

        Args:
            response: The answer.
            asked: The version that the pull named; 0 for the newest.

        Raises:
            WiseRLError: The model is damaged, or none that a sampler runs; its version is not
                taken.
        """
        if response.scalars_version != self.scalars_version:
            self._pool.set_scalars(response.scalars)
            self.scalars_version = response.scalars_version
        if asked and response.version == asked:
            self._pool.set_evaluation_policy(asked, self._checked_model(response))
            self.evaluation_version = asked
        elif response.version > self.version:
            model = self._checked_model(response)
            golden = response.golden if response.HasField("golden") else None
            self._pool.set_policy(response.version, model, golden)
            self.version, self._model = response.version, model
            self.model_sha256 = response.model_sha256

    def _checked_model(self, response: learner_pb2.PullWeightsResponse) -> bytes:
        if not response.HasField("model"):
            if response.model_sha256 != self.model_sha256:
                raise InvalidFieldError(
                    "model", f"is absent for version {response.version}, whose model is another"
                )
            return self._model
        model = response.model
        found = hashlib.sha256(model).digest()
        if found != response.model_sha256:
            raise InvalidFieldError(
                "model",
                f"{len(model)} bytes of version {response.version} have SHA-256 {found.hex()}, "
                f"announced was {response.model_sha256.hex()}",
            )
        return model

    def has(self, version: int) -> bool:
        """Whether the model of `version` is at hand."""
        return version in (self.evaluation_version, self.version) and version > 0

    def can_evaluate(self, version: int) -> bool:
        """Makes `version` the one that evaluates; False where its model is not at hand."""
        if not self.has(version):
            return False
        if version != self.evaluation_version:
            self._pool.set_evaluation_policy(version, self._model)
            self.evaluation_version = version
        return True
