"""Signatures that follow from a behaviour policy, several agents and recurrent states included."""

from __future__ import annotations

import numpy as np
from learner_support import box

from common import signature, spaces, specs
from common.signature import Extent, Noise, Role
from learner.algorithms import behaviour
from learner.algorithms.signatures import signature_of

WALKERS = specs.AgentGroup("walker", ("w0", "w1"), box(3), spaces.Discrete(2), action_mask=True)
SCOUT = specs.AgentGroup("scout", ("s0",), spaces.Dict({"map": box(2)}), box(1))
SPEC = specs.EnvironmentSpec((WALKERS, SCOUT), multi_agent=True, global_state=box(5))


def policy() -> behaviour.BehaviourPolicy:
    """Two groups, one of which is recurrent and explores with a process of its own."""
    walkers, leaves = behaviour.observation_inputs(SPEC, WALKERS)
    scouts, more = behaviour.observation_inputs(SPEC, SCOUT)
    state = np.zeros((1, 8), np.float32)
    outputs = (
        *behaviour.action_outputs(SPEC, WALKERS),
        *behaviour.action_outputs(SPEC, SCOUT),
        behaviour.record_output(SPEC, WALKERS, "log_prob"),
        *(
            signature.GraphOutput(
                f"next/{key}", Role.NEXT_STATE, state.dtype, state.shape, "scout", key
            )
            for key in ("memory", "drift")
        ),
    )
    return behaviour.BehaviourPolicy(
        inputs=(
            *walkers,
            behaviour.mask_input(SPEC, WALKERS, 2),
            behaviour.noise_input(SPEC, WALKERS, Noise.OPEN_UNIFORM, (2,)),
            *scouts,
            behaviour.initial_state(state, "scout", "memory"),
            behaviour.initial_state(state, "scout", "drift"),
        ),
        outputs=outputs,
        leaves=leaves | more,
        pushed_states=("memory",),
    )


def test_columns_of_several_groups_have_the_axis_of_agents():
    columns = {str(column.key): column for column in signature_of(policy(), SPEC).columns}
    assert {name: column.shape for name, column in columns.items()} == {
        "observation/walker": (2, 3),
        "observation/scout/map": (1, 2),
        "action_mask/walker": (2, 2),
        "alive/walker": (2,),
        "alive/scout": (1,),
        "global_state": (5,),
        "action/walker": (2,),
        "action/scout": (1, 1),
        "reward/walker": (2,),
        "reward/scout": (1,),
        "terminated/walker": (2,),
        "terminated/scout": (1,),
        "truncated/walker": (2,),
        "truncated/scout": (1,),
        "is_first": (),
        "valid": (),
        "episode_end": (),
        "record/walker/log_prob": (2,),
        "state/scout/memory": (1, 8),
    }
    ahead = {name for name, column in columns.items() if column.extent == Extent.ROWS_PLUS_ONE}
    assert ahead == {
        "observation/walker",
        "observation/scout/map",
        "action_mask/walker",
        "alive/walker",
        "alive/scout",
        "global_state",
    }
    assert columns["state/scout/memory"].extent == Extent.INITIAL


def test_a_signature_survives_the_wire():
    whole = signature_of(policy(), SPEC)
    back = signature.from_proto(signature.to_proto(whole))
    assert back.columns == whole.columns
    assert back.outputs == whole.outputs
    assert [tensor.name for tensor in back.inputs] == [tensor.name for tensor in whole.inputs]


def test_floats_travel_in_single_precision_and_all_else_as_it_is():
    observation = spaces.Dict(
        {
            "bytes": spaces.Box(np.zeros(2, np.uint8), np.ones(2, np.uint8)),
            "doubles": box(2, dtype=np.float64),
            "halves": box(2, dtype=np.float16),
            "number": spaces.Discrete(4),
        }
    )
    spec = specs.single_agent(observation, spaces.Discrete(2))
    inputs, leaves = behaviour.observation_inputs(spec, spec.agent)
    assert {tensor.key: tensor.dtype.name for tensor in inputs} == {
        "bytes": "uint8",
        "doubles": "float32",
        "halves": "float32",
        "number": "int64",
    }
    assert leaves.keys() == {tensor.name for tensor in inputs}
