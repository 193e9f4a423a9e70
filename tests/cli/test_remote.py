"""`status`, `events` and `ctl` against a process that serves a control socket."""

import json
import subprocess
import sys

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
