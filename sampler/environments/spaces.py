"""Gymnasium's spaces as the contract's, and a whole environment as a spec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from common import spaces, tensors
from common.errors import InvalidFieldError, UnsupportedSpaceError
from common.specs import AgentGroup, EnvironmentSpec

if TYPE_CHECKING:
    from collections.abc import Mapping


def convert(space: gymnasium.Space[Any], where: str = "space") -> spaces.Space:
    """A Gymnasium space as the contract's.

    Args:
        space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of such.
        where: How an error names the space, such as `observation space`.

    Raises:
        UnsupportedSpaceError: Any other kind, a dtype without counterpart or a Dict key that cannot
            be addressed; the text says where and what to do.
    """
    match space:
        case gymnasium.spaces.Box():
            return _box(space, where)
        case gymnasium.spaces.Discrete():
            return spaces.Discrete(int(space.n), int(space.start))
        case gymnasium.spaces.MultiDiscrete():
            sizes, starts = space.nvec.ravel().tolist(), space.start.ravel().tolist()
            return spaces.MultiDiscrete(tuple(sizes), tuple(starts))
        case gymnasium.spaces.MultiBinary():
            return spaces.MultiBinary(tuple(int(size) for size in space.shape))
        case gymnasium.spaces.Dict():
            return _dict(space, where)
        case _:
            raise UnsupportedSpaceError(
                f"{where} is a {type(space).__name__}, which no policy graph can be fed; wrap the "
                "environment so that it is a Box, Discrete, MultiDiscrete, MultiBinary or a Dict "
                "of these (gymnasium.wrappers.FlattenObservation and TransformObservation do)"
            )


def _box(space: gymnasium.spaces.Box, where: str) -> spaces.Box:
    low = np.broadcast_to(space.low, space.shape).astype(space.dtype)
    high = np.broadcast_to(space.high, space.shape).astype(space.dtype)
    try:
        tensors.to_wire_dtype(low.dtype)
    except InvalidFieldError as error:
        raise UnsupportedSpaceError(f"{where}: dtype {error.description}") from None
    return spaces.Box(low, high)


def _dict(space: gymnasium.spaces.Dict, where: str) -> spaces.Dict:
    if not space.spaces:
        raise UnsupportedSpaceError(f"{where} is a Dict without entries; give it at least one")
    for key in space.spaces:
        if not isinstance(key, str) or not key or "/" in key:
            raise UnsupportedSpaceError(
                f"{where} has the key {key!r}; keys are strings that are not empty and hold no `/`"
            )
    return spaces.Dict(
        {key: convert(entry, f"{where}[{key!r}]") for key, entry in space.spaces.items()}
    )


def without_mask(space: gymnasium.Space[Any]) -> tuple[gymnasium.Space[Any], bool]:
    """The observation space without an `action_mask` entry, and whether it had one."""
    if isinstance(space, gymnasium.spaces.Dict) and spaces.MASK_KEY in space.spaces:
        rest = {key: entry for key, entry in space.spaces.items() if key != spaces.MASK_KEY}
        return gymnasium.spaces.Dict(rest), True
    return space, False


def agent_group(
    name: str,
    agents: tuple[str, ...],
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    info: Mapping[str, Any],
) -> AgentGroup:
    """What the contract calls agents with these spaces.

    Args:
        name: Of the group; empty for a single agent, as is its own name.
        agents: Their names.
        observation_space: Of one of them.
        action_space: Of one of them.
        info: What a reset told, which shows whether the environment masks its actions.

    Raises:
        UnsupportedSpaceError: See `convert`; or a Dict of actions, or a mask over actions that can
            have none.
    """
    whose = f" of {agents[0]}" if agents[0] else ""
    observed, in_observation = without_mask(observation_space)
    observation = convert(observed, f"observation space{whose}")
    action = convert(action_space, f"action space{whose}")
    if isinstance(action, spaces.Dict):
        raise UnsupportedSpaceError(
            f"action space{whose} is a Dict; wrap the environment so that an action is a single "
            "Box, Discrete, MultiDiscrete or MultiBinary (gymnasium.wrappers.TransformAction does)"
        )
    masked = in_observation or spaces.MASK_KEY in info
    if masked and spaces.mask_width(action) is None:
        raise UnsupportedSpaceError(
            f"the environment gives an {spaces.MASK_KEY}, but its actions are a "
            f"{type(action).__name__}; only Discrete and MultiDiscrete actions can be masked"
        )
    return AgentGroup(name, agents, observation, action, masked)


def specification(
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    info: Mapping[str, Any],
    max_episode_steps: int | None,
) -> EnvironmentSpec:
    """What the contract calls an environment with one agent, of such spaces and step limit.

    Raises:
        UnsupportedSpaceError: See `agent_group`.
    """
    group = agent_group("", ("",), observation_space, action_space, info)
    return EnvironmentSpec((group,), max_episode_steps=max_episode_steps)
