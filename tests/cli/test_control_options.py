import pytest

from rtun_core.cli.control_options import MIN_TOKEN, ControlTcp, build_control_tcp, read_control_token
from rtun_core.errors import RtunError, UsageError
from rtun_core.wire.address import Address

TOKEN = b"0123456789abcdef"
PLACE = Address("127.0.0.1", 0)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "token"
    path.write_bytes(TOKEN + b"\n")
    return str(path)


def test_no_token():
    assert read_control_token(None) is None


def test_an_empty_variable_is_none(monkeypatch):
    monkeypatch.setenv("RTUN_CONTROL_TOKEN", "")
    assert read_control_token(None) is None


def test_from_a_file_before_the_environment(file, monkeypatch):
    monkeypatch.setenv("RTUN_CONTROL_TOKEN", "f" * 16)
    assert read_control_token(file) == TOKEN
    assert read_control_token(None) == b"f" * 16


@pytest.mark.parametrize(
    "token", ["x" * (MIN_TOKEN - 1), "0123456789 abcdef", "0123456789abcdef\u00e9", "\t" * 20]
)
def test_a_bad_token_is_not_repeated(token, tmp_path, monkeypatch):
    monkeypatch.setenv("RTUN_CONTROL_TOKEN", token)
    with pytest.raises(UsageError, match=r"^RTUN_CONTROL_TOKEN: the token has ") as caught:
        read_control_token(None)
    assert token not in str(caught.value)
    path = tmp_path / "token"
    path.write_text(token)
    with pytest.raises(UsageError, match=r"^--control-token-file: the token has "):
        read_control_token(str(path))


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(RtunError, match=r"^--control-token-file: cannot read the file "):
        read_control_token(str(tmp_path / "nothing"))


def test_serving_needs_a_token(file):
    assert build_control_tcp(None, None) is None
    assert build_control_tcp(PLACE, file) == ControlTcp(PLACE, TOKEN)
    assert TOKEN.decode() not in repr(build_control_tcp(PLACE, file))
    with pytest.raises(UsageError, match=r"^--control-tcp: it needs a token; accepted: --control-token-file"):
        build_control_tcp(PLACE, None)


@pytest.mark.parametrize(
    "words",
    [
        ("relay", "-L", "127.0.0.1:0?to=127.0.0.1:1", "http://127.0.0.1:1"),
        ("agent", "pub", "http://127.0.0.1:1"),
        ("agent", "listen"),
        ("ws", "serve", "22", "127.0.0.1:0"),
        ("ws", "connect", "ws://127.0.0.1:1/", "127.0.0.1:0"),
    ],
    ids=" ".join,
)
def test_every_command_with_control_has_it(run, refuse, built, words, file):
    assert refuse(*words, "--control-tcp", ":0").startswith("--control-tcp: it needs a token")
    assert run(*words, "--control-tcp", ":0", "--control-token-file", file)[0] == 0
    [(_, outputs)] = built
    assert outputs.control_tcp == ControlTcp(PLACE, TOKEN)


def test_from_the_environment(run, built, monkeypatch, file):
    monkeypatch.setenv("RTUN_AGENT_LISTEN_CONTROL_TCP", "[::1]:7001")
    monkeypatch.setenv("RTUN_AGENT_LISTEN_CONTROL_TOKEN_FILE", file)
    assert run("agent", "listen")[0] == 0
    assert built[0][1].control_tcp == ControlTcp(Address("::1", 7001), TOKEN)


def test_the_token_is_no_option(refuse):
    refuse("agent", "listen", "--control-tcp", ":0", "--control-token", TOKEN.decode())
