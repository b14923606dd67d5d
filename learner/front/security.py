"""What a learner's address demands of its callers, and with which certificate it shows itself."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import TYPE_CHECKING

import grpc

from common.errors import InvalidFieldError, WiseRLError
from common.security import check_authority, check_pair, read_pair
from common.watched_files import WatchedFiles, read

if TYPE_CHECKING:
    from pathlib import Path

    from grpc import ServerCertificateConfiguration


class AddressError(WiseRLError):
    """An address that the server must not or cannot listen on."""


@dataclasses.dataclass(frozen=True)
class ServerSecurity:
    """How a server is protected; without any of these by nothing, which suits loopback.

    Attributes:
        tls_cert: PEM of its certificate, with any intermediate ones.
        tls_key: PEM of the private key.
        tls_client_ca: PEM of the authority that clients must have a certificate of (mutual TLS).
        tokens_file: The tokens that it knows.
        insecure: Listen beyond this machine even so.
    """

    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    tokens_file: Path | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        """Refuses what would not protect anything.

        Raises:
            InvalidFieldError: Tokens or client certificates without TLS, or half a pair.
        """
        check_pair(tls_cert=self.tls_cert, tls_key=self.tls_key)
        for name in ("tokens_file", "tls_client_ca"):
            if getattr(self, name) is not None and self.tls_cert is None:
                raise InvalidFieldError(
                    name, "needs --tls-cert and --tls-key: a token must not travel in plain text"
                )

    @property
    def is_complete(self) -> bool:
        """Whether every call is encrypted and authenticated."""
        return self.tls_cert is not None and self.tokens_file is not None

    def check_address(self, address: str) -> None:
        """That an address is protected, one that only this machine reaches, or accepted as it is.

        Raises:
            AddressError: It is none of that, or has no port.
        """
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdecimal() or int(port) > 65535:
            raise AddressError(f"address {address!r} has no port; write HOST:PORT, port 0 for any")
        if not (self.is_complete or self.insecure or _is_loopback(host.strip("[]"))):
            raise AddressError(
                f"address {address!r} is reachable from other machines, and calls are "
                f"{self._lacking()}; give --tls-cert, --tls-key and --tokens-file (`wiserl "
                "credentials` makes them), listen on 127.0.0.1, or accept that with --insecure"
            )

    def _lacking(self) -> str:
        return "not authenticated" if self.tls_cert else "neither encrypted nor authenticated"

    def credentials(self) -> grpc.ServerCredentials | None:
        """Of the port; None for plain text. Files that are replaced count from the next connection.

        Raises:
            WiseRLError: A file cannot be read, or does not hold what it should.
        """
        certificate, key, authority = self.tls_cert, self.tls_key, self.tls_client_ca
        if certificate is None:
            return None

        def configuration() -> ServerCertificateConfiguration:
            roots = None
            if authority is not None:
                roots = read(authority, "the authority of clients")
                check_authority(roots, authority)
            return grpc.ssl_server_certificate_configuration([read_pair(certificate, key)], roots)

        paths = [path for path in (certificate, key, authority) if path is not None]
        files = WatchedFiles(paths, configuration)
        return grpc.dynamic_ssl_server_credentials(
            files.get(),
            lambda: files.get() if files.changed() else None,  # type: ignore[arg-type,return-value] # None: no change
            require_client_authentication=authority is not None,
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
