"""A trained policy that acts, with ONNX Runtime and without torch or an environment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common import spaces
from common.errors import InvalidFieldError
from common.signature import Role
from learner import policy_file
from learner.run_folder import RunFolder
from sampler import graphs
from sampler.acting import ActingArrays, outputs_for
from sampler.noise import NoiseSource
from sampler.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from learner.policy_file import SavedPolicy


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
        self._arrays = ActingArrays(signature, 1, greedy=True)
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
        action_mask: NDArray[np.bool_] | None = None,
    ) -> int | NDArray[Any]:
        """The greedy action for an observation.

        Args:
            observation: As the environment returns it; a mapping for a Dict space.
            action_mask: bool, true where an action is available; all are by default.

        Returns:
            An int for a Discrete space, else an array of the action space's shape and dtype.

        Raises:
            InvalidFieldError: The observation is of another shape than the policy was trained for.
        """
        for path, array in self._arrays.live.leaves.items():
            array[0] = _leaf(observation, path, array.shape[1:])
        if self._arrays.live.mask is not None:
            self._arrays.live.mask[0] = True if action_mask is None else action_mask
        if self._draws:
            self._draw()
        self._act(0)
        self._arrays.starting[:] = False
        action = self._arrays.action[0].copy()
        return int(action) if isinstance(self._space, spaces.Discrete) else action

    @property
    def _space(self) -> spaces.Space:
        return self.saved.spec.agent.action

    def _draw(self) -> None:
        drawn: Mapping[str, NDArray[Any]] = self._noise.draw(
            np.zeros(1, np.uint64), self.saved.version, np.array([self._step], np.uint64), 1
        )
        for name, rows in zip(self._noise_names, self._draws, strict=True):
            rows[...] = drawn[name]
        self._step += 1


def load(run: Path | str) -> Agent:
    """The policy that a run has saved last.

    Args:
        run: The run's folder.

    Raises:
        WiseRLError: The folder holds no policy.
    """
    return Agent(policy_file.load(RunFolder(Path(run))))


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
