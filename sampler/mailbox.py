"""Messages between the supervisor and its processes: JSON and bytes over a socket, no pickle.

A message is a header that JSON can carry, any number of byte strings and a few file descriptors.
The socket keeps messages apart (SOCK_SEQPACKET) and stays far below its buffer: what is large
travels as an anonymous file, written once however many workers read it, whose descriptor is passed
along.
"""

from __future__ import annotations

import array
import collections
import json
import os
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_INLINE_BYTES = 16 * 1024
_MAX_FILES = 4
_LENGTH = struct.Struct("<BI")
_BUFFER_BYTES = _LENGTH.size + _INLINE_BYTES


class Message(NamedTuple):
    """What was received; the files are the receiver's to close."""

    header: dict[str, Any]
    parts: tuple[bytes, ...]
    files: tuple[int, ...]


class Letter:
    """A message ready to be sent, once or to many.

    Args:
        header: What JSON can carry.
        parts: Byte strings.
        files: Descriptors that travel along; they are the letter's, which closes them when it is
            dropped.
    """

    def __init__(
        self, header: dict[str, Any], parts: Sequence[bytes] = (), files: Sequence[int] = ()
    ) -> None:
        self.files = list(files)
        sizes = {"parts": [len(part) for part in parts]}
        head = json.dumps({**header, **sizes}, separators=(",", ":")).encode()
        body = head + b"".join(parts)
        large = len(body) > _INLINE_BYTES
        if large:
            self.files.append(os.memfd_create("wiserl-letter", os.MFD_CLOEXEC))
            _write_all(self.files[-1], body)
            body = b""
        self.packet = _LENGTH.pack(large, len(head)) + body

    def __del__(self) -> None:
        """Gives the files back."""
        for file in self.files:
            os.close(file)


def _write_all(file: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Mailbox:
    """One end of a connection; sending is safe from several threads, receiving is one thread's.

    Args:
        end: The socket; a non-blocking one makes `send` keep what does not fit until `flush`.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._lock = threading.Lock()
        self._waiting: collections.deque[Letter] = collections.deque()

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def send(self, letter: Letter) -> None:
        """Sends a message, after those that are still waiting.

        Raises:
            OSError: The other end is gone.
        """
        with self._lock:
            self._waiting.append(letter)
            self._drain()

    def flush(self) -> bool:
        """Sends what is waiting, as far as it goes; whether nothing waits any more.

        Raises:
            OSError: The other end is gone.
        """
        with self._lock:
            self._drain()
            return not self._waiting

    def _drain(self) -> None:
        while self._waiting:
            letter = self._waiting[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", letter.files))]
            try:
                self._socket.sendmsg([letter.packet], rights if letter.files else [])
            except BlockingIOError:
                return
            self._waiting.popleft()

    def receive(self) -> Message | None:
        """The next message; None where the other end is gone.

        Raises:
            BlockingIOError: The socket does not block and there is none.
        """
        space = socket.CMSG_SPACE(_MAX_FILES * array.array("i").itemsize)
        try:
            packet, rights, _, _ = self._socket.recvmsg(
                _BUFFER_BYTES, space, socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:
            return None
        if not packet:
            return None
        files = array.array("i")
        for level, kind, content in rights:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                files.frombytes(content[: len(content) - len(content) % files.itemsize])
        in_file, length = _LENGTH.unpack_from(packet)
        body = packet[_LENGTH.size :]
        if in_file:
            file = files.pop()
            body = _read_all(file)
            os.close(file)
        header = json.loads(body[:length])
        parts, start = [], length
        for size in header.pop("parts"):
            parts.append(body[start : start + size])
            start += size
        return Message(header, tuple(parts), tuple(files))

    def close(self) -> None:
        """Closes this end."""
        self._socket.close()


def _read_all(file: int) -> bytes:
    """The content from its beginning: the position is shared with everyone who has the file."""
    size = os.fstat(file).st_size
    content = os.pread(file, size, 0)
    while len(content) < size:  # a single call reads 2 GiB at most
        content += os.pread(file, size - len(content), len(content))
    return content
