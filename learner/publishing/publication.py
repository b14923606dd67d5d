"""A version of the policy as it is served."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from protos.wiserl.v1 import learner_pb2


@dataclasses.dataclass(frozen=True)
class Publication:
    """One version, serialised once.

    Attributes:
        version: Its number.
        model: The ONNX model.
        sha256: Of the model's bytes; equal models need not be sent again.
        golden: Gives the golden vector; computed at the first call, from any thread.
    """

    version: int
    model: bytes
    sha256: bytes
    golden: Callable[[], learner_pb2.GoldenVector]
