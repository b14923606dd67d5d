from __future__ import annotations

import pytest
import torch
from torch import nn

from learner import interruption
from learner.algorithms.natural_gradient import FisherProduct
from learner.algorithms.optimiser import FlatAdam
from learner.algorithms.rollout import in_chunks


class ToldToStopError(Exception):
    pass


def leave():
    raise ToldToStopError


@pytest.fixture
def layer():
    return nn.Linear(3, 1)


def adam_step(layer):
    adam = FlatAdam(
        dict(layer.named_parameters()), learning_rate=0.1, epsilon=1e-5, max_gradient_norm=None
    )
    adam.step(layer(torch.ones(2, 3)).sum())


def fisher_product(layer):
    divergence = (layer(torch.ones(2, 3)) ** 2).sum()
    FisherProduct(divergence, list(layer.parameters()), damping=0.1)(torch.ones(4))


def passes(layer):
    for (piece,) in in_chunks([torch.ones(4, 3)], 2):
        layer(piece)


@pytest.mark.parametrize("step", [adam_step, fisher_product, passes])
def test_an_update_that_is_to_be_left_takes_no_further_step(layer, step):
    before = [parameter.clone() for parameter in layer.parameters()]
    with interruption.asking(leave), pytest.raises(ToldToStopError):
        step(layer)
    assert all(map(torch.equal, before, layer.parameters()))
    step(layer)  # nobody asks any more


def test_it_is_asked_before_every_piece():
    asked = []
    with interruption.asking(lambda: asked.append(True)):
        assert len(list(in_chunks([torch.ones(5, 3), torch.ones(5)], 2))) == 3
    assert len(asked) == 3
