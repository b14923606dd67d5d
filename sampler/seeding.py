"""Seeds of environment copies and keys of their noise, as RegisterResponse.seed says."""

from __future__ import annotations

import dataclasses
import hashlib


@dataclasses.dataclass(frozen=True)
class SlotIdentity:
    """Which copy of the environment, in which run: all that its randomness follows from."""

    seed: int
    index: int
    slot: int
    incarnation: int

    def _digest(self, purpose: str) -> bytes:
        text = f"wiserl/{self.seed}/{self.index}/{self.slot}/{self.incarnation}/{purpose}"
        return hashlib.sha256(text.encode("ascii")).digest()

    def environment_seed(self) -> int:
        """What seeds the first reset: 31 bits."""
        return int.from_bytes(self._digest("environment")[:4], "little") & 0x7FFF_FFFF

    def noise_key(self) -> int:
        """The key of the slot's noise: 64 bits."""
        return int.from_bytes(self._digest("noise")[:8], "little")


def evaluation_noise_key(run_seed: int, episode_seed: int) -> int:
    """The key of the noise of an evaluated episode: 64 bits, whoever plays it."""
    text = f"wiserl/{run_seed}/evaluation/{episode_seed}/noise"
    return int.from_bytes(hashlib.sha256(text.encode("ascii")).digest()[:8], "little")
