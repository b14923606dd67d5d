"""Certificates, tokens and a protected server for tests of security."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import trustme
from front_support import make_coordinator

from common.security import ClientSecurity
from learner.front.security import ServerSecurity
from learner.front.server import FrontServer

if TYPE_CHECKING:
    from pathlib import Path

SAMPLER, VIEWER, EXPIRED = "sampler-token-0123456789", "viewer-token-0123456789", "e" * 20
TOKENS = f"""
# Who may do what.
sampler {SAMPLER}
viewer {VIEWER} 2999-01-31T00:00:00Z
sampler {EXPIRED} 2020-01-31T00:00:00+01:00
"""


@dataclasses.dataclass(frozen=True)
class Authority:
    """An authority and the folder where its files go."""

    folder: Path
    ca: trustme.CA = dataclasses.field(default_factory=trustme.CA)

    @property
    def pem(self) -> Path:
        path = self.folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(path))
        return path

    def issue(self, *names: str, stem: str = "learner") -> tuple[Path, Path]:
        """Certificate and key for these hosts."""
        issued = self.ca.issue_cert(*names)
        certificate, key = self.folder / f"{stem}.pem", self.folder / f"{stem}-key.pem"
        certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return certificate, key

    def server(self, *names: str, **more: object) -> ServerSecurity:
        """A server of these names that knows `TOKENS`."""
        certificate, key = self.issue(*(names or ("localhost", "127.0.0.1")))
        tokens = self.folder / "tokens"
        tokens.write_text(TOKENS)
        return ServerSecurity(certificate, key, tokens_file=tokens, **more)

    def client(self, token: str = SAMPLER, **more: object) -> ClientSecurity:
        """A client that trusts this authority."""
        path = self.folder / "token"
        path.write_text(f"{token}\n")
        return ClientSecurity(tls_ca=self.pem, token_file=path, **more)


def start(security: ServerSecurity, **settings: object) -> FrontServer:
    server = FrontServer(make_coordinator(**settings), security=security)
    server.start()
    return server
