"""The credentials that `wiserl credentials` makes, and the flags that name them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from processes import wiserl

if TYPE_CHECKING:
    from pathlib import Path


def made(folder: Path) -> Path:
    """Has the command make them in a folder."""
    subprocess.run(wiserl("credentials", str(folder)), check=True, timeout=60)
    return folder


def of_client(folder: Path) -> list[str]:
    """The flags of a sampler or a viewer, by mutual TLS."""
    files = {"tls-ca": "ca.pem", "token-file": "token"}
    return _flags(folder, files | {"tls-client-cert": "cert.pem", "tls-client-key": "key.pem"})


def of_learner(folder: Path, *, mutual: bool = True) -> list[str]:
    """The flags of a learner; those that connect show a certificate, too, where it is mutual."""
    files = {"tls-cert": "cert.pem", "tls-key": "key.pem", "tokens-file": "tokens"}
    return _flags(folder, files | ({"tls-client-ca": "ca.pem"} if mutual else {}))


def _flags(folder: Path, files: dict[str, str]) -> list[str]:
    return [part for flag, name in files.items() for part in (f"--{flag}", str(folder / name))]
