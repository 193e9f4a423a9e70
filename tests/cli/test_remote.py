"""`status`, `events` and `ctl` against a process that serves a control socket."""

import json
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import pytest

from rtun_core.commands import COMMANDS, usage
from rtun_core.engine.control_client import decode_event


def test_status(run, bystander):
    status, out, err = run("status")
    assert (status, err) == (0, "")
    assert out.startswith("rtun ")
    assert f"(fake), pid {bystander.pid}" in out


def test_status_as_json(run, bystander):
    status, out, _err = run("status", str(bystander.pid), "--json")
    assert (status, json.loads(out)["pid"]) == (0, bystander.pid)


def test_status_again_until_the_end(run, child, monkeypatch):
    monkeypatch.setattr("rtun_core.cli.status.WATCH_PERIOD", 0.001)
    monkeypatch.setattr("rtun_core.cli.status.status_text", end_after(3, child))
    status, out, err = run("status", "--watch")
    assert (status, out) == (1, "page\npage\npage\n")
    assert err.startswith("Error: no answer on the control socket")


def end_after(count, child):
    """A status page that ends the process when it was shown `count` times."""
    left = iter(range(count - 1, -1, -1))

    def show(_snapshot):
        if next(left) == 0:
            child.terminate()
            child.wait()
        return "page"

    return show


def test_events(run, bystander):
    status, out, _err = run("events")
    assert status == 0
    types = [json.loads(line)["type"] for line in out.splitlines()]
    assert types == ["engine.started", "service.listening"]
    assert all(decode_event(line) for line in out.encode().splitlines())


def test_events_since(run, bystander):
    assert [json.loads(line)["seq"] for line in run("events", "--since", "1")[1].splitlines()] == [2]
    assert run("events", "--since", "2") == (0, "", "")


def test_events_for_people(run, bystander):
    assert run("events", "--text")[1].splitlines()[1].endswith("INFO  fake listening on 127.0.0.1:1")


def test_ctl_quit(run, child):
    assert run("ctl", "agent", "pin")[0] == 0
    assert run("ctl", "quit") == (0, "stopping\n", "")
    child.wait()
    assert child.returncode == 0


def test_events_are_followed(child):
    command = [sys.executable, "-m", "rtun_core.cli.main", "events", "-f", str(child.pid)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        types = [json.loads(reader.stdout.readline())["type"] for _ in range(2)]
        child.terminate()
        types += [json.loads(line)["type"] for line in reader.stdout]
    assert types == ["engine.started", "service.listening", "engine.stopping"]
    assert reader.returncode == 0


def test_ctl_done(run, child):
    assert run("ctl", "agent", "pin") == (0, "pinned\n", "")
    assert run("ctl", "--json", "--on", str(child.pid), "agent", "pin")[1] == '{"text":"pinned","data":{}}\n'


def test_ctl_refused(refuse, child):
    sentence = refuse("ctl", "agent", "use", "beta", "--instance", "7f3c", status=1)
    assert sentence == "'agent use' is not a command of this process, which runs fake"


@pytest.mark.parametrize("words", [("fly",), ("agent", "use"), ("tunnel", "limits", "--max", "0"), ()])
def test_ctl_misuse_needs_no_process(refuse, words):
    refuse("ctl", *words)


def test_ctl_help_lists_every_command(run):
    status, out, _err = run("ctl", "--help")
    assert status == 0
    assert all(usage(kind) in out for kind in COMMANDS)


@pytest.mark.parametrize("words", [("status",), ("events",), ("ctl", "quit")])
def test_without_a_process(refuse, words):
    assert refuse(*words, status=1).startswith("no running rtun has a control socket in ")
    assert refuse(
        words[0], *(("--on", "1") if words[0] == "ctl" else ("1",)), *words[1:], status=1
    ).startswith("there is no control socket at")


def test_a_filter_that_cannot_be_read_needs_no_process(refuse):
    assert refuse("events", "--filter", "tunel=t4").startswith("--filter: events have no field 'tunel'")
    sentence = refuse("demo", "--filter", "x level>loud")
    assert sentence.startswith("--filter: 'loud' is no level")
    assert sentence.endswith("(at character 9)")


@pytest.mark.parametrize("words", [("status",), ("events",), ("attach",), ("ctl", "quit")])
class TestAnAddress:
    """In the place of a path or a process id."""

    def at(self, words, place):
        return (words[0], *(("--on", place) if words[0] == "ctl" else (place,)), *words[1:])

    @pytest.fixture(autouse=True)
    def _console(self, monkeypatch):
        monkeypatch.setattr("rtun_core.cli.attach.find_console", lambda: SimpleNamespace(check=lambda: None))

    def test_needs_a_token(self, refuse, words):
        sentence = refuse(*self.at(words, ":7001"))
        assert sentence.startswith("127.0.0.1:7001 wants the token of --control-tcp; accepted: ")

    def test_a_token_that_is_too_short(self, refuse, words, monkeypatch):
        monkeypatch.setenv("RTUN_CONTROL_TOKEN", "short")
        assert refuse(*self.at(words, ":7001")).startswith("RTUN_CONTROL_TOKEN: the token has 5 characters")

    def test_with_nobody_there(self, refuse, words, monkeypatch):
        monkeypatch.setenv("RTUN_CONTROL_TOKEN", "0123456789abcdef")
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            place = f"127.0.0.1:{bound.getsockname()[1]}"
            assert refuse(*self.at(words, place), status=1) == f"nobody listens at {place}"

    @pytest.mark.parametrize(
        ("answer", "sentence"),
        [
            (b"SSH-2.0-OpenSSH\r\n", "{} is not the control address of an rtun, or is too busy"),
            (b"", "{} is not the control address of an rtun, or is too busy"),
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", "what answers on {} is not an rtun"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "what answers on {} is not an rtun"),
            (b"HTTP/1.1 401 X\r\nContent-Length: 0\r\n\r\n", "{} refuses the token"),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 54\r\n\r\n"
                b'{"v":9,"version":"9.9","pid":7,"seq":1,"services":[ ]}',
                "process 7 is rtun 9.9, which speaks version 9 of the control protocol; ",
            ),
        ],
        ids=["ssh", "nothing", "404", "json", "401", "version"],
    )
    def test_with_somebody_else_there(self, refuse, words, answer, sentence, monkeypatch):
        monkeypatch.setenv("RTUN_CONTROL_TOKEN", "0123456789abcdef")
        with answering(answer) as place:
            assert refuse(*self.at(words, place), status=1).startswith(sentence.format(place))


@contextmanager
def answering(answer):
    """A server that says one thing to whoever comes."""

    def serve():
        with suppress(OSError):  # it was closed
            while True:
                client, _ = listener.accept()
                with client:
                    client.recv(4096)
                    client.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve)
        server.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        server.join(20)
