"""Certificates and tokens for a learner and its samplers, made on the spot.

A folder of its own for each who reads it, so that nobody needs more than his own:

- `authority/`: the private key of the authority that signs; keep it where nobody else looks
- `learner/`: certificate, key, the authority's certificate, and the file of all tokens
- `sampler/`: the authority's certificate, a token, and a certificate of its own for mutual TLS
- `viewer/`: the same for `wiserl watch` and `wiserl doctor`
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import ipaddress
import os
import secrets
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.errors import WiseRLError
from learner import files

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

CA, CERTIFICATE, KEY, TOKEN, TOKENS = "ca.pem", "cert.pem", "key.pem", "token", "tokens"
AUTHORITY, LEARNER, CLIENTS = "authority", "learner", ("sampler", "viewer")

_AUTHORITY_DAYS = 3650
_CERTIFICATE_DAYS = 365
_RENEWED_BEFORE_DAYS = 60
"""A certificate that ends sooner is made anew; a learner takes it over without a restart."""

_CLOCKS_DIFFER = dt.timedelta(hours=1)


@dataclasses.dataclass(frozen=True)
class Made:
    """What became of a file."""

    path: Path
    is_new: bool


class Credentials:
    """Makes what is missing in a folder, and leaves alone what is there and lasts.

    Args:
        folder: Where.
        hosts: Names and addresses under which the learner is reached.
        now: The time.

    Attributes:
        made: All files, in the order in which they were looked at.
    """

    def __init__(self, folder: Path, hosts: Iterable[str], now: dt.datetime | None = None) -> None:
        self.made: list[Made] = []
        self._folder = folder
        self._hosts = tuple(hosts)
        self._now = now or dt.datetime.now(dt.UTC)

    def make(self) -> None:
        """Makes it.

        Raises:
            WiseRLError: A file that cannot be read or written, or an authority that has ended.
        """
        try:
            self._make()
        except OSError as error:
            raise WiseRLError(f"{error.filename}: {error.strerror}; who owns the folder?") from None

    def _make(self) -> None:
        for name in (AUTHORITY, LEARNER, *CLIENTS):
            # One folder may be the volume of a container and have its owner already.
            (self._folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        key, authority = self._authority()
        pem = authority.public_bytes(serialization.Encoding.PEM)
        for name in (LEARNER, *CLIENTS):
            self._write_if_other(self._folder / name / CA, pem)
        self._certificate(LEARNER, key, authority, self._hosts)
        for name in CLIENTS:
            self._certificate(name, key, authority, ())
            self._token(name)
        self._tokens()

    def _authority(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key_path = self._folder / AUTHORITY / KEY
        path = self._folder / AUTHORITY / CA
        if key_path.exists() and path.exists():
            certificate = _certificate_in(path)
            if certificate.not_valid_after_utc <= self._now:
                raise WiseRLError(
                    f"the authority in {path} ended at {certificate.not_valid_after_utc}; remove "
                    f"the folder {self._folder}, and start learner and samplers again"
                )
            self.made += [Made(key_path, is_new=False), Made(path, is_new=False)]
            return _key_in(key_path), certificate
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "WiseRL authority")])
        certificate = (
            _builder(name, name, key.public_key(), self._now, _AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(_subject_key(key), critical=False)
            .sign(key, hashes.SHA256())
        )
        self._write(key_path, _pem(key))
        self._write(path, certificate.public_bytes(serialization.Encoding.PEM))
        return key, certificate

    def _certificate(
        self,
        name: str,
        authority_key: ec.EllipticCurvePrivateKey,
        authority: x509.Certificate,
        hosts: Sequence[str],
    ) -> None:
        path, key_path = (self._folder / name / file for file in (CERTIFICATE, KEY))
        if path.exists() and key_path.exists() and self._lasts(path, authority, hosts):
            self.made += [Made(path, is_new=False), Made(key_path, is_new=False)]
            return
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"wiserl {name}")])
        usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            _builder(subject, authority.subject, key.public_key(), self._now, _CERTIFICATE_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(_authority_key(authority_key), critical=False)
        )
        if hosts:
            names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(authority_key, hashes.SHA256())
        self._write(key_path, _pem(key))
        self._write(path, certificate.public_bytes(serialization.Encoding.PEM))

    def _lasts(self, path: Path, authority: x509.Certificate, hosts: Sequence[str]) -> bool:
        """Whether a certificate is of this authority, for these hosts, and ends late enough."""
        certificate = _certificate_in(path)
        try:
            certificate.verify_directly_issued_by(authority)
        except Exception:  # noqa: BLE001 - InvalidSignature and others: another one is made
            return False
        left = certificate.not_valid_after_utc - self._now
        return left > dt.timedelta(days=_RENEWED_BEFORE_DAYS) and _hosts_of(certificate) == set(
            map(_general_name, hosts)
        )

    def _token(self, name: str) -> None:
        path = self._folder / name / TOKEN
        if path.exists():
            self.made.append(Made(path, is_new=False))
        else:
            self._write(path, f"{secrets.token_urlsafe(32)}\n".encode())

    def _tokens(self) -> None:
        """The learner's file: lines of tokens that are there stay, also those somebody added."""
        path = self._folder / LEARNER / TOKENS
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        known = set(text.split())
        for name in CLIENTS:
            token = (self._folder / name / TOKEN).read_text(encoding="utf-8").strip()
            if token not in known:
                text += f"{name} {token}\n"
        self._write_if_other(path, text.encode())

    def _write_if_other(self, path: Path, content: bytes) -> None:
        if path.exists() and path.read_bytes() == content:
            self.made.append(Made(path, is_new=False))
        else:
            self._write(path, content)

    def _write(self, path: Path, content: bytes) -> None:
        """Replaces a file at once, readable by its owner alone."""
        before = os.umask(0o077)
        try:
            files.replace(path, content)
        finally:
            os.umask(before)
        self.made.append(Made(path, is_new=True))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: dt.datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _subject_key(key: ec.EllipticCurvePrivateKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key())


def _authority_key(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _hosts_of(certificate: x509.Certificate) -> set[x509.GeneralName]:
    try:
        return set(
            certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        )
    except x509.ExtensionNotFound:
        return set()


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _certificate_in(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise WiseRLError(
            f"{path} is no certificate ({error}); remove it to have it made"
        ) from None


def _key_in(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise WiseRLError(f"{path} is no private key ({error}); remove the folder") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise WiseRLError(f"{path} is no key that this command made; name another folder")
    return key
