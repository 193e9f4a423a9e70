import pytest

from rtun_core.cli.ws import build_tls
from rtun_core.errors import UsageError
from rtun_core.event import Level
from rtun_core.net.tls import self_signed
from rtun_core.wire.address import Address

URL = "wss://gateway.example/ssh?x=1"


@pytest.fixture
def pair(tmp_path):
    """A certificate file and its key file."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for path, content in zip((cert, key), self_signed(["localhost"]), strict=True):
        path.write_bytes(content)
    return str(cert), str(key)


@pytest.fixture
def config(run, built):
    """The config that a command line gives; the name of its command comes first."""

    def call(*words):
        assert run("ws", *words) == (0, "", "")
        factory, _outputs = built[-1]
        (found,) = [
            cell.cell_contents for cell in factory.__closure__ if hasattr(cell.cell_contents, "listen")
        ]
        return found

    return call


class TestServe:
    def test_defaults(self, config):
        plain = config("serve", "22", "8080")
        assert plain.listen == Address("0.0.0.0", 8080)
        assert plain.targets == {"": Address("127.0.0.1", 22)}
        assert (plain.cert, plain.key, plain.token) == (None, None, None)
        assert (plain.max_sessions, plain.idle_timeout, plain.connect_timeout) == (1024, None, 10)

    def test_everything_given(self, config, pair):
        full = config(
            *("serve", "none", "--path", "/a=22", "--path", "/b=db.example:1", "8443", "--bind", "::1"),
            *("--cert", pair[0], "--key", pair[1], "--token", "secret", "--max-sessions", "3"),
            *("--idle-timeout", "1.5", "--connect-timeout", "2"),
        )
        assert full.listen == Address("::1", 8443)
        assert full.targets == {"/a": Address("127.0.0.1", 22), "/b": Address("db.example", 1)}
        assert (str(full.cert), str(full.key)) == pair
        assert (full.token, full.max_sessions) == (b"secret", 3)
        assert (full.idle_timeout, full.connect_timeout) == (1.5, 2)

    @pytest.mark.parametrize(
        ("words", "problem"),
        [
            (("x",), "LISTEN: 'x' has no port"),
            (("0.0.0.0:1", "--bind", "127.0.0.1"), "--bind: 127.0.0.1 is not the host of '0.0.0.0:1'"),
            (("1", "--path", "/a"), "--path: '/a' is no path and target"),
            (("1", "--cert", "c"), "--key is missing: --cert was given; accepted: both or neither"),
            (
                ("1", "--cert", "", "--key", "k"),
                "--cert is missing: --key was given; accepted: both or neither",
            ),
            (
                ("1", "--cert", "/no/c", "--key", "/no/k"),
                "--cert and --key: the certificate file /no/c cannot",
            ),
            (("1", "--max-sessions", "0"), "--max-sessions: '0' is not accepted"),
            (("1", "--idle-timeout", "0"), "--idle-timeout: '0' is not accepted"),
            (("1", "--connect-timeout", "nan"), "--connect-timeout: 'nan' is not accepted"),
            (("1", "--token", ""), "--token: it is empty"),
            (("1", "--ca", "x"), "No such option"),
            (("1", "2"), "Got unexpected extra argument (2)"),
            ((), "Missing argument 'LISTEN'; see 'rtun ws serve --help'"),
        ],
    )
    def test_bad_input_is_one_sentence(self, refuse, built, words, problem):
        assert refuse("ws", "serve", "22", *words).startswith(problem)
        assert built == []


class TestConnect:
    def test_defaults(self, config):
        plain = config("connect", URL, "2222")
        assert (str(plain.url), plain.listen) == (URL, Address("127.0.0.1", 2222))
        assert (plain.ca, plain.insecure, plain.headers, plain.token) == (None, False, (), None)
        assert (plain.max_sessions, plain.idle_timeout, plain.connect_timeout) == (1024, None, 10)

    def test_everything_given(self, config, pair):
        full = config(
            *("connect", "--ca", pair[0], "-s", "--header", "X-A: 1", "--header", "X-B:2", URL, "0.0.0.0:0"),
            *("--token", "secret", "--max-sessions", "3", "--idle-timeout", "9", "--connect-timeout", "2"),
        )
        assert full.listen == Address("0.0.0.0", 0)
        assert (str(full.ca), full.insecure) == (pair[0], False)
        assert full.headers == (("X-A", "1"), ("X-B", "2"))
        assert (full.token, full.max_sessions, full.idle_timeout) == (b"secret", 3, 9)
        assert full.connect_timeout == 2

    def test_insecure_is_asked_for(self, config):
        assert config("connect", URL, "1", "--insecure").insecure

    @pytest.mark.parametrize(
        ("words", "problem"),
        [
            (("--insecure", "-s"), "--secure and --insecure exclude each other; accepted: one of them"),
            (("--insecure", "--ca", "x"), "--ca and --insecure exclude each other"),
            (("--ca", "/no/ca"), "--ca: cannot read the file /no/ca: No such file"),
            (("--header", "x"), "--header: a header has no colon"),
            (("--bind", "x"), "--bind: 'x' is no IP address"),
            (("--cert", "x"), "No such option"),
        ],
    )
    def test_bad_input_is_one_sentence(self, refuse, built, words, problem):
        assert refuse("ws", "connect", URL, "2222", *words).startswith(problem)
        assert built == []

    @pytest.mark.parametrize("url", ["", "gateway.example", "ftp://h", "ws://h:0", "ws://a@h", "ws://h/#x"])
    def test_bad_url(self, refuse, built, url):
        assert refuse("ws", "connect", url, "2222").startswith("URL: ")
        assert built == []


class TestToken:
    def test_from_a_file(self, config, tmp_path):
        file = tmp_path / "token"
        file.write_bytes(b"a b\r\n")
        assert config("serve", "1", "2", "--token-file", str(file)).token == b"a b"

    def test_from_the_environment(self, config, monkeypatch, tmp_path):
        monkeypatch.setenv("RTUN_TOKEN", "from-env")
        assert config("connect", URL, "2").token == b"from-env"
        assert config("serve", "1", "2", "--token", "told").token == b"told"
        (tmp_path / "token").write_text("from-file\n")
        assert config("serve", "1", "2", "--token-file", str(tmp_path / "token")).token == b"from-file"

    def test_misuse(self, refuse, tmp_path):
        words = ("ws", "serve", "1", "2", "--token-file", str(tmp_path / "token"))
        assert refuse(*words, status=1).startswith("--token-file: cannot read the file ")
        (tmp_path / "token").write_text("")
        assert refuse(*words).startswith("--token-file: ")
        assert refuse(*words, "--token", "x").startswith("--token and --token-file exclude each other")

    def test_it_is_not_shown(self, config):
        shown = repr(config("connect", URL, "2", "--token", "hunter2", "--header", "Cookie:hunter2"))
        assert "hunter2" not in shown


def test_debug_is_a_log_level(run, built):
    assert run("ws", "serve", "1", "2", "-d", "--log-level", "error") == (0, "", "")
    assert built[0][1].log_level is Level.DEBUG


def test_environment(config, monkeypatch):
    monkeypatch.setenv("RTUN_WS_SERVE_MAX_SESSIONS", "7")
    monkeypatch.setenv("RTUN_WS_SERVE_PATH", "/a=22 /b=23")
    plain = config("serve", "none", "2")
    assert (plain.max_sessions, set(plain.targets)) == (7, {"/a", "/b"})


def test_outputs(run, built):
    words = ("--json", "--log-file", "l", "--quiet", "--status-file", "s", "--metrics", ":9100")
    assert run("ws", "connect", *words, "--control", URL, "2222") == (0, "", "")
    outputs = built[0][1]
    assert (outputs.json, str(outputs.log_file), outputs.quiet, str(outputs.status_file)) == (
        True,
        "l",
        True,
        "s",
    )
    assert (outputs.metrics, outputs.control) == (Address("127.0.0.1", 9100), "auto")


def test_certificate_and_key_that_do_not_belong_together(pair, tmp_path):
    other = tmp_path / "other.pem"
    other.write_bytes(self_signed(["localhost"])[1])
    with pytest.raises(UsageError, match=r"^--cert and --key: the key in .* does not belong"):
        build_tls(cert=pair[0], key=str(other))
