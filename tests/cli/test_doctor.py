"""`rtun doctor`: the table, the lines of JSON, the exit status, and what its options ask for."""

import json
import re
import sys

import pytest

from rtun_core.cli.doctor import NAME_WIDTH, WIDTH, finding_text, may_colour
from rtun_core.engine import doctor, doctor_network
from rtun_core.engine.doctor import Finding
from rtun_core.net.ice import DEFAULT_STUN_SERVERS
from rtun_core.wire.address import Address
from rtun_core.wire.token import PUBLIC_SECRET

GOOD = Finding("python", "ok", "CPython 3.11")
HINT = Finding(
    "socket buffers", "hint", "receive 208 KiB, send 208 KiB; " + "word " * 20, "sysctl -w a=1 b=2"
)
BAD = Finding("stun", "problem", "0 of 6 servers answered", "let UDP out, " + "word " * 20)
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def asked(monkeypatch):
    """What is found on the machine and by each network check; kept is what they were asked."""

    class Asked:
        machine = (GOOD, HINT)
        stun = server = ()

    asked = Asked()

    async def check_stun(servers):
        asked.servers = servers
        return asked.stun

    async def check_server(endpoint):
        asked.endpoint = endpoint
        return asked.server

    def machine_findings(secret):
        asked.secret = secret
        return iter(asked.machine)

    monkeypatch.setattr(doctor, "machine_findings", machine_findings)
    monkeypatch.setattr(doctor_network, "check_stun", check_stun)
    monkeypatch.setattr(doctor_network, "check_server", check_server)
    return asked


def test_hints_are_fine(run, asked):
    status, out, err = run("doctor")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "python          ok      CPython 3.11"
    assert "    -> sysctl -w a=1 b=2\n" in out
    assert out.endswith("no problems, 1 hint\n")
    assert asked.servers == DEFAULT_STUN_SERVERS
    assert asked.secret == PUBLIC_SECRET
    assert not hasattr(asked, "endpoint")


@pytest.mark.parametrize("place", ["machine", "stun", "server"])
def test_a_problem_is_the_exit_status(run, asked, place):
    setattr(asked, place, (BAD,))
    status, out, _err = run("doctor", "http://127.0.0.1:1")
    assert status == 1
    assert "stun            PROBLEM 0 of 6 servers answered\n" in out
    assert "1 problem, " in out


def test_json_lines(run, asked):
    asked.server = (BAD,)
    status, out, err = run("doctor", "quic://h:1", "--json")
    assert (status, err) == (1, "")
    findings = [json.loads(line) for line in out.splitlines()]
    assert [finding["grade"] for finding in findings] == ["ok", "hint", "problem"]
    assert findings[0] == {"name": "python", "grade": "ok", "text": "CPython 3.11", "remedy": ""}


def test_what_is_asked(run, asked, tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("mine\n")
    words = ("--secret-file", str(tmp_path / "secret"), "--stun", "192.0.2.1:3478", "--stun", "s.example:5")
    assert run("doctor", "https://h.example/x", "--insecure", *words)[0] == 0
    assert asked.servers == (Address("192.0.2.1", 3478), Address("s.example", 5))
    assert (str(asked.endpoint.url), asked.endpoint.insecure) == ("https://h.example/x", True)
    assert asked.secret == asked.endpoint.secret == b"mine"
    monkeypatch.setenv("RTUN_SECRET", "from outside")
    run("doctor", "--stun", "none")
    assert (asked.servers, asked.secret) == ((), b"from outside")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("ftp://h",), "URL: the URL 'ftp://h' has another form"),
        (("--stun", "x"), "--stun: 'x' has no port"),
        (("--stun", "none", "--stun", "h:1"), "--stun: 'none' stands alone"),
        (("--ca", "/nowhere"), "--ca: cannot read the file /nowhere"),
        (("http://h", "http://i"), "Got unexpected extra argument"),
    ],
)
def test_misuse_is_told_before_anything_is_checked(refuse, words, sentence):
    assert refuse("doctor", *words).startswith(sentence)


@pytest.mark.parametrize("finding", [GOOD, HINT, BAD])
def test_findings_are_aligned_and_fit(finding):
    lines = finding_text(finding).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert lines[0].startswith(finding.name.ljust(NAME_WIDTH + 1))
    assert {line[:24] for line in lines[1:] if "->" not in line and line.startswith(" " * 24)} <= {" " * 24}
    assert finding_text(finding).split("->")[0].split()[-1] in finding.text


def test_a_command_is_not_cut():
    remedy = "sysctl -w net.core.rmem_max=4194304 net.core.wmem_max=4194304"
    assert finding_text(Finding("socket buffers", "hint", "", remedy)).splitlines()[1] == f"    -> {remedy}"
    long = "x" * 100
    assert long in finding_text(Finding("a", "ok", long))


def test_control_characters_are_not_printed():
    assert finding_text(Finding("server", "problem", "a\x1b[31mb")) == "server          PROBLEM a?[31mb"


def test_colour_is_only_an_addition():
    plain = [finding_text(finding) for finding in (GOOD, HINT, BAD)]
    coloured = [finding_text(finding, colour=True) for finding in (GOOD, HINT, BAD)]
    assert all("\x1b[" in text for text in coloured)
    assert [ANSI.sub("", text) for text in coloured] == plain


def test_colour_is_for_terminals(monkeypatch):
    assert not may_colour()

    class Terminal:
        def isatty(self):
            return True

        def fileno(self):
            return 1

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setattr("os.isatty", lambda _descriptor: True)
    assert not may_colour()  # NO_COLOR is set
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    assert may_colour()


def test_the_real_thing_offline(run):
    words = ("doctor", "--stun", "none", "--secret", "mine")
    (status, table, err), (same, lines, none) = run(*words), run(*words, "--json")
    assert (err, none) == ("", "")
    findings = [json.loads(line) for line in lines.splitlines()]
    assert status == same == any(finding["grade"] == "problem" for finding in findings)
    assert all(len(finding["name"]) <= NAME_WIDTH for finding in findings)
    assert findings[-1] == {"name": "secret", "grade": "ok", "text": "a secret is set", "remedy": ""}
    assert max(map(len, table.splitlines())) <= WIDTH
