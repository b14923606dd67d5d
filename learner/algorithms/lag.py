"""What asynchronous on-policy algorithms share: how old the experience of an update may be."""

from __future__ import annotations

import dataclasses

from common.errors import InvalidFieldError
from learner.algorithms.on_policy_settings import PolicyGradientConfig
from learner.staleness import StalenessSettings


@dataclasses.dataclass(frozen=True)
class LagConfig(PolicyGradientConfig):
    """Settings of an algorithm that learns from fragments of several versions at once.

    An algorithm whose settings are of this kind is trained asynchronously unless told otherwise: an
    update takes the `n_envs` fragments of `n_steps` rows that came first, whoever they are from.
    """

    max_staleness: int = 4
    """Versions by which the policy that acted may lie behind the newest one when its experience is
    trained on; what is older is dropped and counted."""
    max_publish_interval: int = 32
    """Updates between two versions, at most. The interval adapts, so that at most 5 % of the
    experience is too old."""
    queue_size: int = 0
    """Fragments that wait to be trained on, at most; 0 is as many as an update takes. Samplers that
    bring more wait."""
    rho_clip: float = 1.0
    """rho_bar of V-trace: bounds the weight of a step whose action is now likelier than it was."""
    c_clip: float = 1.0
    """c_bar of V-trace, at most rho_clip: bounds how far what followed reaches back."""

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            InvalidFieldError: A value that cannot work, with what it must be.
        """
        super().__post_init__()
        for field in ("rho_clip", "c_clip"):
            self._check(field, getattr(self, field) > 0, "must be above 0")
        if self.c_clip > self.rho_clip:
            raise InvalidFieldError(
                "c_clip", f"{self.c_clip} exceeds rho_clip ({self.rho_clip}); lower it"
            )
        self._check("queue_size", self.queue_size >= 0, "must not be negative")
        if self.n_envs != "auto":
            self.staleness(self.n_envs)

    def staleness(self, fragments: int) -> StalenessSettings:
        """The bounds for updates of so many fragments.

        Raises:
            InvalidFieldError: There is none that holds them.
        """
        return StalenessSettings(
            max_staleness=self.max_staleness,
            batch_fragments=fragments,
            queue_fragments=self.queue_size or fragments,
            max_publish_interval=self.max_publish_interval,
        )
