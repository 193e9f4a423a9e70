"""Certificates: reading and checking them, TLS contexts of both sides, self-signed ones, hot reload.

A server reads certificate and key together into one `CertificatePair` and uses exactly these bytes for
HTTPS, QUIC and the fingerprint, so a file that changes in between cannot make them disagree.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    PrivateKeyTypes,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rtun_core.errors import UsageError

MAX_FILE = 1024 * 1024
SETTLE_S = 3.0
POLL_S = 15.0

_VALIDITY = timedelta(days=825)
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class CertificatePair:
    """A certificate chain, leaf first, and its private key, both PEM and known to fit each other."""

    cert_pem: bytes
    key_pem: bytes = field(repr=False)

    def chain(self) -> list[x509.Certificate]:
        """The parsed certificates, leaf first."""
        return x509.load_pem_x509_certificates(self.cert_pem)

    def private_key(self) -> PrivateKeyTypes:
        """The parsed private key."""
        return serialization.load_pem_private_key(self.key_pem, None)


def read_pair(cert: Path, key: Path) -> CertificatePair:
    """Read and check a certificate file and its key file, PEM or (named `.der`) DER.

    Raises UsageError naming the file and what is wrong with it.
    """
    cert_pem = _certificate_pem(cert)
    key_pem = _key_pem(key)
    pair = CertificatePair(cert_pem, key_pem)
    if pair.chain()[0].public_key() != pair.private_key().public_key():
        raise UsageError(f"the key in {key} does not belong to the certificate in {cert}")
    return pair


def file_digest(cert: Path, key: Path) -> bytes:
    """SHA-256 over key then certificate as they are on disk, each with its length in front (wire spec 2.1).

    Raises UsageError if a file cannot be read.
    """
    digest = hashlib.sha256()
    for content in (_read(key, "private key"), _read(cert, "certificate")):
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.digest()


def client_context(*, ca: Path | None, insecure: bool) -> ssl.SSLContext:
    """TLS context of a client that offers HTTP/1.1 only.

    `ca` is a PEM file of trusted roots instead of the system's; `insecure` accepts every certificate.
    Raises UsageError when `ca` cannot be used.
    """
    context = ssl.create_default_context()
    if ca is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load_roots(context, ca)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    # A WebSocket must not end up on HTTP/2 (wire spec 4).
    context.set_alpn_protocols(["http/1.1"])
    return context


def pair_context(pair: CertificatePair) -> ssl.SSLContext:
    """TLS context of a server from a pair in memory. Raises UsageError if the TLS library refuses it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    install(context, pair)
    return context


def install(context: ssl.SSLContext, pair: CertificatePair) -> None:
    """Give `context` a certificate; handshakes that begin later use it.

    Raises UsageError if the TLS library refuses the pair.
    """
    with _temporary(pair.cert_pem + b"\n" + pair.key_pem) as path:
        try:
            context.load_cert_chain(path)
        except ssl.SSLError as error:
            raise UsageError(f"the TLS library refuses the certificate: {error.reason or error}") from None


def self_signed(names: Sequence[str], *, now: datetime | None = None) -> tuple[bytes, bytes]:
    """Make a self-signed ECDSA P-256 server certificate for DNS names and IP literals: (cert PEM, key PEM).

    It is an X.509 v3 end-entity certificate, so that peers that check only its signature accept it too.
    """
    if not names:
        raise UsageError("a self-signed certificate needs at least one name")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _build(names, key, now or datetime.now(UTC)).sign(key, hashes.SHA256())
    key_pem = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(_PEM), key_pem


class CertificateWatch:
    """Decides when changed certificate files are loaded: once they have been the same for a while.

    `active` is the digest of what is in use. A digest that `loaded` is not told about is offered again.
    """

    def __init__(self, active: bytes, *, settle: float = SETTLE_S) -> None:
        self._active = active
        self._settle = settle
        self._candidate: bytes | None = None
        self._since = 0.0

    def observe(self, digest: bytes, now: float) -> bool:
        """Tell what is on disk at `now` (seconds); True means: load it now."""
        if digest == self._active:
            self._candidate = None
            return False
        if digest != self._candidate:
            self._candidate, self._since = digest, now
            return False
        return now - self._since >= self._settle

    def loaded(self, digest: bytes) -> None:
        """Tell that the files with `digest` are in use."""
        self._active, self._candidate = digest, None


def _build(names: Sequence[str], key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    public = key.public_key()
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks of peers may be slow
        .not_valid_after(now + _VALIDITY)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _certificate_pem(path: Path) -> bytes:
    content = _read(path, "certificate")
    try:
        if path.suffix == ".der":
            return x509.load_der_x509_certificate(content).public_bytes(_PEM)
        chain = x509.load_pem_x509_certificates(content)
    except ValueError:
        raise UsageError(
            f"the certificate file {path} holds no valid certificate; accepted: a PEM chain, or DER in *.der"
        ) from None
    return b"".join(certificate.public_bytes(_PEM) for certificate in chain)


def _key_pem(path: Path) -> bytes:
    content = _read(path, "private key")
    try:
        key = _parse_key(content, der=path.suffix == ".der")
    except TypeError:
        raise UsageError(
            f"the private key file {path} is encrypted; accepted: a key without passphrase"
        ) from None
    except ValueError:
        raise UsageError(
            f"the private key file {path} holds no valid key; accepted: PEM (PKCS#8, RSA, EC), DER in *.der"
        ) from None
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _parse_key(content: bytes, *, der: bool) -> CertificateIssuerPrivateKeyTypes:
    load = serialization.load_der_private_key if der else serialization.load_pem_private_key
    key = load(content, None)
    if not hasattr(key, "sign"):
        raise ValueError("the key cannot sign")
    return key  # type: ignore[return-value]  # every key with `sign` is one of these types


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        raise UsageError(f"the {what} file {path} cannot be read: {error.strerror or error}") from None
    if len(content) > MAX_FILE:
        raise UsageError(f"the {what} file {path} is too big; accepted: up to {MAX_FILE} bytes")
    return content


def _load_roots(context: ssl.SSLContext, ca: Path) -> None:
    _read(ca, "CA")
    try:
        context.load_verify_locations(cafile=ca)
    except (ssl.SSLError, OSError):
        raise UsageError(f"the CA file {ca} holds no certificate; accepted: PEM certificates") from None


@contextmanager
def _temporary(content: bytes) -> Iterator[str]:
    # The TLS library reads certificates only from files; mkstemp makes one that only we can read.
    handle, path = tempfile.mkstemp(prefix="rtun-", suffix=".pem")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        yield path
    finally:
        os.unlink(path)
