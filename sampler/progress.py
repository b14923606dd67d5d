"""What a sampler has done since it registered, out of what its pool has done since it was made."""

from __future__ import annotations

from protos.wiserl.v1 import learner_pb2

_FIELDS = learner_pb2.SamplerProgress.DESCRIPTOR.fields_by_name


def progress_since(
    before: learner_pb2.SamplerProgress, now: learner_pb2.SamplerProgress
) -> learner_pb2.SamplerProgress:
    """The totals of `now` without those of `before`, field by field."""
    since = learner_pb2.SamplerProgress()
    for name in _FIELDS:
        setattr(since, name, getattr(now, name) - getattr(before, name))
    return since
