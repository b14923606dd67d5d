"""Who is told how a run goes on: its tables, its curves, its progress bar, and a user's callbacks.

All of them are observers, and all are told of the same events in the same order. To write one,
subclass `Observer` and override what you want to hear of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import WiseRLError
from common.logging import Logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from learner.metrics import Evaluation
    from learner.outcome import Outcome
    from learner.run_folder import RunFolder
    from learner.statistics import FinishedEpisode

_log = Logger()


class StopTraining(Exception):  # noqa: N818 - a wish, no error
    """Raise it in an observer to end the run early and in order.

    Everyone is told of the event in which it was raised. Then nothing more is trained: the newest
    policy gets the final evaluation, a checkpoint is written, samplers are told that the run is
    over, and the run counts as finished. Where the run is ending anyhow it changes nothing.

    Args:
        reason: Why, for people; it stands in `result.json` as `stop_reason`.
    """

    def __init__(self, reason: str = "a callback had enough") -> None:
        super().__init__(reason)
        self.reason = reason


class CallbackError(WiseRLError):
    """An observer raised something other than StopTraining, which ends the run as failed.

    The traceback is in the log, and a checkpoint is written.
    """


class Observer:
    """Does nothing; subclasses do what they like with the events that they override.

    Calls come from the training thread, one after the other, and training waits for them: be quick,
    or hand over to a thread. The order is `opened`, `began`, then `episodes_ended`, `trained`,
    `evaluated` and `checkpointed` as they come, then `ended` and `close`. A run that fails to start
    may leave out all but `close`.

    Raise `StopTraining(reason)` to end the run early. Anything else that is raised ends it as
    failed.
    """

    def opened(self, folder: RunFolder, *, resumed: bool) -> None:
        """The run has a folder with `config.yaml` in it, and waits for its first sampler.

        Args:
            folder: The run's.
            resumed: Whether the run goes on with what an earlier process has trained.
        """

    def began(self, version: int) -> None:
        """The policy of `version` is published, and samplers roll."""

    def episodes_ended(self, episodes: Sequence[FinishedEpisode]) -> None:
        """Training episodes have ended; they are in the order in which they did."""

    def trained(self, environment_steps: int, version: int, metrics: Mapping[str, float]) -> None:
        """A row of `metrics.csv`.

        Args:
            environment_steps: That the run has taken and learned from so far.
            version: The newest policy published, trained on these steps.
            metrics: Means over the last training episodes (`rollout/...`), what the algorithm
                reported (`train/...`), and what depends on the machine (`time/...`).
        """

    def evaluated(self, evaluation: Evaluation) -> None:
        """An evaluation is complete; they come in the order of versions, the final one last."""

    def checkpointed(self, environment_steps: int) -> None:
        """A checkpoint and the policy of these steps are in the run's folder."""

    def ended(self, outcome: Outcome) -> None:
        """The run is over; `outcome` is what `result.json` will say."""

    def close(self) -> None:
        """The last call, however the run ended: let go of what you hold. Errors are logged."""


class Observers(Observer):
    """Tells several observers of everything, each whatever the others do.

    A wish to stop is kept, not raised: whoever trains looks at `stop_reason` between two events.
    Every event but `close` raises CallbackError where an observer failed, once all are told.

    Args:
        observers: In the order in which they are told; an Observers stands for those in it.

    Attributes:
        observers: All of them.
        stop_reason: Why the run should end, of the first that raised StopTraining; None for none.
    """

    def __init__(self, observers: Iterable[Observer]) -> None:
        self.stop_reason: str | None = None
        self.observers: tuple[Observer, ...] = tuple(
            leaf
            for observer in observers
            for leaf in (observer.observers if isinstance(observer, Observers) else (observer,))
        )

    def opened(self, folder: RunFolder, *, resumed: bool) -> None:
        """Tells all."""
        self._tell("opened", folder, resumed=resumed)

    def began(self, version: int) -> None:
        """Tells all."""
        self._tell("began", version)

    def episodes_ended(self, episodes: Sequence[FinishedEpisode]) -> None:
        """Tells all."""
        self._tell("episodes_ended", episodes)

    def trained(self, environment_steps: int, version: int, metrics: Mapping[str, float]) -> None:
        """Tells all."""
        self._tell("trained", environment_steps, version, metrics)

    def evaluated(self, evaluation: Evaluation) -> None:
        """Tells all."""
        self._tell("evaluated", evaluation)

    def checkpointed(self, environment_steps: int) -> None:
        """Tells all."""
        self._tell("checkpointed", environment_steps)

    def ended(self, outcome: Outcome) -> None:
        """Tells all."""
        self._tell("ended", outcome)

    def close(self) -> None:
        """Closes all, whatever one of them raises."""
        for observer in self.observers:
            try:
                observer.close()
            except Exception:  # noqa: BLE001 - the run is over, and the others are to be closed
                _log.exception("callback_failed", callback=_name(observer), told="close")

    def _tell(self, event: str, *arguments: object, **named: object) -> None:
        failure: CallbackError | None = None
        cause: Exception | None = None
        for observer in self.observers:
            try:
                getattr(observer, event)(*arguments, **named)
            except StopTraining as wish:
                self.stop_reason = self.stop_reason or wish.reason
            except Exception as error:  # noqa: BLE001 - a user's code may raise anything
                name = _name(observer)
                _log.exception("callback_failed", callback=name, told=event)
                cause = cause or error
                failure = failure or CallbackError(
                    f"callback {name} failed in {event}: {type(error).__name__}: {error}"
                )
        if failure is not None:
            raise failure from cause


def _name(observer: Observer) -> str:
    return type(observer).__qualname__
