"""Spaces as both sides know them, without Gymnasium: what a value looks like and its codec.

Kinds and meaning are Gymnasium's (https://gymnasium.farama.org/api/spaces/). `Tuple`, `Text`,
`Sequence`, `Graph` and `OneOf` have no counterpart; the sampler refuses them by name.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from common import tensors
from common.errors import InvalidFieldError
from protos.wiserl.v1 import space_pb2

if TYPE_CHECKING:
    from numpy.typing import NDArray

MASK_KEY = "action_mask"
"""The key of `info`, or of a Dict observation, that tells which actions are available."""

MAX_DEPTH = 8
"""How deep Dict spaces may nest; a message nested deeper is refused, not followed."""

MAX_LEAVES = 256
MAX_ACTIONS = 1 << 20
"""The most choices of a Discrete, a MultiDiscrete (all entries together) or a MultiBinary space.

Networks and masks get as many outputs, so a few bytes must not be able to ask for more.
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Box:
    """An array between `low` and `high`, both inclusive and of the value's own shape and dtype."""

    low: NDArray[Any]
    high: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a value."""
        return self.low.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of a value."""
        return self.low.dtype

    @property
    def is_bounded(self) -> bool:
        """Whether every bound is finite."""
        return bool(np.isfinite(self.low).all() and np.isfinite(self.high).all())

    def __eq__(self, other: object) -> bool:
        """Same dtype, shape and bounds."""
        return (
            isinstance(other, Box)
            and self.dtype == other.dtype
            and np.array_equal(self.low, other.low)
            and np.array_equal(self.high, other.high)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass(frozen=True)
class Discrete:
    """An int64 scalar in [start, start + n)."""

    n: int
    start: int = 0
    shape: tuple[int, ...] = dataclasses.field(default=(), init=False)
    dtype: np.dtype[Any] = dataclasses.field(default=np.dtype(np.int64), init=False)


@dataclasses.dataclass(frozen=True)
class MultiDiscrete:
    """int64 of shape [len(n)], entry i in [start[i], start[i] + n[i])."""

    n: tuple[int, ...]
    start: tuple[int, ...] = ()
    dtype: np.dtype[Any] = dataclasses.field(default=np.dtype(np.int64), init=False)

    def __post_init__(self) -> None:
        """Fills in the usual start."""
        object.__setattr__(self, "start", tuple(self.start) or (0,) * len(self.n))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a value."""
        return (len(self.n),)


@dataclasses.dataclass(frozen=True)
class MultiBinary:
    """int8 zeros and ones of `shape`."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any] = dataclasses.field(default=np.dtype(np.int8), init=False)


Leaf: TypeAlias = Box | Discrete | MultiDiscrete | MultiBinary


@dataclasses.dataclass(frozen=True)
class Dict:
    """Named spaces, in ascending order of their keys."""

    entries: dict[str, Space]

    def __post_init__(self) -> None:
        """Brings the entries into order."""
        object.__setattr__(self, "entries", dict(sorted(self.entries.items())))


Space: TypeAlias = Leaf | Dict


def leaves(space: Space) -> dict[str, Leaf]:
    """The leaves of a space by path: keys joined with `/`, or `{"": space}` where it is no Dict."""
    if not isinstance(space, Dict):
        return {"": space}
    found: dict[str, Leaf] = {}
    for key, entry in space.entries.items():
        for path, leaf in leaves(entry).items():
            found[f"{key}/{path}" if path else key] = leaf
    return found


def mask_width(action: Space) -> int | None:
    """How many entries the action mask of an action space has; None where it can have none."""
    match action:
        case Discrete():
            return action.n
        case MultiDiscrete():
            return sum(action.n)
        case _:
            return None


def flat_mask(mask: Any) -> NDArray[np.bool_]:  # noqa: ANN401 - whatever an environment has
    """An action mask as bools in one row; that of a MultiDiscrete may be a sequence of several."""
    parts = mask if isinstance(mask, list | tuple) else (mask,)
    return np.concatenate([np.asarray(part).ravel() for part in parts]).astype(np.bool_)


def to_proto(space: Space) -> space_pb2.Space:
    """The space as a message."""
    message = space_pb2.Space()
    match space:
        case Box():
            message.box.low.CopyFrom(tensors.encode(space.low))
            message.box.high.CopyFrom(tensors.encode(space.high))
        case Discrete():
            message.discrete.n = space.n
            message.discrete.start = space.start
        case MultiDiscrete():
            message.multi_discrete.n.extend(space.n)
            if any(space.start):
                message.multi_discrete.start.extend(space.start)
        case MultiBinary():
            message.multi_binary.shape.extend(space.shape)
            message.multi_binary.SetInParent()
        case Dict():
            message.dict.SetInParent()
            for key, entry in space.entries.items():
                message.dict.entries.add(key=key, space=to_proto(entry))
    return message


def from_proto(message: space_pb2.Space) -> Space:
    """The space of a message.

    Raises:
        InvalidFieldError: Anything that no space can be; the field is relative to the message.
    """
    space = _from_proto(message, MAX_DEPTH)
    count = len(leaves(space))
    if count > MAX_LEAVES:
        raise InvalidFieldError("dict", f"{count} leaves exceed the limit of {MAX_LEAVES}")
    return space


def _from_proto(message: space_pb2.Space, depth: int) -> Space:
    match message.WhichOneof("kind"):
        case "box":
            return _box(message.box)
        case "discrete":
            n, start = message.discrete.n, message.discrete.start
            return Discrete(_count(n, start, "discrete.n"), start)
        case "multi_discrete":
            return _multi_discrete(message.multi_discrete)
        case "multi_binary":
            return _multi_binary(message.multi_binary)
        case "dict":
            return _dict(message.dict, depth)
        case _:
            raise InvalidFieldError(
                "kind", "missing; set box, discrete, multi_discrete, multi_binary or dict"
            )


def _count(n: int, start: int, field: str) -> int:
    if not 1 <= n <= MAX_ACTIONS:
        raise InvalidFieldError(field, f"{n} is not in [1, {MAX_ACTIONS}]")
    if not -(2**63) <= start <= 2**63 - 1 - n:
        raise InvalidFieldError(field, f"start {start} + n {n} exceeds an int64")
    return n


def _box(message: space_pb2.BoxSpace) -> Box:
    bounds = {}
    for name, tensor in (("low", message.low), ("high", message.high)):
        try:
            bounds[name] = tensors.decode(tensor)
        except InvalidFieldError as error:
            raise error.under(f"box.{name}") from None
    low, high = bounds["low"], bounds["high"]
    if low.dtype != high.dtype or low.shape != high.shape:
        raise InvalidFieldError(
            "box.high",
            f"{high.dtype.name} {list(high.shape)}, but low is {low.dtype.name} {list(low.shape)}",
        )
    if not (low <= high).all():
        raise InvalidFieldError(
            "box.low", "is NaN or above high somewhere; low <= high must hold everywhere"
        )
    return Box(low, high)


def _multi_discrete(message: space_pb2.MultiDiscreteSpace) -> MultiDiscrete:
    n, start = tuple(message.n), tuple(message.start) or (0,) * len(message.n)
    if not n or len(start) != len(n):
        raise InvalidFieldError(
            "multi_discrete.start",
            f"{len(start)} entries for {len(n)} of n; give one for each, or none",
        )
    for size, first in zip(n, start, strict=True):
        _count(size, first, "multi_discrete.n")
    if sum(n) > MAX_ACTIONS:
        raise InvalidFieldError("multi_discrete.n", f"sums up to {sum(n)}, above {MAX_ACTIONS}")
    return MultiDiscrete(n, start)


def _multi_binary(message: space_pb2.MultiBinarySpace) -> MultiBinary:
    shape = tuple(message.shape)
    if tensors.size_in_bytes(np.dtype(np.int8), shape, "multi_binary.shape") > MAX_ACTIONS:
        raise InvalidFieldError(
            "multi_binary.shape", f"{list(shape)} has more than {MAX_ACTIONS} digits"
        )
    return MultiBinary(shape)


def _dict(message: space_pb2.DictSpace, depth: int) -> Dict:
    if depth == 0:
        raise InvalidFieldError("dict", f"nested deeper than {MAX_DEPTH}")
    if len(message.entries) > MAX_LEAVES:
        raise InvalidFieldError(
            "dict.entries", f"{len(message.entries)} exceed the limit of {MAX_LEAVES}"
        )
    keys = [entry.key for entry in message.entries]
    if not keys or keys != sorted(set(keys)):
        raise InvalidFieldError(
            "dict.entries", "keys must be there, different, and in ascending order"
        )
    entries: dict[str, Space] = {}
    for entry in message.entries:
        if not entry.key or "/" in entry.key:
            raise InvalidFieldError("dict.entries.key", f"{entry.key!r} is empty or holds a `/`")
        try:
            entries[entry.key] = _from_proto(entry.space, depth - 1)
        except InvalidFieldError as error:
            raise error.under(f"dict.entries[{entry.key}].space") from None
    return Dict(entries)
