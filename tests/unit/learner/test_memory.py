"""The recurrent unit against torch's own, row by row against whole sequences."""

from __future__ import annotations

import torch
from torch import nn

from learner.networks.recurrent import Memory

ROWS, SLOTS, INPUTS, UNITS = 9, 3, 4, 5


def memory() -> Memory:
    """In double precision, with biases that are not 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unit = Memory(INPUTS, UNITS).double()
        with torch.no_grad():
            unit.from_inputs.bias.normal_()
            unit.from_state.bias.normal_()
    return unit


def sequence(*shape: int) -> torch.Tensor:
    """Numbers, the same ones for the same shape."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def resets() -> torch.Tensor:
    """In the first row, in a middle one, in two neighbouring ones, in the last one."""
    found = torch.zeros(ROWS, SLOTS, dtype=torch.bool)
    found[0, 0] = found[4, 0] = found[2, 1] = found[3, 1] = found[-1, 2] = True
    return found


def slopes(unit: Memory, features: torch.Tensor, states: torch.Tensor) -> list[torch.Tensor]:
    """The gradients of a number that every state has another weight in."""
    loss = (states * sequence(*states.shape)).sum()
    return list(torch.autograd.grad(loss, [features, *unit.parameters()]))


def test_without_resets_it_is_torchs_gru():
    unit, twin = memory(), nn.GRU(INPUTS, UNITS).double()
    twin.load_state_dict(
        {
            "weight_ih_l0": unit.from_inputs.weight,
            "weight_hh_l0": unit.from_state.weight,
            "bias_ih_l0": unit.from_inputs.bias,
            "bias_hh_l0": unit.from_state.bias,
        }
    )
    features = sequence(ROWS, SLOTS, INPUTS).requires_grad_()
    state = sequence(SLOTS, UNITS)
    expected, _ = twin(features, state.unsqueeze(0))
    found = unit.unroll(features, state, torch.zeros(ROWS, SLOTS, dtype=torch.bool))
    torch.testing.assert_close(found, expected)
    (of_features, *of_parameters) = slopes(unit, features, found)
    loss = (expected * sequence(*expected.shape)).sum()
    wanted = torch.autograd.grad(loss, [features, *twin.parameters()])
    torch.testing.assert_close(of_features, wanted[0])
    by_name = dict(zip([name for name, _ in twin.named_parameters()], wanted[1:], strict=True))
    for (name, _), slope in zip(unit.named_parameters(), of_parameters, strict=True):
        side, kind = name.split(".")
        twins = f"{kind}_{'ih' if side == 'from_inputs' else 'hh'}_l0"
        torch.testing.assert_close(slope, by_name[twins], msg=name)


def test_a_sequence_is_its_rows_one_after_the_other_with_resets_too():
    unit = memory()
    features, state, reset = (
        sequence(ROWS, SLOTS, INPUTS).requires_grad_(),
        sequence(SLOTS, UNITS),
        resets(),
    )
    rows = []
    after = state
    for row in range(ROWS):
        after = unit(features[row], after, reset[row])
        rows.append(after)
    stepwise = torch.stack(rows)
    unrolled = unit.unroll(features, state, reset)
    torch.testing.assert_close(unrolled, stepwise)
    for ours, autograds in zip(
        slopes(unit, features, unrolled), slopes(unit, features, stepwise), strict=True
    ):
        torch.testing.assert_close(ours, autograds)


def test_nothing_is_left_of_what_was_before_a_reset():
    unit, reset = memory(), resets()
    features, state = sequence(ROWS, SLOTS, INPUTS), sequence(SLOTS, UNITS)
    expected = unit.unroll(features, state, reset)
    features[:4, 0] = torch.nan
    state[0] = torch.nan
    found = unit.unroll(features, state, reset)
    assert found[:4, 0].isnan().all()
    torch.testing.assert_close(found[4:, 0], expected[4:, 0])
    torch.testing.assert_close(found[:, 1:], expected[:, 1:])
