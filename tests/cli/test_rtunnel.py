import os
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from rtun_core import __version__
from rtun_core.cli import rtunnel as module
from rtun_core.cli.rtunnel import main, rtunnel
from rtun_core.errors import BindError
from rtun_core.event import Level
from rtun_core.net.tls import self_signed
from rtun_core.wire.address import Address

GOLDEN = Path(__file__).with_name("golden") / "rtunnel" / "help.txt"
WIDTH = 100
URL = "wss://gateway.example/a?b"


@pytest.fixture
def tested(monkeypatch):
    """The configs whose servers were asked for a sign of life, which all gave it."""
    configs = []

    async def answer(config):
        configs.append(config)

    monkeypatch.setattr(module, "_test", answer)
    return configs


@pytest.fixture
def config(capsys, built, tested):
    """The config that a command line gives."""

    def call(*words):
        status = main(words)
        assert (status, *capsys.readouterr()) == (0, "", "")
        factory, _outputs = built[-1]
        (found,) = [
            cell.cell_contents for cell in factory.__closure__ if hasattr(cell.cell_contents, "listen")
        ]
        return found

    return call


@pytest.fixture
def refused(capsys):
    """Run a command line that must end with one sentence on standard error, which is returned."""

    def call(*words, status):
        assert main(words) == status
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("Error: ")
        assert err.count("\n") == 1
        return err.removeprefix("Error: ").removesuffix("\n")

    return call


@pytest.fixture
def pair(tmp_path):
    for name, content in zip(("cert.pem", "key.pem"), self_signed(["localhost"]), strict=True):
        (tmp_path / name).write_bytes(content)
    return str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")


def test_help_is_as_it_was():
    settings = rtunnel.context_settings | {"terminal_width": WIDTH, "max_content_width": WIDTH}
    text = rtunnel.get_help(click.Context(rtunnel, info_name="rtunnel", **settings)) + "\n"
    if os.environ.get("RTUN_UPDATE_GOLDEN") == "1":
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


@pytest.mark.parametrize("word", ["--help", "-help", "-h"])
def test_help(capsys, word):
    assert main([word, "22", "8080", "more"]) == 0
    assert capsys.readouterr().out.startswith("Usage: rtunnel [OPTIONS]")


@pytest.mark.parametrize("word", ["--version", "-version"])
def test_version(capsys, word):
    assert main([word]) == 0
    assert capsys.readouterr().out == f"rtunnel of rtun version {__version__}\n"


# ---- the mode ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["ws", "wss", "http", "https"])
def test_a_url_makes_a_client(config, scheme):
    plain = config(f"{scheme}://h/p?q", "2222")
    assert (str(plain.url), plain.listen) == (f"{scheme}://h/p?q", Address("127.0.0.1", 2222))
    assert (plain.ca, plain.insecure, plain.headers, plain.token) == (None, True, (), None)


@pytest.mark.parametrize(
    ("word", "target"),
    [
        ("22", "127.0.0.1:22"),
        (":22", "127.0.0.1:22"),
        ("[::1]:22", "[::1]:22"),
        ("db.example:1", "db.example:1"),
    ],
)
def test_anything_else_makes_a_server(config, word, target):
    plain = config(word, "8080")
    assert {path: str(address) for path, address in plain.targets.items()} == {"": target}
    assert (str(plain.listen), plain.cert, plain.token) == ("0.0.0.0:8080", None, None)


def test_schemes_are_lower_case(refused):
    assert refused("WSS://h", "1", status=1).startswith("TARGET: 'WSS://h' has the port '//h'")


# ---- options ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [
    ("--cert", "C", "--key", "K", "22", "8443"),
    ("22", "--cert", "C", "8443", "--key", "K"),
    ("22", "8443", "-cert", "C", "-key", "K"),
    ("22", "8443", "--cert=C", "-key=K"),
    ("--cert", "C", "--key", "K", "--", "22", "8443"),
])  # fmt: skip
def test_options_may_stand_anywhere(config, pair, words):
    found = config(*(word.replace("C", pair[0]).replace("K", pair[1]) for word in words))
    assert ((str(found.cert), str(found.key)), found.listen.port) == (pair, 8443)


@pytest.mark.parametrize("word", ["-s", "--secure", "-secure", "--secure=true", "-secure=1", "-s=T"])
def test_secure_checks_the_certificate(config, word):
    assert not config(URL, "1", word).insecure


@pytest.mark.parametrize("words", [(), ("--secure=false",), ("-s=0",), ("-secure=F",), ("--insecure",)])
def test_certificates_are_not_checked_by_default(config, words):
    assert config(*words, URL, "1").insecure


def test_a_ca_is_there_to_check_with(config, pair):
    found = config(URL, "1", "--ca", pair[0])
    assert (str(found.ca), found.insecure) == (pair[0], False)


@pytest.mark.parametrize("word", ["-d", "--debug", "-debug", "--debug=true"])
def test_debug(config, built, word):
    config("22", "1", word)
    assert built[-1][1].log_level is Level.DEBUG


def test_additions_for_the_client(config):
    found = config(
        *(URL, "2222", "--bind", "::1", "-header", "X-A:1", "--token", "t", "--max-sessions", "5"),
        *("--idle-timeout", "7", "--connect-timeout", "3"),
    )
    assert (found.listen, found.headers, found.token) == (Address("::1", 2222), (("X-A", "1"),), b"t")
    assert (found.max_sessions, found.idle_timeout, found.connect_timeout) == (5, 7, 3)


def test_additions_for_the_server(config, built):
    found = config(
        "none", "8080", "--path", "/a=22", "--token", "t", "--json", "--metrics", ":9100", "--control"
    )
    assert (set(found.targets), found.token) == ({"/a"}, b"t")
    outputs = built[-1][1]
    assert (outputs.json, str(outputs.metrics), outputs.control) == (True, "127.0.0.1:9100", "auto")


def test_options_of_the_original_for_the_other_role_have_no_effect(config, pair):
    assert config("22", "1", "--secure").cert is None
    assert config(URL, "1", "--cert", pair[0], "--key", pair[1]).insecure


def test_the_token_from_the_environment(config, monkeypatch):
    monkeypatch.setenv("RTUN_TOKEN", "from-env")
    assert config("22", "1").token == b"from-env"


# ---- what goes wrong --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            (),
            "0 arguments given, not two; accepted: rtunnel TARGET LISTEN (server) or rtunnel URL",
        ),
        (("22",), "1 argument given, not two"),
        (("22", "1", "2"), "3 arguments given, not two"),
        (("x", "1"), "TARGET: 'x' has no port"),
        (("22", "99999"), "LISTEN: '0.0.0.0:99999' has the port '99999'"),
        ((URL, "x"), "LISTEN: 'x' has no port"),
        (("ws://a:b@h", "1"), "URL: it contains a user or password"),
        (("22", "1", "--cert", "c"), "--key is missing: --cert was given"),
        (("22", "1", "--header", "X-A:1"), "--header: it has no meaning for a server; accepted: without it"),
        (("22", "1", "--insecure"), "--insecure: it has no meaning for a server"),
        ((URL, "1", "--path", "/a=22"), "--path: it has no meaning for a client"),
        ((URL, "1", "-s", "--insecure"), "--secure and --insecure exclude each other"),
    ],
)
def test_status_1(refused, built, words, sentence):
    assert refused(*words, status=1).startswith(sentence)
    assert built == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--fly", "22", "1"), "No such option"),
        (("-fly", "22", "1"), "No such option"),
        (("---secure", "22", "1"), "No such option"),
        (("22", "1", "--secure=maybe"), "--secure: 'maybe' is not accepted; accepted: true or false"),
        (("22", "1", "--cert"), "Option '--cert' requires an argument"),
        (("22", "1", "--max-sessions", "x"), "--max-sessions: 'x' is not accepted"),
    ],
)
def test_status_2(refused, built, words, sentence):
    assert refused(*words, status=2).startswith(sentence)
    assert built == []


def test_a_port_in_use_has_the_status_of_the_original(refused, monkeypatch):
    def fail(*_args):
        raise BindError("cannot listen")

    monkeypatch.setattr(module, "run_serve", fail)
    assert refused("22", "1", status=1) == "cannot listen"


def test_a_server_that_is_not_there_is_noticed_at_the_start(refused, built):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    sentence = refused(f"ws://127.0.0.1:{port}/", "0", status=1)
    assert sentence == f"cannot connect to ws://127.0.0.1:{port}: Connection refused"
    assert built == []


def test_a_server_that_is_there_is_asked_once(config, tested):
    assert tested == [config(URL, "1")]
    config("22", "1")
    assert len(tested) == 1


README = Path(__file__).parents[2] / "README.md"
LINES = [tuple(line.split()[1:]) for line in README.read_text().splitlines() if line.startswith("rtunnel ")]


@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_the_command_lines_of_the_readme(config, words):
    assert config(*words)


def test_there_are_command_lines_in_the_readme():
    assert len(LINES) >= 2


def test_it_is_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "rtun_core.cli.rtunnel", "22"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: 1 argument given")
