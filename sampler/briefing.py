"""What every worker is told, and told again to one that replaces another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampler.mailbox import Letter

if TYPE_CHECKING:
    from protos.wiserl.v1 import learner_pb2
    from sampler.crew import Crew
    from sampler.hands import Hand
    from sampler.orders import Orders


class Briefing:
    """Keeps the newest letter of each kind that goes to all workers.

    Args:
        orders: What the pool has been told.
        crew: The workers.

    Attributes:
        epoch: Counts registrations, so that what comes of an earlier one is known by it.
        greedy_version: Of the policy that workers evaluate; None for none.
    """

    def __init__(self, orders: Orders, crew: Crew) -> None:
        self.epoch = 0
        self.greedy_version: int | None = None
        self._orders = orders
        self._crew = crew
        self._letters: dict[str, Letter] = {}

    def begin(self) -> None:
        """Tells of a registration; tasks, policies and scalars of the one before are forgotten."""
        self.epoch += 1
        self.greedy_version = None
        self._letters.clear()
        for hand in self._crew.hands:
            hand.drop_tasks()
            self.brief(hand)

    def brief(self, hand: Hand) -> None:
        """Tells a worker all that it needs to begin; nothing before the first registration."""
        registration = self._orders.registration
        if registration is None:
            return
        header = {
            "kind": "configure",
            "epoch": self.epoch,
            "incarnations": self._orders.incarnations_of(hand.worker),
        }
        hand.configuring += 1
        hand.send(Letter(header, [registration.SerializeToString()]))
        for letter in self._letters.values():
            hand.send(letter)

    def set_policy(
        self, version: int, restricted: bytes, model: bytes, golden: learner_pb2.GoldenVector | None
    ) -> None:
        """Tells of the policy to roll with.

        Args:
            version: Its version.
            restricted: What of the model rolling needs.
            model: The whole, which is checked against `golden`.
            golden: None where there is nothing to check.
        """
        header = {"kind": "policy", "version": version}
        self._letters["policy"] = Letter(header, [restricted])
        for hand in self._crew.hands:
            if golden is not None and hand.worker == 0:
                # They run the same code on the same machine: one of them finds out for all.
                parts = [restricted, model, golden.SerializeToString()]
                hand.send(Letter(header, parts))
            else:
                hand.send(self._letters["policy"])

    def set_scalars(self) -> None:
        """Tells of the exploration values."""
        self._send("scalars", Letter({"kind": "scalars", "values": self._orders.scalars}))

    def set_greedy(self, version: int, restricted: bytes) -> None:
        """Tells of the policy to evaluate: what of its model an evaluation needs."""
        self.greedy_version = version
        self._send("greedy", Letter({"kind": "greedy", "version": version}, [restricted]))

    def _send(self, name: str, letter: Letter) -> None:
        self._letters[name] = letter
        for hand in self._crew.hands:
            hand.send(letter)
