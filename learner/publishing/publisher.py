"""Publishes a behaviour policy: its current parameters, written into a graph exported once."""

from __future__ import annotations

import hashlib
import threading
import time
from typing import TYPE_CHECKING

import torch

from common.errors import WiseRLError
from common.logging import Logger
from learner.publishing import cache as graphs
from learner.publishing.golden import golden_vector
from learner.publishing.proof import ProofError, prove
from learner.publishing.publication import Publication
from learner.publishing.template import Template, TemplateError

if TYPE_CHECKING:
    from pathlib import Path

    from learner.algorithms.behaviour import BehaviourPolicy
    from protos.wiserl.v1 import learner_pb2

_log = Logger()


class DivergedError(WiseRLError):
    """Parameters that nobody can act with."""


class Publisher:
    """Makes publications of a policy.

    The graph comes from the cache or is exported, which takes seconds, and is proved either way
    before this is built.

    Args:
        behaviour: The policy; its tensors are read anew for each publication.
        cache: A folder for exported graphs; None for none.

    Raises:
        ExportError: The policy cannot be exported.
        ProofError: The exported graph does not compute what the policy does.
    """

    def __init__(self, behaviour: BehaviourPolicy, *, cache: Path | None) -> None:
        self._behaviour = behaviour
        self._tensors = behaviour.named_tensors()
        self._parameters = dict(behaviour.named_parameters())
        self._template = _template(behaviour, cache)

    def publish(self, version: int) -> Publication:
        """The policy as it is now, under a version.

        Raises:
            DivergedError: A parameter is NaN or infinite.
        """
        self._check_finite()
        model = self._template.fill(self._tensors)
        return Publication(
            version, model, hashlib.sha256(model).digest(), _Golden(model, self._behaviour)
        )

    def _check_finite(self) -> None:
        """Sums tell it of all parameters at once, so that a device is waited for only once."""
        sums = [each.detach().sum(dtype=torch.float32) for each in self._parameters.values()]
        found = torch.isfinite(torch.stack(sums)).tolist() if sums else []
        if not all(found):
            name = list(self._parameters)[found.index(False)]
            raise DivergedError(
                f"training has diverged: {name} of the policy is NaN or infinite; lower the "
                "learning rate, clip gradients harder, or look for extreme rewards and observations"
            )


class _Golden:
    """A golden vector that is computed when somebody asks for it, once."""

    def __init__(self, model: bytes, behaviour: BehaviourPolicy) -> None:
        self._model = model
        self._behaviour = behaviour
        self._lock = threading.Lock()
        self._vector: learner_pb2.GoldenVector | None = None

    def __call__(self) -> learner_pb2.GoldenVector:
        with self._lock:
            if self._vector is None:
                self._vector = golden_vector(self._model, self._behaviour)
            return self._vector


def _template(behaviour: BehaviourPolicy, cache: Path | None) -> Template:
    name = graphs.fingerprint(behaviour)
    started = time.perf_counter()
    found = graphs.read(cache, name)
    if found is not None:
        try:
            template = Template(found)
            prove(template, behaviour)
        except (TemplateError, ProofError) as error:
            _log.warning("cached_graph_refused", name=name, reason=str(error))
        else:
            _log.debug("graph_found", name=name, seconds=time.perf_counter() - started)
            return template
    # torch.onnx and onnxscript take seconds to import; with a warm cache a start must not pay for
    # them.
    from learner.publishing.exporting import export

    model = export(behaviour)
    template = Template(model)
    prove(template, behaviour)
    graphs.write(cache, name, model)
    _log.info("graph_exported", name=name, seconds=round(time.perf_counter() - started, 2))
    return template
