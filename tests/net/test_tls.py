"""Certificates and TLS contexts: what is accepted, what is said about the rest, when files are reloaded."""

import asyncio
import hashlib
import ipaddress
import ssl
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa, x25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from rtun_core.errors import UsageError
from rtun_core.net import tls


@pytest.fixture
def files(tmp_path):
    cert, key = tls.self_signed(["localhost", "127.0.0.1"])
    (tmp_path / "cert.pem").write_bytes(cert)
    (tmp_path / "key.pem").write_bytes(key)
    return tmp_path / "cert.pem", tmp_path / "key.pem"


def test_self_signed_is_an_end_entity_certificate_for_its_names():
    now = datetime(2026, 2, 3, tzinfo=UTC)
    cert_pem, key_pem = tls.self_signed(["rtun.example", "192.0.2.1", "::1"], now=now)
    cert = x509.load_pem_x509_certificate(cert_pem)
    key = serialization.load_pem_private_key(key_pem, None)
    assert cert.version is x509.Version.v3
    assert cert.public_key() == key.public_key()
    assert key.curve.name == "secp256r1"
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["rtun.example"]
    expected = [ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("::1")]
    assert names.get_values_for_type(x509.IPAddress) == expected
    assert not cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert cert.not_valid_before_utc < now < cert.not_valid_after_utc


def test_self_signed_needs_a_name():
    with pytest.raises(UsageError, match="at least one name"):
        tls.self_signed([])


def test_a_pair_survives_reading_and_hides_its_key(files):
    pair = tls.read_pair(*files)
    assert pair.cert_pem == files[0].read_bytes()
    assert len(pair.chain()) == 1
    assert "PRIVATE" not in repr(pair)


def test_der_files_are_read_as_such(files, tmp_path):
    cert = x509.load_pem_x509_certificate(files[0].read_bytes())
    key = serialization.load_pem_private_key(files[1].read_bytes(), None)
    der_cert, der_key = tmp_path / "cert.der", tmp_path / "key.der"
    der_cert.write_bytes(cert.public_bytes(serialization.Encoding.DER))
    der_key.write_bytes(
        key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    assert tls.read_pair(der_cert, der_key) == tls.read_pair(*files)


def _key_pem(key, kind=serialization.PrivateFormat.PKCS8, passphrase=None):
    cipher = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, kind, cipher)


def test_sec1_keys_are_accepted(files):
    cert, key = files
    parsed = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(_key_pem(parsed, serialization.PrivateFormat.TraditionalOpenSSL))
    assert tls.pair_context(tls.read_pair(cert, key))


@pytest.mark.parametrize(
    ("which", "content", "sentence"),
    [
        (0, None, "certificate file .*cert.pem cannot be read: No such file"),
        (1, None, "private key file .*key.pem cannot be read: No such file"),
        (0, b"nonsense", "certificate file .*cert.pem holds no valid certificate"),
        (0, b"", "certificate file .*cert.pem holds no valid certificate"),
        (1, b"nonsense", "private key file .*key.pem holds no valid key"),
        (0, b"x" * (tls.MAX_FILE + 1), "cert.pem is too big"),
    ],
)
def test_a_bad_file_is_named(files, which, content, sentence):
    if content is None:
        files[which].unlink()
    else:
        files[which].write_bytes(content)
    with pytest.raises(UsageError, match=sentence):
        tls.pair_context(tls.read_pair(*files))


def test_keys_that_do_not_fit_are_refused(files):
    cert, key = files
    other = rsa.generate_private_key(65537, 2048)
    key.write_bytes(_key_pem(other))
    with pytest.raises(UsageError, match=r"key in .*key.pem does not belong to the certificate in .*cert"):
        tls.read_pair(cert, key)
    key.write_bytes(_key_pem(other, passphrase=b"secret"))
    with pytest.raises(UsageError, match="encrypted"):
        tls.read_pair(cert, key)
    key.write_bytes(_key_pem(x25519.X25519PrivateKey.generate()))
    with pytest.raises(UsageError, match="no valid key"):
        tls.read_pair(cert, key)


def test_what_the_tls_library_refuses_is_a_usage_error(files):
    pair = tls.read_pair(*files)
    foreign = tls.CertificatePair(pair.cert_pem, tls.self_signed(["other"])[1])
    with pytest.raises(UsageError, match="TLS library"):
        tls.pair_context(foreign)


def test_the_client_judges_as_it_is_told(files, tmp_path):
    strict = tls.client_context(ca=files[0], insecure=False)
    assert strict.verify_mode == ssl.CERT_REQUIRED
    assert strict.check_hostname
    assert len(strict.get_ca_certs(binary_form=True)) in (0, 1)  # a leaf is trusted without being a CA
    assert tls.client_context(ca=None, insecure=False).verify_mode == ssl.CERT_REQUIRED
    assert tls.client_context(ca=None, insecure=True).verify_mode == ssl.CERT_NONE
    with pytest.raises(UsageError, match=r"CA file .*missing.pem cannot be read"):
        tls.client_context(ca=tmp_path / "missing.pem", insecure=False)
    (tmp_path / "empty.pem").write_bytes(b"nothing here")
    with pytest.raises(UsageError, match=r"CA file .*empty.pem holds no certificate"):
        tls.client_context(ca=tmp_path / "empty.pem", insecure=False)


async def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> bytes:
    async def close(_reader, writer):
        writer.close()

    listener = await asyncio.start_server(close, "127.0.0.1", 0, ssl=server)
    port = listener.sockets[0].getsockname()[1]
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=host)
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
    finally:
        listener.close()
        await listener.wait_closed()
    return der


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_self_signed_leaf_is_its_own_root(files, host):
    client = tls.client_context(ca=files[0], insecure=False)
    assert await _handshake(tls.pair_context(tls.read_pair(*files)), client, host)


async def test_an_installed_certificate_is_used_by_the_next_handshake(files, tmp_path):
    context = tls.pair_context(tls.read_pair(*files))
    insecure = tls.client_context(ca=None, insecure=True)
    before = await _handshake(context, insecure, "localhost")
    tls.install(context, tls.CertificatePair(*tls.self_signed(["localhost"])))
    assert await _handshake(context, insecure, "localhost") != before


def test_the_digest_is_over_length_prefixed_key_then_certificate(tmp_path):
    cert, key = tmp_path / "c", tmp_path / "k"
    cert.write_bytes(b"certificate")
    key.write_bytes(b"key")
    expected = hashlib.sha256(b"\0\0\0\0\0\0\0\3key" + b"\0\0\0\0\0\0\0\x0bcertificate").digest()
    assert tls.file_digest(cert, key) == expected


def test_changed_files_are_loaded_once_they_have_settled():
    watch = tls.CertificateWatch(b"a")
    assert not watch.observe(b"a", 0)
    assert not watch.observe(b"b", 15)
    assert not watch.observe(b"b", 17.9)
    assert watch.observe(b"b", 18)
    watch.loaded(b"b")
    assert not watch.observe(b"b", 30)


def test_a_change_that_goes_on_starts_the_wait_again():
    watch = tls.CertificateWatch(b"a")
    watch.observe(b"b", 0)
    assert not watch.observe(b"c", 15)
    assert not watch.observe(b"a", 30)
    assert not watch.observe(b"c", 45)
    assert watch.observe(b"c", 60)


def test_a_failed_load_is_offered_again():
    watch = tls.CertificateWatch(b"a")
    watch.observe(b"b", 0)
    assert watch.observe(b"b", 15)
    assert watch.observe(b"b", 30)
