"""How a client knows its learner and is known by it: TLS, a token, a certificate of its own."""

from __future__ import annotations

import dataclasses
import ssl
from pathlib import Path  # noqa: TC003 - flags are made from the types
from typing import TYPE_CHECKING

from common.errors import InvalidFieldError, WiseRLError
from common.watched_files import WatchedFiles, read

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

TOKEN_METADATA = "authorization"  # noqa: S105 - the name of a header
TOKEN_PREFIX = "Bearer "  # noqa: S105

_SHORTEST_TOKEN, _LONGEST_TOKEN = 16, 1024


@dataclasses.dataclass(frozen=True)
class ClientSecurity:
    """How to talk to a learner; without any of these in plain text, which suits loopback."""

    tls_ca: Path | None = None
    """PEM of the authority whose certificate the learner must have; calls are encrypted then."""
    token_file: Path | None = None
    """File of the token that the learner knows this client by; replace it whenever needed."""
    tls_client_cert: Path | None = None
    """PEM of a certificate of this client's own, where the learner demands one (mutual TLS)."""
    tls_client_key: Path | None = None
    """PEM of its private key."""

    def __post_init__(self) -> None:
        """Refuses what would not protect anything.

        Raises:
            InvalidFieldError: A token or a certificate without TLS, or half a pair.
        """
        for name in ("token_file", "tls_client_cert"):
            if getattr(self, name) is not None and self.tls_ca is None:
                raise InvalidFieldError(
                    name, "would travel in plain text; say by --tls-ca whom to send it to"
                )
        check_pair(tls_client_cert=self.tls_client_cert, tls_client_key=self.tls_client_key)

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Of a channel to the learner; None for plain text.

        Raises:
            WiseRLError: A file that cannot be read, or does not hold what it should.
        """
        if self.tls_ca is None:
            return None
        import grpc

        authority = read(self.tls_ca, "the authority's certificate")
        check_authority(authority, self.tls_ca)
        pair = None
        if self.tls_client_cert is not None:
            pair = read_pair(self.tls_client_cert, self.tls_client_key)
        key, chain = pair or (None, None)
        channel = grpc.ssl_channel_credentials(authority, key, chain)
        if self.token_file is None:
            return channel
        calls = grpc.metadata_call_credentials(_token_plugin(self.token_file))
        return grpc.composite_channel_credentials(channel, calls)


def check_pair(**pair: Path | None) -> None:
    """That a certificate and its key, by their settings' names, are named both or not at all.

    Raises:
        InvalidFieldError: Only one of them is.
    """
    missing = [name for name, path in pair.items() if path is None]
    if len(missing) == 1:
        raise InvalidFieldError(missing[0], "is missing; a certificate and its key belong together")


def read_pair(certificate: Path, key: Path | None) -> tuple[bytes, bytes]:
    """Private key and certificate chain, both PEM, as gRPC takes them.

    Raises:
        WiseRLError: A file cannot be read, is no PEM, or the two do not belong together.
    """
    if key is None:
        raise InvalidFieldError("tls_key", f"is missing for {certificate}")
    pair = read(key, "the private key"), read(certificate, "the certificate")
    try:
        # An encrypted key would ask on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise WiseRLError(
            f"certificate {str(certificate)!r} and key {str(key)!r} are no pair of unencrypted PEM "
            f"files: {error}; make some with `wiserl credentials`"
        ) from None
    return pair


def check_authority(pem: bytes, path: Path) -> None:
    """That a file holds certificates of authorities.

    Raises:
        WiseRLError: It does not.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError, ValueError) as error:
        raise WiseRLError(
            f"{str(path)!r} is no PEM of an authority's certificate: {error}; it is ca.pem of what "
            "`wiserl credentials` makes"
        ) from None


def parse_token(text: str, origin: str) -> str:
    """A token as it stands in a file.

    Raises:
        WiseRLError: It is too short to be secret, too long for a header, or has blanks in it.
    """
    token = text.strip()
    is_plain = token.isascii() and token.isprintable() and " " not in token
    if is_plain and _SHORTEST_TOKEN <= len(token) <= _LONGEST_TOKEN:
        return token
    raise WiseRLError(
        f"{origin} holds no token: one has {_SHORTEST_TOKEN} to {_LONGEST_TOKEN} printable ASCII "
        "characters and no blanks; make some with `wiserl credentials`"
    )


def _token_plugin(path: Path) -> grpc.AuthMetadataPlugin:
    import grpc

    class Token(grpc.AuthMetadataPlugin):
        """Adds the token to each call: whoever replaces the file need not restart anything."""

        def __init__(self) -> None:
            self._token = WatchedFiles([path], self._read)

        @staticmethod
        def _read() -> str:
            text = read(path, "the token").decode("ascii", errors="replace")
            return parse_token(text, str(path))

        def __call__(
            self,
            context: grpc.AuthMetadataContext,  # noqa: ARG002 - every call gets it
            callback: Callable[[tuple[tuple[str, str], ...], Exception | None], None],
        ) -> None:
            metadata = (TOKEN_METADATA, f"{TOKEN_PREFIX}{self._token.get()}")
            callback((metadata,), None)

    return Token()
