"""Plain Gymnasium environments, stepped one by one and reset one step late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sampler.environments import actions, metrics, spaces
from sampler.environments.observations import writer
from sampler.environments.stepping import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import gymnasium
    from numpy.typing import NDArray

    from common.specs import EnvironmentSpec
    from sampler.environments.stepping import Live, Tape


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


LIFE_LOST = "life_lost"
"""The key of `info` by which an environment says that nothing which follows is this step's merit,
although the episode goes on: values see a terminal state, nobody else an end."""


class PlainEnvironments:
    """K separate copies, each with a seed of its own.

    Args:
        environments: The copies.
    """

    late = True
    together = False

    def __init__(self, environments: Sequence[gymnasium.Env[Any, Any]]) -> None:
        self.copies = len(environments)
        self._environments = list(environments)
        self.spec = specification(self._environments[0])

    def reset(self, seeds: Sequence[int], live: Live, counters: memoryview[int]) -> None:
        """Begins the first episode of every copy with its seed."""
        write = writer(self._environments[0].observation_space, live.agent)
        for position, environment in enumerate(self._environments):
            write(position, *environment.reset(seed=seeds[position]))
            counters[1] += 1

    def stepper(self, tape: Tape, positions: Sequence[int]) -> Callable[[int], None]:
        """Steps the copies at `positions` only; the others idle."""
        environments = [self._environments[position] for position in positions]
        steps = [environment.step for environment in environments]
        write = writer(environments[0].observation_space, tape.live.agent)
        to_actions = actions.for_each(environments[0].action_space)
        action, starting, endings = tape.actions[""], tape.starting, tape.endings
        lives_lost = tape.lives_lost
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
                    elif info and info.get(LIFE_LOST):
                        lives_lost.append((row, position))
                write(position, observation, info)
                position += 1  # noqa: SIM113 - dearer with enumerate, as a tuple in a tuple
                counters[0] += 1

        return step_row

    def close(self) -> None:
        """Closes every copy."""
        for environment in self._environments:
            environment.close()


class PlainPlayers:
    """Plain copies for an evaluation; see `Players`.

    Args:
        environments: The copies.
        live: Where their observations go.
        action: What the policy answers, `[B, ...]`.
    """

    def __init__(
        self, environments: Sequence[gymnasium.Env[Any, Any]], live: Live, action: NDArray[Any]
    ) -> None:
        self._environments = environments
        self._write = writer(environments[0].observation_space, live.agent)
        self._to_actions = actions.for_each(environments[0].action_space)
        self._action = action

    def reset(self, position: int, seed: int) -> None:
        """See `Players`."""
        self._write(position, *self._environments[position].reset(seed=seed))

    def step(self, position: int) -> Outcome:
        """See `Players`."""
        (action,) = self._to_actions(self._action[position : position + 1])
        observation, reward, ended, cut, info = self._environments[position].step(action)
        self._write(position, observation, info)
        over = bool(ended or cut)
        return Outcome(float(reward), over, bool(ended), metrics.of_info(info) if over else {})
