"""The noise that policies are fed: drawn for whole segments, a function of nothing but its address.

The address of a draw is (key of the slot, policy version, number of the row, place in the row). A
counter-based generator turns it into bits, so a row's noise does not depend on which worker rolls
the slot, on where segments begin or on what was drawn before. The generator is SplitMix64's output
function (Steele, Lea, Flood 2014, https://doi.org/10.1145/2714064.2660195) in the variant 13 of
Stafford, applied twice: once to fold key and version into a stream, once to the counter. It was
chosen over NumPy's Philox because it draws for all slots of a segment in a dozen array operations;
a Philox object for each slot cost a twentieth of the time of a natively vectorised rollout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from common.signature import Noise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from common.signature import GraphInput

_GOLDEN = np.uint64(0x9E37_79B9_7F4A_7C15)
_FIRST, _SECOND = np.uint64(0xBF58_476D_1CE4_E5B9), np.uint64(0x94D0_49BB_1331_11EB)
_TWO_PI = np.float32(2 * np.pi)


class NoiseSource:
    """Draws for the noise inputs of a graph.

    Args:
        inputs: The inputs with role NOISE, in the order of the signature.
    """

    def __init__(self, inputs: Sequence[GraphInput]) -> None:
        self._inputs = tuple(inputs)
        self._sizes = [int(np.prod(tensor.shape, dtype=np.int64)) for tensor in inputs]
        self._taken = [
            size + size % 2 if tensor.noise == Noise.STANDARD_NORMAL else size
            for tensor, size in zip(self._inputs, self._sizes, strict=True)
        ]
        # Each word of 64 bits makes two draws.
        self._words = -(-sum(self._taken) // 2)

    def draw(
        self, keys: NDArray[np.uint64], version: int, first_rows: NDArray[np.uint64], rows: int
    ) -> dict[str, NDArray[Any]]:
        """Draws for `rows` rows of each slot.

        Args:
            keys: `[B]`, the key of each slot.
            version: The policy version that acts.
            first_rows: `[B]`, the number of each slot's first row.
            rows: T.

        Returns:
            By name an array `[T, B, *shape]` of its dtype for each input, C-contiguous.
        """
        if not self._words:
            return {}
        bits = self._bits(keys, version, first_rows, rows)
        drawn, start = {}, 0
        for tensor, size, taken in zip(self._inputs, self._sizes, self._taken, strict=True):
            # Contiguous: NumPy's vector loops then treat every element alike, wherever it stands.
            part = np.ascontiguousarray(bits[:, :, start : start + taken])
            start += taken
            values = _normal(part) if tensor.noise == Noise.STANDARD_NORMAL else _open_uniform(part)
            shaped = values[:, :, :size].reshape(rows, len(keys), *tensor.shape)
            drawn[tensor.name] = np.ascontiguousarray(shaped, tensor.dtype)
        return drawn

    def _bits(
        self, keys: NDArray[np.uint64], version: int, first_rows: NDArray[np.uint64], rows: int
    ) -> NDArray[np.uint32]:
        """`[T, B, 2 * words]` uniform bits."""
        streams = _mixed(keys ^ _mixed(np.array([version], np.uint64) * _GOLDEN))
        counters = np.arange(rows, dtype=np.uint64)[:, None] + first_rows
        counters *= np.uint64(self._words)
        counters += np.uint64(1)
        counters *= _GOLDEN
        counters += streams
        flat = counters.ravel()
        if self._words > 1:
            # Repeated rather than broadcast: a short last axis makes NumPy's loops slow.
            flat = np.repeat(flat, self._words)
            places = np.arange(self._words, dtype=np.uint64) * _GOLDEN
            flat += np.tile(places, rows * len(keys))
        return _mixed(flat).view(np.uint32).reshape(rows, len(keys), 2 * self._words)


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function."""
    state = state ^ (state >> np.uint64(30))
    state *= _FIRST
    state ^= state >> np.uint64(27)
    state *= _SECOND
    state ^= state >> np.uint64(31)
    return state


def _open_uniform(bits: NDArray[np.uint32]) -> NDArray[np.float32]:
    """(k + 1/2) 2^-23 with k the upper 23 bits: exact in float32, never 0 or 1."""
    values = (bits >> np.uint32(9)).astype(np.float32)
    values += np.float32(0.5)
    values *= np.float32(2**-23)
    return values


def _normal(bits: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Standard normals by Box and Muller: half of the draws give radii, the others angles.

    It takes a fixed number of bits, which the faster ziggurat does not: a row's place in the stream
    would depend on the rows before it.
    """
    half = bits.shape[-1] // 2
    # 32 bits reach 6.6 standard deviations. Rounding may give exactly 1, whose radius is 0: fine.
    radius = np.ascontiguousarray(bits[..., :half]).astype(np.float32)
    radius += np.float32(0.5)
    radius *= np.float32(2**-32)
    np.log(radius, out=radius)
    radius *= np.float32(-2)
    np.sqrt(radius, out=radius)
    angle = np.ascontiguousarray(bits[..., half:]).astype(np.float32)
    angle *= _TWO_PI * np.float32(2**-32)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
