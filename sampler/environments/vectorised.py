"""Environments that bring a vectorisation of their own, in each of Gymnasium's autoreset modes.

Seeds: a vector environment takes one seed for all its copies (Gymnasium's vectorised CartPole draws
every copy's resets from one generator), so it is seeded with that of the worker's lowest slot. What
a slot sees then depends on how many slots its worker has; plain environments have no such
dependence.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from gymnasium.vector import AutoresetMode

from sampler.environments import actions, metrics, spaces
from sampler.environments.modules import EnvironmentRefusedError
from sampler.environments.observations import batch_writer, writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import gymnasium
    from numpy.typing import NDArray

    from sampler.environments.registry import Recipe
    from sampler.environments.stepping import Live, Tape

Value: TypeAlias = Any
"""Whatever an environment returns; checked where it is written."""

One: TypeAlias = tuple[int, Any, "Mapping[str, Any]"]
"""What one copy gave: its position, observation and info."""


class VectorisedEnvironments:
    """K copies in one vector environment, all stepped in every row.

    Args:
        recipe: How to build it.
        copies: K.

    Raises:
        EnvironmentRefusedError: It has another number of copies, or does not say how it resets.
    """

    together = True

    def __init__(self, recipe: Recipe, copies: int) -> None:
        environment = recipe.native(copies)
        mode = environment.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode) or environment.num_envs != copies:
            raise EnvironmentRefusedError(
                f"{recipe.name}: its vectorisation has metadata['autoreset_mode'] {mode!r} and "
                f"{environment.num_envs} copies; the mode must be an AutoresetMode and the copies "
                f"{copies}; or use plain environments"
            )
        self.copies = copies
        self.late = mode == AutoresetMode.NEXT_STEP
        self._mode = mode
        self._environment = environment
        _, info = environment.reset(seed=0)
        self.spec = spaces.specification(
            environment.single_observation_space,
            environment.single_action_space,
            info,
            _step_limit(environment),
        )

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        """Of one copy."""
        return self._environment.single_observation_space

    def reset(self, seeds: Sequence[int], live: Live, counters: memoryview[int]) -> None:
        """Begins the first episodes, seeded with the first of the seeds."""
        observation, info = self._environment.reset(seed=seeds[0])
        batch_writer(self.observation_space, live.agent, self.copies)(observation, info)
        counters[1] += 1

    def stepper(self, tape: Tape, positions: Sequence[int]) -> Callable[[int], None]:
        """Steps all copies.

        Raises:
            ValueError: Not all positions are asked for.
        """
        if len(positions) != self.copies:
            raise ValueError(f"{len(positions)} of {self.copies} copies cannot be stepped alone")
        if self.late:
            return self._late_stepper(tape)
        return self._prompt_stepper(tape)

    def close(self) -> None:
        """Closes the vector environment."""
        self._environment.close()

    def _late_stepper(self, tape: Tape) -> Callable[[int], None]:
        step = self._environment.step
        to_actions = actions.for_all(self._environment.single_action_space, self.copies)
        write = batch_writer(self.observation_space, tape.live.agent, self.copies)
        action, starting, pending = tape.actions[""], tape.starting, tape.pending
        rewards, terminated, truncated = tape.rewards, tape.terminated, tape.truncated
        counters, copies, resets_fed = tape.counters, self.copies, tape.resets_fed

        def step_row(row: int) -> None:
            observation, reward, ended, cut, info = step(to_actions(action))
            write(observation, info)
            rewards[row] = reward
            terminated[row] = ended
            truncated[row] = cut
            if resets_fed:
                starting[...] = pending
                np.logical_or(ended, cut, out=pending)
            if info:
                _note_endings(tape.endings, row, np.flatnonzero(ended | cut), info)
            counters[0] += copies

        return step_row

    def _prompt_stepper(self, tape: Tape) -> Callable[[int], None]:
        environment = self._environment
        to_actions = actions.for_all(environment.single_action_space, self.copies)
        write = batch_writer(self.observation_space, tape.live.agent, self.copies)
        replace = self._reset_ended if self._mode == AutoresetMode.DISABLED else _take_replaced
        write_live = writer(self.observation_space, tape.live.agent)
        keep = self._keep_finals(tape)
        copies, starting = self.copies, tape.starting

        def step_row(row: int) -> None:
            observation, reward, ended, cut, info = environment.step(to_actions(tape.actions[""]))
            tape.rewards[row] = reward
            tape.terminated[row] = ended
            tape.truncated[row] = cut
            np.logical_or(ended, cut, out=starting)
            write(observation, info)
            if starting.any():
                done = np.flatnonzero(starting)
                for last, first in replace(done, observation, info):
                    keep(row, last)
                    if first is not None:
                        write_live(*first)
            tape.counters[0] += copies

        return step_row

    def _keep_finals(self, tape: Tape) -> Callable[[int, One], None]:
        finals = tape.finals
        if finals is None:
            raise ValueError("a vectorisation that resets at once needs room for last observations")
        write = writer(self.observation_space, finals.observed)

        def keep(row: int, last: One) -> None:
            position, observation, info = last
            write(len(finals.rows), observation, info)
            finals.rows.append(row)
            finals.positions.append(position)
            found = metrics.of_info(info)
            if found:
                tape.endings.append((row, position, found))

        return keep

    def _reset_ended(
        self,
        done: NDArray[Any],
        observation: Value,
        info: Mapping[str, Any],
    ) -> Iterator[tuple[One, One]]:
        """The last and the first observation of each ended copy, which are reset here."""
        # Copied, since a reset may write into what the step returned.
        last = [(p, copy.deepcopy(_entry(observation, p)), _info(info, p)) for p in done.tolist()]
        mask = np.zeros(self.copies, np.bool_)
        mask[done] = True
        first, told = self._environment.reset(options={"reset_mask": mask})
        for one in last:
            position = one[0]
            yield one, (position, _entry(first, position), _info(told, position))


def _take_replaced(
    done: NDArray[Any],
    _observation: Value,
    info: Mapping[str, Any],
) -> Iterator[tuple[One, None]]:
    """The last observation of each copy that the step itself has reset."""
    last = info.get("final_obs", info.get("final_observation"))
    if last is None:
        raise EnvironmentRefusedError(
            "the vectorisation resets in the same step, but its info has no `final_obs`; mend it, "
            "or use plain environments"
        )
    told = info.get("final_info", {})
    for position in done.tolist():
        yield (position, _entry(last, position), _info(told, position)), None


def _step_limit(environment: gymnasium.vector.VectorEnv[Any, Any, Any]) -> int | None:
    known = environment.unwrapped.spec
    if known is None:
        return None
    limit = known.kwargs.get("max_episode_steps", known.max_episode_steps)
    return limit if limit is None else int(limit)


def _note_endings(
    endings: list[tuple[int, int, dict[str, float]]],
    row: int,
    done: NDArray[Any],
    info: Mapping[str, Any],
) -> None:
    for position in done.tolist():
        found = metrics.of_vector_info(info, position)
        if found:
            endings.append((row, position, found))


def _entry(batch: Value, position: int) -> Value:
    """One copy's part of a batch, as a single copy would give it."""
    if isinstance(batch, dict):
        return {key: _entry(values, position) for key, values in batch.items()}
    return batch[position]


def _info(info: Mapping[str, Any], position: int) -> dict[str, Any]:
    """What a vector environment's `info` says about one copy, as a single copy would say it."""
    own = {}
    for key, values in info.items():
        told = info.get(f"_{key}")
        if key.startswith("_") or (told is not None and not told[position]):
            continue
        if isinstance(values, dict):
            own[key] = _info(values, position)
        elif isinstance(values, np.ndarray) and values.ndim:
            own[key] = values[position]
    return own
