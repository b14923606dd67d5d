"""What training needs of a front: a coordinator to lock, and a way to wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from common.errors import WiseRLError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from learner.front.coordinator import Coordinator

T = TypeVar("T")


class DrainingError(WiseRLError):
    """The learner was told to stop while it trained or waited for samplers."""

    def __init__(self) -> None:
        super().__init__("the learner was told to stop")


class Front(Protocol):
    """Implemented by the gRPC server and by the in-process pump."""

    def now(self) -> float:
        """The coordinator's time in seconds, from any origin; it never falls."""

    def locked(self) -> AbstractContextManager[Coordinator]:
        """The coordinator for oneself; on leaving, whoever waits for a change is told of it.

        What is changed under one lock is seen at once: publish and open a round together, and one
        answer brings samplers both.
        """

    @property
    def draining(self) -> bool:
        """Whether the learner was told to stop; takes no lock, to be asked often."""

    def wait(self, ready: Callable[[Coordinator], T | None]) -> T:
        """Blocks until `ready(coordinator)`, called under the lock, is not None, and answers that.

        It is called at the start and after each of `Coordinator.milestones`.

        Raises:
            DrainingError: The coordinator drains.
        """
