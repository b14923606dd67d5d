"""A trained policy that acts, with ONNX Runtime and without torch or an environment.

Of several agents it acts for all at once: observations, masks and actions go by the agent's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common import spaces
from common.errors import InvalidFieldError
from common.signature import Role
from learner import policy_file
from sampler import graphs
from sampler.acting import ActingArrays, outputs_for
from sampler.noise import NoiseSource
from sampler.policy import Policy
from wiserl import runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from learner.policy_file import SavedPolicy
    from sampler.environments.stepping import Observed


class Agent:
    """The greedy policy of a run, for one environment at a time.

    Args:
        saved: The policy.

    Attributes:
        saved: What it is.
    """

    def __init__(self, saved: SavedPolicy) -> None:
        self.saved = saved
        signature = saved.signature
        names = [output.name for output in outputs_for(signature, greedy=True)]
        model = graphs.restricted(graphs.parse(saved.model), names)
        policy = Policy(saved.version, model)
        self._arrays = ActingArrays(signature, saved.spec, 1, greedy=True)
        scalars = {key: np.array(values, np.float32) for key, values in saved.scalars.items()}
        self._arrays.set_scalars(scalars, None)
        fed = [one for one in signature.inputs_of(Role.NOISE) if one.name in policy.inputs]
        self._noise = NoiseSource(fed)
        self._noise_inputs = [self._arrays.inputs[one.name] for one in fed]
        self._noise_names = [one.name for one in fed]
        self._draws = [np.zeros((1, *array.shape), array.dtype) for array in self._noise_inputs]
        run = policy.bind(self._arrays.inputs, self._arrays.outputs)
        self._act = self._arrays.act(run, list(zip(self._noise_inputs, self._draws, strict=True)))
        self._step = 0
        self.reset()

    def reset(self) -> None:
        """Begins an episode: matters to policies with a memory only."""
        self._arrays.starting[:] = True
        self._arrays.restore_states(0)

    def act(
        self,
        observation: Any,  # noqa: ANN401 - whatever an environment observes
        action_mask: Any = None,  # noqa: ANN401 - an array, or one for each agent
    ) -> Any:  # noqa: ANN401 - an action, or one for each agent
        """The greedy action for an observation.

        Args:
            observation: As the environment returns it; a mapping for a Dict space. With several
                agents a mapping of those that act, by name.
            action_mask: bool, true where an action is available. With several agents a mapping of
                those that have one. By default it is the observation's own `action_mask`, and all
                are available where it has none.

        Returns:
            An int for a Discrete space, else an array of the action space's shape and dtype. With
            several agents a dict of these for those that were observed.

        Raises:
            InvalidFieldError: The observation or the mask is of another shape than the policy was
                trained for, or of an agent that it does not know.
        """
        spec = self.saved.spec
        if not spec.multi_agent:
            self._see(self._arrays.live.agent, observation, action_mask)
        else:
            self._see_agents(observation, action_mask or {})
        if self._draws:
            self._draw()
        self._act(0)
        self._arrays.starting[:] = False
        if not spec.multi_agent:
            return _action(spec.agent.action, self._arrays.actions[""][0])
        return {
            agent: _action(group.action, self._arrays.actions[group.name][0, place])
            for group in spec.groups
            for place, agent in enumerate(group.agents)
            if agent in observation
        }

    def _see_agents(self, observations: Mapping[str, Any], masks: Mapping[str, Any]) -> None:
        """Fills in what the agents that act observe; the others observe zeros."""
        unknown = observations.keys() - set(self.saved.spec.agents)
        if unknown:
            raise InvalidFieldError(
                "observation",
                f"is of {sorted(unknown)}; the agents are {', '.join(self.saved.spec.agents)}",
            )
        for array in self._arrays.live.arrays():
            array[...] = array.dtype == np.bool_
        for group in self.saved.spec.groups:
            for place, agent in enumerate(group.agents):
                if agent in observations:
                    seen = self._arrays.live.groups[group.name].of_agent(place)
                    self._see(seen, observations[agent], masks.get(agent))

    def _see(self, seen: Observed, observation: Any, action_mask: Any) -> None:  # noqa: ANN401
        for path, array in seen.leaves.items():
            array[0] = _leaf(observation, path, array.shape[1:])
        if seen.mask is not None:
            seen.mask[0] = _mask(observation, action_mask, seen.mask.shape[1])

    def _draw(self) -> None:
        drawn: Mapping[str, NDArray[Any]] = self._noise.draw(
            np.zeros(1, np.uint64), self.saved.version, np.array([self._step], np.uint64), 1
        )
        for name, rows in zip(self._noise_names, self._draws, strict=True):
            rows[...] = drawn[name]
        self._step += 1


def _action(space: spaces.Space, answered: NDArray[Any]) -> int | NDArray[Any]:
    return int(answered) if isinstance(space, spaces.Discrete) else answered.copy()


def load(run: Path | str) -> Agent:
    """The policy that a run has saved last.

    Args:
        run: The run's folder, or one above it for the newest run there.

    Raises:
        WiseRLError: There is no policy.
    """
    return Agent(policy_file.load(runs.chosen(Path(run))))


def _mask(
    observation: Any,  # noqa: ANN401 - whatever an environment observes
    given: Any,  # noqa: ANN401 - an array, or one for each part of an action
    width: int,
) -> NDArray[np.bool_] | bool:
    if given is None and isinstance(observation, Mapping):
        given = observation.get(spaces.MASK_KEY)
    if given is None:
        return True
    mask = spaces.flat_mask(given)
    if mask.size != width:
        raise InvalidFieldError(
            spaces.MASK_KEY, f"has {mask.size} entries, the policy was trained for {width}"
        )
    return mask


def _leaf(
    observation: Any,  # noqa: ANN401 - whatever an environment observes
    path: str,
    shape: tuple[int, ...],
) -> NDArray[Any]:
    value = observation
    for key in path.split("/") if path else ():
        if key not in value:
            raise InvalidFieldError("observation", f"lacks the key {path!r}")
        value = value[key]
    array = np.asarray(value)
    if array.size != np.prod(shape, dtype=np.int64) or (array.ndim and array.shape[0] == 0):
        raise InvalidFieldError(
            "observation",
            f"{path or 'it'} has shape {array.shape}, the policy was trained for {shape}",
        )
    return array.reshape(shape)
