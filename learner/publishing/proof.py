"""Proof that a template means the module: what is written into it is what torch would compute.

A graph can look right and be wrong. A tensor may be baked in as a constant, two of equal value may
be merged into one, names may be swapped, a shape may be fixed to the one exported with. So all
tensors are moved to random values, then each one further, and after every move ONNX Runtime and
torch must agree, for several numbers of environments. A tensor that the graph lacks must leave
torch's answer unchanged.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from common.errors import WiseRLError
from learner.publishing import sessions
from learner.publishing.examples import example_inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from learner.algorithms.behaviour import BehaviourPolicy
    from learner.publishing.template import Template

    Arrays = dict[str, NDArray[Any]]

TOLERANCE = 1e-4
"""Absolute, and relative to the largest element of an output."""

_ENVIRONMENTS = (1, 7, 16)
_DRAWS = 3
"""Inputs tried before answers count as different: an argmax may fall on a tie within rounding."""


class ProofError(WiseRLError):
    """A template that does not compute what its module does."""


def prove(template: Template, behaviour: BehaviourPolicy) -> None:
    """Compares a template with its module, on a copy of the module on the CPU.

    Raises:
        ProofError: They differ; says by which tensor, and what to do.
    """
    _Proof(template, behaviour).run()


class _Proof:
    def __init__(self, template: Template, behaviour: BehaviourPolicy) -> None:
        self._template = template
        self._module = copy.deepcopy(behaviour).cpu().eval()
        self._tensors = self._module.named_tensors()
        self._generator = np.random.default_rng(0)
        self._torch = torch.Generator().manual_seed(0)
        self._names = [output.name for output in behaviour.outputs]

    def run(self) -> None:
        for group in self._tied():
            self._move(self._tensors[group[0]])
        for environments in _ENVIRONMENTS:
            if not self._agrees(environments):
                raise ProofError(
                    f"the exported graph and the policy module differ for {environments} "
                    f"environments ({self._difference}). Does `forward` take a number out of a "
                    "tensor, fix the number of environments, or use a tensor that is no parameter "
                    "and no buffer? Register such tensors with `register_buffer`"
                )
        for group in self._tied():
            present = any(name in self._template.slots for name in group)
            self._prove_present(group) if present else self._prove_absent(group)

    def _tied(self) -> list[list[str]]:
        """Names of the same tensor, together."""
        groups: dict[int, list[str]] = {}
        for name, tensor in self._tensors.items():
            groups.setdefault(id(tensor), []).append(name)
        return list(groups.values())

    def _prove_present(self, group: list[str]) -> None:
        self._move(self._tensors[group[0]])
        if not self._agrees(_ENVIRONMENTS[-1]):
            raise ProofError(
                f"writing {' = '.join(group)} into the exported graph does not do what it does in "
                f"the policy module ({self._difference}); is it used as a constant somewhere?"
            )

    def _prove_absent(self, group: list[str]) -> None:
        inputs = example_inputs(self._module, self._generator, _ENVIRONMENTS[-1])
        before = self._torch_outputs(inputs)
        self._move(self._tensors[group[0]])
        after = self._torch_outputs(inputs)
        if any(not np.array_equal(before[name], after[name], equal_nan=True) for name in before):
            raise ProofError(
                f"{' = '.join(group)} matters to the policy module but is not in the exported "
                "graph: it was baked in as a constant, or merged with an equal tensor. Use the "
                "parameter or buffer itself in `forward`, not a number or a copy made of it earlier"
            )

    def _agrees(self, environments: int) -> bool:
        try:
            session = sessions.session_of(self._template.fill(self._tensors))
            for _ in range(_DRAWS):
                inputs = example_inputs(self._module, self._generator, environments)
                expected = self._torch_outputs(inputs)
                found = sessions.run(session, self._names, inputs)
                self._difference = _difference(expected, found)
                if not self._difference:
                    return True
        except Exception as error:  # noqa: BLE001 - ONNX Runtime has no exceptions of its own
            self._difference = f"ONNX Runtime says: {error}"
        return False

    def _torch_outputs(self, inputs: Arrays) -> Arrays:
        with torch.no_grad():
            outputs = self._module(*(torch.from_numpy(array) for array in inputs.values()))
        return {name: output.numpy() for name, output in zip(self._names, outputs, strict=True)}

    def _move(self, tensor: Tensor) -> None:
        """Brings a tensor to other values that it could have, far enough for outputs to show."""
        with torch.no_grad():
            if tensor.dtype == torch.bool:
                tensor.logical_not_()
            elif not tensor.is_floating_point():
                # Other integers may not be valid where these are: an index, say.
                tensor.copy_(tensor.flatten().roll(1).view(tensor.shape))
            else:
                noise = torch.randn(tensor.shape, generator=self._torch, dtype=tensor.dtype)
                if bool((tensor > 0).all()):
                    # A variance or a scale, which must stay above 0.
                    tensor.mul_(torch.exp(0.3 * noise))
                else:
                    inputs = tensor[0].numel() if tensor.ndim > 1 else 1
                    tensor.add_(noise * (0.5 / max(inputs, 1) ** 0.5))


def _difference(expected: Arrays, found: Arrays) -> str:
    """Which output differs, or nothing."""
    for name, wanted in expected.items():
        got = found[name]
        if got.shape != wanted.shape or got.dtype != wanted.dtype:
            return f"{name} is {got.dtype} {got.shape}, torch gives {wanted.dtype} {wanted.shape}"
        if np.issubdtype(wanted.dtype, np.floating):
            allowed = TOLERANCE * (1.0 + np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0))
            same = np.allclose(got, wanted, rtol=0.0, atol=allowed, equal_nan=True)
        else:
            same = np.array_equal(got, wanted)
        if not same:
            return f"in {name}"
    return ""
