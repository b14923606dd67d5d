"""A published policy: one version and the model that it names."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from protos.wiserl.v1 import learner_pb2


@dataclasses.dataclass(frozen=True)
class Publication:
    """One policy version, serialised once.

    Attributes:
        version: Never reused, and above every earlier one.
        model: The ONNX model.
        sha256: Of `model`; two versions may share it.
        golden: What the graph answers to a small input; computed on the first call and kept.
    """

    version: int
    model: bytes
    sha256: bytes
    golden: Callable[[], learner_pb2.GoldenVector]
