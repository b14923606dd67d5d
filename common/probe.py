"""`python -m common.probe [readyz]`: asks this container's process how it is; 0 if it is well.

The health checks of the images run it. It imports next to nothing, because sixteen containers that
ask every few seconds share their cores with what they ask about.
"""

from __future__ import annotations

import os
import socket
import sys

PORT_VARIABLE = "WISERL_STATUS_PORT"
SECONDS = 5.0


def main() -> int:
    """Prints what the process answers; answers 0 for a status of 200, else 1."""
    page = sys.argv[1] if len(sys.argv) > 1 else "readyz"
    try:
        answer = ask(int(os.environ[PORT_VARIABLE]), page)
    except (OSError, KeyError, ValueError) as error:
        print(f"no answer: {error!r}")  # noqa: T201 - the engine keeps it for people
        return 1
    head, _, body = answer.partition("\r\n\r\n")
    print(body.strip())  # noqa: T201
    return 0 if head.split(" ", 2)[1:2] == ["200"] else 1


def ask(port: int, page: str) -> str:
    """The whole answer to a GET of a page on this machine.

    Raises:
        OSError: There is none within `SECONDS`.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        connection.sendall(f"GET /{page} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode("ascii"))
        received = b""
        while chunk := connection.recv(4096):
            received += chunk
    return received.decode("utf-8", errors="replace")


if __name__ == "__main__":
    sys.exit(main())
