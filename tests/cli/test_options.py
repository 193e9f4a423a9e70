import datetime
import os
import re

import click
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rtun_core.cli.options import (
    MAX_PEM,
    MAX_SECRET,
    UrlCommand,
    address,
    build_access,
    build_egress,
    build_ice,
    named,
    number,
    packed,
    read_ca,
    read_secret,
)
from rtun_core.errors import RtunError, UsageError
from rtun_core.net.ice import DEFAULT_STUN_SERVERS
from rtun_core.wire.address import Address
from rtun_core.wire.token import PUBLIC_SECRET


@pytest.fixture
def pem(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    start = datetime.datetime(2025, 1, 1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    path = tmp_path / "ca.pem"
    path.write_bytes(certificate)
    return path


def option(name="--size"):
    return click.Option([name, "-s"])


def ask(callback, value):
    return callback(click.Context(click.Command("c")), option(), value)


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("10", 10), (None, None)])
def test_number(text, value):
    assert ask(number(int, 1, 10), text) == value


@pytest.mark.parametrize("text", ["0", "11", "-1", "x", "", "1.5", "1e1", "nan", "9" * 5000])
def test_number_out_of_bounds(text):
    with pytest.raises(UsageError, match=r"^--size: .* accepted: a whole number of bytes from 1 to 10$"):
        ask(number(int, 1, 10, "bytes"), text)


@pytest.mark.parametrize("text", ["nan", "inf", "-0.1", "1e400"])
def test_fraction_out_of_bounds(text):
    with pytest.raises(UsageError, match=r"accepted: a number from 0 to 2\.5$"):
        ask(number(float, 0, 2.5), text)


def test_address():
    assert ask(address(), "dns.example:53") == Address("dns.example", 53)
    assert ask(address(local=True), ":9100") == Address("127.0.0.1", 9100)
    assert ask(address(), None) is None
    with pytest.raises(UsageError, match=r"^--size: 'dns.example:53' has the host"):
        ask(address(names=False), "dns.example:53")
    with pytest.raises(UsageError, match=r"^--size: "):
        ask(address(), ":53")


def test_named_puts_the_name_in_front():
    with pytest.raises(UsageError, match=r"^--x: invalid literal"):
        named("--x", int, "a")


def test_secret():
    assert read_secret(None, None) == PUBLIC_SECRET
    assert read_secret("straße", None) == "straße".encode()


def test_empty_secret():
    with pytest.raises(UsageError, match="--secret: it is empty"):
        read_secret("", None)


@pytest.mark.parametrize(
    ("data", "secret"),
    [(b"s", b"s"), (b"s\n", b"s"), (b"s\r\n", b"s"), (b"s\n\n", b"s\n"), (b"s\r", b"s\r"), (b" s ", b" s ")],
)
def test_secret_file(tmp_path, data, secret):
    path = tmp_path / "secret"
    path.write_bytes(data)
    assert read_secret(None, str(path)) == secret


@pytest.mark.parametrize("data", [b"", b"\n", b"x" * (MAX_SECRET + 1)])
def test_secret_file_of_a_bad_size(tmp_path, data):
    path = tmp_path / "secret"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"--secret-file: .* is empty or too long"):
        read_secret(None, str(path))


def test_secret_file_that_is_not_there(tmp_path):
    with pytest.raises(
        RtunError, match=r"--secret-file: cannot read the file .*nothing: No such file"
    ) as caught:
        read_secret(None, str(tmp_path / "nothing"))
    assert caught.value.exit_status == 1
    with pytest.raises(RtunError, match="Is a directory"):
        read_secret(None, str(tmp_path))


class TestSecretOfTheCommandLine:
    """The same secret may come from several places; the nearest wins."""

    @pytest.fixture
    def secret(self, run, built):
        def call(*words):
            status, _out, err = run("relay", "-L", "127.0.0.1:1?to=192.0.2.1:1", *words, "http://h")
            assert (status, err) == (0, "")
            factory, _outputs = built[-1]
            config = next(
                cell.cell_contents for cell in factory.__closure__ if hasattr(cell.cell_contents, "rules")
            )
            return config.endpoint.secret

        return call

    def test_option_before_environment(self, secret, monkeypatch, tmp_path):
        file = tmp_path / "s"
        file.write_text("from file\n")
        assert secret() == PUBLIC_SECRET
        monkeypatch.setenv("RTUN_SECRET", "from env")
        assert secret() == b"from env"
        assert secret("-s", "typed") == b"typed"
        assert secret("--secret-file", str(file)) == b"from file"
        monkeypatch.setenv("RTUN_RELAY_SECRET_FILE", str(file))
        assert secret("--secret", "typed") == b"typed"

    def test_both(self, refuse, tmp_path, monkeypatch):
        sentence = "--secret and --secret-file exclude each other; accepted: one of them"
        words = ("relay", "-L", "127.0.0.1:1?to=192.0.2.1:1", "http://h")
        assert refuse(*words, "--secret", "a", "--secret-file", "b") == sentence
        monkeypatch.setenv("RTUN_SECRET", "a")
        monkeypatch.setenv("RTUN_RELAY_SECRET_FILE", "b")
        assert refuse(*words) == sentence


def test_ca(pem):
    assert read_ca(None) is None
    assert read_ca(str(pem)) == pem


@pytest.mark.parametrize(
    "data", [b"", b"not PEM", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
def test_ca_without_a_certificate(tmp_path, data):
    path = tmp_path / "ca.pem"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"--ca: .* has no readable certificate; accepted: a PEM file"):
        read_ca(str(path))


def test_ca_is_not_read_without_a_bound(tmp_path, pem):
    with pem.open("ab") as file:
        file.truncate(MAX_PEM + 1)
    with pytest.raises(UsageError, match="no readable certificate"):
        read_ca(str(pem))


def test_ca_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"--ca: cannot read the file .*: No such file"):
        read_ca(str(tmp_path / "nothing"))


def test_access(pem):
    access = build_access("s", None, str(pem), insecure=False)
    endpoint = access.endpoint("quic://127.0.0.1:1")
    assert (endpoint.secret, endpoint.ca, endpoint.insecure) == (b"s", pem, False)
    assert str(endpoint.url) == "quic://127.0.0.1:1"
    assert "b's'" not in repr(access)
    with pytest.raises(UsageError, match=r"^URL: "):
        access.endpoint("ftp://h")
    with pytest.raises(UsageError, match="--ca and --insecure exclude each other"):
        build_access("s", None, str(pem), insecure=True)


def test_ice():
    default = build_ice((), ())
    assert default.stun_servers == DEFAULT_STUN_SERVERS
    assert default.candidate_cidrs is None
    assert build_ice(("none",), ()).stun_servers == ()
    given = build_ice(("a.example:1", "192.0.2.1:2"), ("10.0.0.0/8", "127.0.0.1"))
    assert given.stun_servers == (Address("a.example", 1), Address("192.0.2.1", 2))
    assert [str(cidr) for cidr in given.candidate_cidrs] == ["10.0.0.0/8", "127.0.0.1/32"]


@pytest.mark.parametrize(
    ("stun", "candidate", "problem"),
    [
        (("none", "a:1"), (), "--stun: 'none' stands alone"),
        (("a",), (), "--stun: 'a' has no port"),
        (("a:0",), (), "--stun: the port 0"),
        ((), ("10.0.0.0/99",), "--candidate: '10.0.0.0/99' is not a network"),
    ],
)
def test_bad_ice(stun, candidate, problem):
    with pytest.raises(UsageError, match=r"^" + re.escape(problem)):
        build_ice(stun, candidate)


def test_egress():
    policy = build_egress(("10.0.0.0/8:53",), ("10.1.0.0/16",))
    assert policy.permits(Address("10.2.0.1", 53)) is None
    assert policy.permits(Address("10.1.0.1", 53))
    with pytest.raises(UsageError, match=r"^--allow-target: "):
        build_egress(("x",), ())
    with pytest.raises(UsageError, match=r"^--deny-target: "):
        build_egress((), ("x",))


def test_packed_hands_options_over_as_one_value():
    both = packed("pair", (click.option("--one"), click.option("--two")), lambda one, two: (one, two))

    @click.command()
    @click.option("--zero")
    @both
    @click.option("--three")
    def command(zero, pair, three):
        return zero, pair, three

    assert [param.name for param in command.params] == ["zero", "one", "two", "three"]
    words = ["--one", "1", "--two", "2", "--three", "3", "--zero", "0"]
    assert command.main(words, standalone_mode=False) == ("0", ("1", "2"), "3")


@pytest.mark.parametrize(
    ("words", "control", "url"),
    [
        (["http://h"], None, "http://h"),
        (["--control", "http://h"], "auto", "http://h"),
        (["http://h", "--control"], "auto", "http://h"),
        (["--control", "--flag", "http://h"], "auto", "http://h"),
        (["--control", "/x", "http://h"], "/x", "http://h"),
        (["--control=/x", "http://h"], "/x", "http://h"),
    ],
)
def test_an_option_may_leave_out_its_value(words, control, url):
    @click.command(cls=UrlCommand, bare={"--control": "auto"})
    @click.argument("url")
    @click.option("--control")
    @click.option("--flag", is_flag=True)
    def command(url, control, flag):
        return control, url

    assert command.main(words, standalone_mode=False) == (control, url)


def test_no_words_at_all():
    command = UrlCommand("c", bare={"--control": "auto"}, callback=lambda: "done")
    assert command.main([], standalone_mode=False) == "done"
    assert os.environ.get("RTUN_SECRET") is None
