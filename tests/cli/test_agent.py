import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rtun_core.cli.agent import MAX_NAME, check_certificate, check_name
from rtun_core.errors import UsageError
from rtun_core.wire.address import Address

URL = "https://signal.example"


def write_pair(folder, name, password=None):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    start = datetime.datetime(2025, 1, 1)
    certificate = x509.CertificateBuilder(
        subject, subject, key.public_key(), 1, start, start + datetime.timedelta(days=1)
    ).sign(key, hashes.SHA256())
    hiding = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
    (folder / f"{name}.key").write_bytes(key.private_bytes(pem, pkcs8, hiding))
    return str(folder / f"{name}.pem"), str(folder / f"{name}.key")


def closure(built, name):
    """A variable of the command function that its services factory uses."""
    factory, _outputs = built[-1]
    return dict(
        zip(factory.__code__.co_freevars, (cell.cell_contents for cell in factory.__closure__), strict=True)
    )[name]


class TestListen:
    @pytest.fixture
    def listen(self, run, built):
        pytest.importorskip("rtun_core.signaling.server")
        pytest.importorskip("rtun_core.agent.control")

        def call(*words):
            assert run("agent", "listen", *words) == (0, "", "")
            return closure(built, "config")

        return call

    def test_defaults(self, listen):
        config = listen()
        assert config.listen == Address("0.0.0.0", 19888)
        assert (config.cert, config.key, config.self_signed) == (None, None, False)
        assert (config.bridge_only, config.bridge_channels) == (False, True)

    def test_everything_given(self, listen, tmp_path):
        cert, key = write_pair(tmp_path, "a")
        config = listen(
            *("--addr", "[::1]:0", "-b", "--https-cert", cert, "--key", key, "-s", "x", "--disable-bridge-ch")
        )
        assert config.listen == Address("::1", 0)
        assert (str(config.cert), str(config.key), config.secret) == (cert, key, b"x")
        assert (config.bridge_only, config.bridge_channels) == (True, False)

    def test_self_signed(self, listen):
        assert listen("--self-signed").self_signed

    @pytest.mark.parametrize(
        ("words", "problem"),
        [
            (("--addr", "localhost:1"), "--addr: 'localhost:1' has the host 'localhost'"),
            (("--addr", "1"), "--addr: '1' has no port"),
            (("--cert", "c"), "--https-key is missing: --https-cert was given; accepted: both or neither"),
            (("--key", "k"), "--https-cert is missing: --https-key was given; accepted: both or neither"),
            (
                ("--cert", "c", "--key", "k", "--self-signed"),
                "--self-signed and --https-cert exclude each other",
            ),
            (("--cert", "/no/c", "--key", "/no/k"), "--https-cert: cannot read the file /no/c: No such file"),
            (("-b", "--allow-target", "*"), "--allow-target: with --bridge there is no agent that it is for"),
            (("-b", "--stun", "none"), "--stun: with --bridge there is no agent that it is for"),
            (("--deny-target", "x"), "--deny-target: 'x' has the network 'x'"),
            (("--secret", ""), "--secret: it is empty"),
            (("extra",), "Got unexpected extra argument (extra)"),
        ],
    )
    def test_bad_input_is_one_sentence(self, refuse, built, words, problem):
        assert refuse("agent", "listen", *words).startswith(problem)
        assert built == []


class TestPub:
    @pytest.fixture
    def pub(self, run, built):
        pytest.importorskip("rtun_core.agent.service")

        def call(*words):
            assert run("agent", "pub", *words, URL) == (0, "", "")
            return closure(built, "config")

        return call

    def test_defaults(self, pub):
        config = pub()
        assert (config.name, config.expire_in, config.echo) == (None, None, None)
        assert str(config.endpoint.url) == URL

    def test_everything_given(self, pub):
        config = pub(
            *(
                "-a",
                "beta",
                "--expire_in",
                "2",
                "--disable-shell",
                "--quic-insecure",
                "--echo",
                "127.0.0.1:7",
            ),
            *("--allow-target", "10.0.0.0/8", "--deny-target", "10.1.0.0/16:53", "--stun", "none"),
        )
        assert (config.name, config.expire_in, config.echo) == ("beta", 120.0, Address("127.0.0.1", 7))
        assert config.endpoint.insecure
        assert (len(config.exit.egress.allow), len(config.exit.egress.deny)) == (1, 1)
        assert config.exit.ice.stun_servers == ()

    def test_echo_without_an_address(self, pub, monkeypatch):
        assert pub("--echo").echo == Address("127.0.0.1", 12345)
        monkeypatch.setenv("RTUN_AGENT_DEFAULT_UDP_ECHO_ADDR", "127.0.0.1:99")
        assert pub().echo == Address("127.0.0.1", 99)

    def test_environment(self, pub, monkeypatch):
        monkeypatch.setenv("RTUN_AGENT_PUB_AGENT", "from-env")
        monkeypatch.setenv("RTUN_AGENT_PUB_EXPIRE_IN", "1")
        config = pub()
        assert (config.name, config.expire_in) == ("from-env", 60.0)

    @pytest.mark.parametrize(
        ("words", "problem"),
        [
            (("-d", "0"), "--expire-in: '0' is not accepted; accepted: a whole number of minutes from 1"),
            (("-d", "1.5"), "--expire-in: '1.5' is not accepted"),
            (("-a", ""), "--agent: '' is no name"),
            (("-a", "a\nb"), "--agent: 'a\\nb' is no name"),
            (("--echo", "x"), "--echo: 'x' has no port"),
            (("--allow-target", "x"), "--allow-target: "),
        ],
    )
    def test_bad_input_is_one_sentence(self, refuse, built, words, problem):
        assert refuse("agent", "pub", *words, URL).startswith(problem)
        assert built == []


@pytest.mark.parametrize("name", [None, "a", "x" * MAX_NAME, "a b.c"])
def test_names(name):
    check_name(name)


@pytest.mark.parametrize("name", ["", "x" * (MAX_NAME + 1), "ü", " a", "a\t"])
def test_what_is_no_name(name):
    with pytest.raises(UsageError, match="is no name; accepted: 1 to 128 printable ASCII characters"):
        check_name(name)


def test_certificates(tmp_path):
    cert, key = write_pair(tmp_path, "a")
    check_certificate(cert, key, self_signed=False)
    check_certificate(None, None, self_signed=True)


def test_certificates_that_cannot_be_used(tmp_path):
    cert, key = write_pair(tmp_path, "a")
    _other, other_key = write_pair(tmp_path, "b")
    locked_cert, locked_key = write_pair(tmp_path, "c", b"password")
    for pair in ((cert, other_key), (key, cert), (locked_cert, locked_key)):
        with pytest.raises(UsageError, match="cannot be used; accepted: a PEM certificate and its PEM key"):
            check_certificate(*pair, self_signed=False)
