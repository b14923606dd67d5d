"""The worlds of mpe2's simple_spread, many in one set of arrays.

mpe2 keeps a world of objects for each copy of its environment and computes with arrays of two
numbers. Here is the same arithmetic, in the same order, for all copies at once, so that every
number is the same bit for bit; each copy has its own generator, seeded as mpe2 seeds it.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from gymnasium.utils import seeding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Which: TypeAlias = NDArray[np.int64] | slice

PUSHES = np.array([[0.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]]) * 5.0
"""[5, 2], the force of each action."""

_PLAIN_RULES = {
    "curriculum": False,
    "terminate_on_success": False,
    "num_agent_neighbors": None,
    "num_landmark_neighbors": None,
}
"""Attributes of the scenario: everybody sees everything, and collisions always cost."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """What the arguments of an environment say.

    Attributes:
        agents: A, which is also the number of landmarks.
        local_ratio: The share of an agent's own collisions in its reward; None is all of it.
        max_cycles: Steps of an episode.
    """

    agents: int
    local_ratio: float | None
    max_cycles: int

    @staticmethod
    def of(environment: Any) -> Rules | None:  # noqa: ANN401 - mpe2's, which has no types
        """Those of one of mpe2's; None where it is played by rules that are not known here."""
        scenario = environment.scenario
        plain = all(getattr(scenario, name, value) == value for name, value in _PLAIN_RULES.items())
        shown = environment.render_mode is not None
        if environment.continuous_actions or environment.benchmark_data or shown or not plain:
            return None
        return Rules(len(environment.agents), environment.local_ratio, environment.max_cycles)


class Worlds:
    """K worlds of A agents and as many landmarks.

    Args:
        rules: What is played.
        copies: K.

    Attributes:
        width: F, numbers of an observation.
    """

    def __init__(self, rules: Rules, copies: int) -> None:
        agents = rules.agents
        self._rules = rules
        self._places = np.zeros((copies, agents, 2))
        self._speeds = np.zeros((copies, agents, 2))
        self._landmarks = np.zeros((copies, agents, 2))
        self._steps = np.zeros(copies, np.int64)
        self._generators = [np.random.default_rng(0)] * copies
        self._pairs = list(itertools.combinations(range(agents), 2))
        self._first, self._second = np.array(self._pairs, np.int64).reshape(-1, 2).T
        self._others = np.array(
            [[other for other in range(agents) if other != one] for one in range(agents)], np.int64
        )
        # What agents say to each other comes last, and they are silent.
        self.width = 4 + 2 * agents + 4 * (agents - 1)

    def reset(self, copy: int, seed: int | None) -> None:
        """Begins an episode; without a seed it goes on with the numbers that the copy drew."""
        if seed is not None:
            self._generators[copy], _ = seeding.np_random(seed)
        drawn = self._generators[copy].uniform(-1, +1, (2 * self._rules.agents, 2))
        self._places[copy], self._landmarks[copy] = np.split(drawn, 2)
        self._speeds[copy] = 0.0
        self._steps[copy] = 0

    def step(self, which: Which, actions: NDArray[np.integer[Any]]) -> tuple[Floats, NDArray[Any]]:
        """Moves the agents of k copies by their actions [k, A].

        Returns:
            Rewards [k, A], and [k] bool, whether the episode is cut off.
        """
        places, speeds = self._places[which], self._speeds[which]
        forces = PUSHES[actions]
        apart = places[:, self._first] - places[:, self._second]
        distances = _lengths(apart)
        # Contact as in mpe2: stiffness 100, margin 0.001, agents of radius 0.15.
        depths = np.logaddexp(0, -(distances - 0.3) / 1e-3) * 1e-3
        contacts = 1e2 * apart / distances[..., None] * depths[..., None]
        for pair, (one, other) in enumerate(self._pairs):
            forces[:, one] = contacts[:, pair] + forces[:, one]
            forces[:, other] = -contacts[:, pair] + forces[:, other]
        places = places + speeds * 0.1
        self._places[which] = places
        self._speeds[which] = speeds * 0.75 + forces * 0.1
        self._steps[which] += 1
        rewards = self._rewards(places, self._landmarks[which])
        return rewards, self._steps[which] >= self._rules.max_cycles

    def _rewards(self, places: Floats, landmarks: Floats) -> Floats:
        """[k, A]."""
        close = _lengths(places[:, self._first] - places[:, self._second]) < 0.3
        own = np.zeros(places.shape[:2])
        for pair, (one, other) in enumerate(self._pairs):
            own[:, one] -= close[:, pair]
            own[:, other] -= close[:, pair]
        share = self._rules.local_ratio
        if share is None:
            return own
        nearest = _lengths(places[:, None] - landmarks[:, :, None]).min(2)
        team = np.zeros(len(places))
        for distance in nearest.T:
            team -= distance
        return team[:, None] * (1 - share) + own * share

    def observe(self, which: Which) -> NDArray[np.float32]:
        """[k, A, F] of k copies."""
        places = self._places[which]
        agents, seen = self._rules.agents, np.zeros((*places.shape[:2], self.width), np.float32)
        own = places[:, :, None]
        to_landmarks = self._landmarks[which][:, None] - own
        to_others = places[:, self._others] - own
        seen[..., :2], seen[..., 2:4] = self._speeds[which], places
        ends = 4 + 2 * agents, 2 + 4 * agents
        seen[..., 4 : ends[0]] = to_landmarks.reshape(*places.shape[:2], -1)
        seen[..., ends[0] : ends[1]] = to_others.reshape(*places.shape[:2], -1)
        return seen

    def inwards(self, copy: int) -> NDArray[np.int64]:
        """[A], the actions that take agents of a copy to the middle of its world."""
        places = self._places[copy]
        axis = np.abs(places).argmax(1)
        positive = np.take_along_axis(places, axis[:, None], 1)[:, 0] > 0
        found: NDArray[np.int64] = 2 * axis + np.where(positive, 1, 2)
        return found


def _lengths(vectors: Floats) -> Floats:
    """[..., 2] to [...], rounded as mpe2's are."""
    squares = np.square(vectors)
    lengths: Floats = np.sqrt(squares[..., 0] + squares[..., 1])
    return lengths
