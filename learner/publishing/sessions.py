"""ONNX Runtime as samplers run it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnxruntime
    from numpy.typing import NDArray


def session_of(model: bytes) -> onnxruntime.InferenceSession:
    """A session on one thread."""
    # The official builds report to their maker over the network unless told otherwise before.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # Imported when the first model is there: it takes a quarter of a second.
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(
    session: onnxruntime.InferenceSession,
    names: Sequence[str],
    inputs: Mapping[str, NDArray[Any]],
) -> dict[str, NDArray[Any]]:
    """The outputs of these names."""
    return dict(zip(names, session.run(list(names), dict(inputs)), strict=True))
