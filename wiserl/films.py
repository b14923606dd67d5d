"""Films as files: MP4 where an ffmpeg is found, an animated GIF where there is none."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from common.errors import WiseRLError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from numpy.typing import NDArray

_GIF_FRAMES_PER_SECOND = 25
_GIF_BYTES = 256 << 20
"""A GIF's frames are held until it is written, so a long episode's later ones are left out."""


class Reel(Protocol):
    """A film that is being made; nothing stands under its name before `finish`."""

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Appends a frame `[height, width, 3]`; all have one size."""

    def finish(self) -> None:
        """Puts the film in place."""

    def discard(self) -> None:
        """Leaves nothing behind; without effect on a finished film."""


class Mp4:
    """A film that ffmpeg encodes while it is made (H.264, plays everywhere).

    Args:
        path: Where it goes.
        frames_per_second: Of real time.
    """

    ending = ".mp4"

    def __init__(self, path: Path, frames_per_second: float) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.stem}.partial{path.suffix}")
        self._frames_per_second = frames_per_second
        self._writer: Generator[None, Any, None] | None = None

    def add(self, frame: NDArray[np.uint8]) -> None:
        """See `Reel`."""
        if self._writer is None:
            import imageio_ffmpeg

            height, width, _ = frame.shape
            self._writer = imageio_ffmpeg.write_frames(
                str(self._partial),
                (width, height),
                fps=self._frames_per_second,
                quality=8,
                macro_block_size=2,  # what H.264's colours need; more would only blur
                ffmpeg_log_level="error",
            )
            self._writer.send(None)
        self._writer.send(np.ascontiguousarray(frame))

    def finish(self) -> None:
        """See `Reel`."""
        if self._writer is not None:
            self._writer.close()
            self._partial.replace(self._path)

    def discard(self) -> None:
        """See `Reel`."""
        if self._writer is not None:
            self._writer.close()
        self._partial.unlink(missing_ok=True)


class Gif:
    """An animated picture, for a machine without ffmpeg: larger, 256 colours, fewer frames.

    Args:
        path: Where it goes.
        frames_per_second: Of real time; every so many frames are left out that it plays at 25.
    """

    ending = ".gif"

    def __init__(self, path: Path, frames_per_second: float) -> None:
        self._path = path
        self._every = max(1, math.ceil(frames_per_second / _GIF_FRAMES_PER_SECOND))
        self._milliseconds = 1000 * self._every / frames_per_second
        self._images: list[Any] = []
        self._seen = self._bytes = 0

    def add(self, frame: NDArray[np.uint8]) -> None:
        """See `Reel`."""
        from PIL import Image

        self._seen += 1
        pixels = frame.shape[0] * frame.shape[1]
        if (self._seen - 1) % self._every == 0 and self._bytes + pixels <= _GIF_BYTES:
            self._images.append(Image.fromarray(frame).quantize(256))
            self._bytes += pixels

    def finish(self) -> None:
        """See `Reel`."""
        if not self._images:
            return
        partial = self._path.with_name(f".{self._path.name}")
        first, *others = self._images
        first.save(
            partial,
            format="GIF",
            save_all=True,
            append_images=others,
            duration=self._milliseconds,
            loop=0,
        )
        partial.replace(self._path)

    def discard(self) -> None:
        """See `Reel`."""
        self._images = []


def best() -> type[Mp4 | Gif]:
    """The best kind of film that can be made here.

    Raises:
        WiseRLError: Neither ffmpeg nor Pillow is here.
    """
    with contextlib.suppress(ImportError, RuntimeError):
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()  # its own, else the system's
        return Mp4
    with contextlib.suppress(ImportError):
        import PIL.Image  # noqa: F401 - only whether it is there

        return Gif
    raise WiseRLError(
        "no video encoder is here, neither ffmpeg nor Pillow; pip install 'wiserl[video]'"
    )
