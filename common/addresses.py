"""Addresses as people write them: HOST:PORT."""

from __future__ import annotations

import ipaddress

from common.errors import InvalidFieldError


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT` (an IPv6 host in brackets).

    Raises:
        InvalidFieldError: No host, no port, or a port outside 1 to 65535.
    """
    host, colon, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or (":" in bare and bare == host):
        raise InvalidFieldError("address", f"{address!r} is no HOST:PORT, such as 127.0.0.1:5555")
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise InvalidFieldError("address", f"{address!r} has no port from 1 to 65535")
    return bare, int(port)


def is_loopback(address: str) -> bool:
    """Whether `HOST:PORT` names this machine's loopback interface."""
    host, _ = split_address(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
