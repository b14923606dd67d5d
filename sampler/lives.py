"""Where each slot of a worker stands: observation, recurrent state, open episode, next row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sampler.acting import ActingArrays
from sampler.episodes import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from common.signature import Signature
    from common.specs import EnvironmentSpec
    from sampler.seeding import SlotIdentity


class Lives:
    """The slots of a worker between segments.

    Args:
        signature: What the policy is fed.
        spec: The environment's.
        identities: The slots, in the order of the environment copies.

    Attributes:
        identities: The slots.
        home: The arrays of all slots; a segment of all of them is rolled in these.
        pending: `[K]` bool, whether a slot's coming row is lost to a reset.
        tally: Returns and lengths of the open episodes.
        next_row: `[K]`, the number of each slot's coming row.
        noise_keys: `[K]`.
    """

    def __init__(
        self, signature: Signature, spec: EnvironmentSpec, identities: Sequence[SlotIdentity]
    ) -> None:
        slots = len(identities)
        self.identities = tuple(identities)
        self.home = ActingArrays(signature, spec, slots, greedy=False)
        self.home.starting[:] = True
        self.pending = np.zeros(slots, np.bool_)
        self.tally = Tally(slots, agents=len(spec.agents) or None)
        self.next_row = np.zeros(slots, np.uint64)
        self.noise_keys = np.array([one.noise_key() for one in identities], np.uint64)
        self._signature, self._spec = signature, spec
        self._positions = {one.slot: position for position, one in enumerate(identities)}
        self._away: dict[int, ActingArrays] = {}

    def __len__(self) -> int:
        """K."""
        return len(self.identities)

    def positions(self, slots: Sequence[int]) -> NDArray[np.intp]:
        """Where the slots of these numbers are among the copies, `[B]`."""
        return np.array([self._positions[slot] for slot in slots], np.intp)

    def arrive(self, chosen: NDArray[np.intp]) -> ActingArrays:
        """Arrays for the chosen slots that hold where each of them stands."""
        if len(chosen) == len(self):
            return self.home
        arrays = self._away.get(len(chosen))
        if arrays is None:
            arrays = ActingArrays(self._signature, self._spec, len(chosen), greedy=False)
            self._away[len(chosen)] = arrays
        for here, home in _pairs(arrays, self.home):
            here[...] = home[chosen]
        return arrays

    def leave(self, chosen: NDArray[np.intp], arrays: ActingArrays) -> None:
        """Keeps where the chosen slots stand now."""
        if arrays is not self.home:
            for here, home in _pairs(arrays, self.home):
                home[chosen] = here


def _pairs(some: ActingArrays, every: ActingArrays) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """The arrays that a slot's life goes on from, of some slots and of all."""
    yield some.starting, every.starting
    yield from zip(some.live.arrays(), every.live.arrays(), strict=True)
    for key, state in some.states.items():
        yield state, every.states[key]
