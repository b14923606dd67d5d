"""Plain Gymnasium environments, stepped one by one and reset one step late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sampler.environments import actions, metrics, spaces
from sampler.environments.observations import writer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import gymnasium

    from common.specs import EnvironmentSpec
    from sampler.environments.registry import Recipe
    from sampler.environments.stepping import Observed, Tape


def specification(environment: gymnasium.Env[Any, Any]) -> EnvironmentSpec:
    """The spec of a copy; resets it once, to see what its `info` tells.

    Raises:
        UnsupportedSpaceError: It has a space that the contract lacks.
    """
    _, info = environment.reset(seed=0)
    known = environment.spec
    return spaces.specification(
        environment.observation_space,
        environment.action_space,
        info,
        known.max_episode_steps if known is not None else None,
    )


class PlainEnvironments:
    """K separate copies, each with a seed of its own.

    Args:
        recipe: How to build a copy.
        copies: K.
    """

    late = True
    together = False

    def __init__(self, recipe: Recipe, copies: int) -> None:
        self.copies = copies
        self._environments = [recipe.plain() for _ in range(copies)]
        self.spec = specification(self._environments[0])

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        """Of one copy."""
        return self._environments[0].observation_space

    def reset(self, seeds: Sequence[int], live: Observed, counters: memoryview[int]) -> None:
        """Begins the first episode of every copy with its seed."""
        write = writer(self.observation_space, live)
        for position, environment in enumerate(self._environments):
            write(position, *environment.reset(seed=seeds[position]))
            counters[1] += 1

    def stepper(self, tape: Tape, positions: Sequence[int]) -> Callable[[int], None]:
        """Steps the copies at `positions` only; the others idle."""
        environments = [self._environments[position] for position in positions]
        steps = [environment.step for environment in environments]
        write = writer(self.observation_space, tape.live)
        to_actions = actions.for_each(environments[0].action_space)
        action, starting, endings = tape.action, tape.starting, tape.endings
        rewards, terminated, truncated = tape.rewards, tape.terminated, tape.truncated
        counters = tape.counters
        pending = tape.pending.tolist()  # a list is read faster than an array

        def step_row(row: int) -> None:
            starting[:] = False
            row_rewards = rewards[row]
            position = 0
            for step, act in zip(steps, to_actions(action), strict=True):
                if pending[position]:
                    observation, info = environments[position].reset()
                    pending[position] = False
                    starting[position] = True
                else:
                    observation, reward, ended, cut, info = step(act)
                    row_rewards[position] = reward
                    if ended or cut:
                        terminated[row, position] = ended
                        truncated[row, position] = cut
                        pending[position] = True
                        if info:
                            endings.append((row, position, metrics.of_info(info)))
                write(position, observation, info)
                position += 1  # noqa: SIM113 - dearer with enumerate, as a tuple in a tuple
                counters[0] += 1

        return step_row

    def close(self) -> None:
        """Closes every copy."""
        for environment in self._environments:
            environment.close()
