"""Each question to the machine, with good and bad facts, and once with those of this machine."""

import errno
import os
import resource
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from rtun_core.agent.descriptors import ENOUGH
from rtun_core.engine import doctor
from rtun_core.engine.doctor import (
    MANY_FLOWS,
    Finding,
    Terminal,
    check_batches,
    check_buffers,
    check_control_directory,
    check_descriptors,
    check_drops,
    check_joined_reads,
    check_python,
    check_secret,
    check_segments,
    check_terminal,
    descriptor_limits,
    granted_buffers,
    machine_findings,
)
from rtun_core.errors import RtunError
from rtun_core.net import udp_mmsg
from rtun_core.net.udp_open import BUFFER_BYTES
from rtun_core.net.udp_plain import PlainIO
from rtun_core.wire.token import PUBLIC_SECRET

NAMES = [
    "python",
    "batched calls",
    "segmented sends",
    "joined reads",
    "socket buffers",
    "kernel drops",
    "open files",
    "terminal",
    "control sockets",
    "secret",
]
batched = pytest.mark.skipif(not udp_mmsg.available(), reason="needs recvmmsg and sendmmsg")


@dataclass
class FakeSender:
    """Sends each datagram by itself, and only the first `most`."""

    most: int = 4
    segments_refused: bool = False
    loaded: list[bytes] = field(default_factory=list)

    def load(self, spans, names, peers, *, segment):
        assert (names, peers) == (None, None)
        self.loaded = [bytes(payload) for payload in spans.payloads()]

    def transmit(self, sock, first, count):
        sent = [sock.send(payload) for payload in self.loaded[first:count][: self.most]]
        return len(sent)


@dataclass
class FakeIO:
    """Receives as many as it is told to, call by call."""

    sender: FakeSender = field(default_factory=FakeSender)
    counts: tuple[int, ...] = (4,)
    error: OSError | None = None

    def receive(self, sock, start, limit):
        count, *self.counts = *self.counts, 0
        return count


def test_this_machine_answers_every_question():
    findings = list(machine_findings(b"secret"))
    assert [finding.name for finding in findings] == NAMES
    assert all(finding.text for finding in findings)


def test_a_check_that_fails_is_a_problem_and_ends_no_other(monkeypatch):
    def refuse(*_args):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    def no_place():
        raise RtunError("there is no safe directory")

    monkeypatch.setattr(doctor, "_loopback_pair", refuse)
    monkeypatch.setattr(doctor, "runtime_dir", no_place)
    monkeypatch.setattr(doctor, "thread_io", FakeIO)
    findings = {finding.name: finding for finding in machine_findings(b"secret")}
    assert list(findings) == NAMES
    assert findings["batched calls"] == Finding("batched calls", "problem", "Operation not permitted")
    assert findings["control sockets"] == Finding("control sockets", "problem", "there is no safe directory")


def test_a_finding_is_one_json_object():
    finding = Finding("secret", "ok", "a secret is set")
    assert (
        msgspec.json.encode(finding) == b'{"name":"secret","grade":"ok","text":"a secret is set","remedy":""}'
    )


def test_python_with_and_without_uvloop(monkeypatch):
    assert check_python("0.21.0").grade == "ok"
    assert check_python("0.21.0").text.endswith("with uvloop 0.21.0")
    monkeypatch.setattr(sys, "platform", "linux")
    without = check_python(None)
    assert (without.grade, without.remedy) == ("hint", "python -m pip install uvloop")
    monkeypatch.setattr(sys, "platform", "win32")
    assert check_python(None).grade == "ok"


def test_uvloop_that_cannot_be_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert doctor._uvloop_version() is None


@batched
def test_batches_of_this_machine():
    io = udp_mmsg.MmsgIO()
    assert check_batches(io) == Finding("batched calls", "ok", "recvmmsg and sendmmsg work")
    assert check_segments(io).grade in ("ok", "hint")


def test_a_system_without_batches():
    for check in (check_batches, check_segments):
        assert check(PlainIO()).grade == "hint"


@pytest.fixture
def hasty(monkeypatch):
    """What does not arrive at once is lost."""
    monkeypatch.setattr(doctor, "_PATIENCE", 0.01)


def test_batches_may_come_in_parts():
    assert check_batches(FakeIO(counts=(1, 3))).grade == "ok"


@pytest.mark.parametrize(("most", "counts"), [(1, (1,)), (4, (1,)), (4, (3, 0)), (4, (5,)), (0, ())])
@pytest.mark.usefixtures("hasty")
def test_batches_that_lose_or_invent_something(most, counts):
    finding = check_batches(FakeIO(sender=FakeSender(most=most), counts=counts))
    assert finding.grade == "problem"
    assert f"of 4 datagrams on loopback {most} were sent" in finding.text


def test_batches_that_are_refused():
    with pytest.raises(PermissionError):
        check_batches(FakeIO(error=PermissionError(errno.EPERM, "no")))


@pytest.mark.parametrize(
    "sender", [FakeSender(segments_refused=True), FakeSender(most=1)], ids=["refused", "lost"]
)
@pytest.mark.usefixtures("hasty")
def test_segments_that_do_not_work(sender):
    assert check_segments(FakeIO(sender=sender)).grade == "hint"


def test_segments_that_arrive():
    assert check_segments(FakeIO()).grade == "ok"


@pytest.mark.usefixtures("hasty")
def test_a_kernel_that_does_not_split_what_it_sends():
    class Joined(FakeSender):
        def transmit(self, sock, first, count):
            sock.send(b"".join(self.loaded))
            return count

    assert check_segments(FakeIO(sender=Joined())).grade == "hint"


def test_joined_reads_are_never_more_than_told(monkeypatch):
    assert check_joined_reads().grade == "ok"
    monkeypatch.setattr(doctor, "UDP_GRO", 0x7FFF)
    finding = check_joined_reads()
    assert (finding.grade, finding.text.startswith("no UDP_GRO here")) == ("hint", True)


def test_joined_reads_that_a_sandbox_forbids(monkeypatch):
    def forbid(*_args):
        raise PermissionError(errno.EPERM, "no")

    class Socket(socket.socket):
        setsockopt = forbid

    monkeypatch.setattr(doctor.socket, "socket", Socket)
    with pytest.raises(PermissionError):
        check_joined_reads()


def test_buffers_that_are_large_enough():
    finding = check_buffers(BUFFER_BYTES, 2 * BUFFER_BYTES)
    assert finding == Finding("socket buffers", "ok", "receive 4096 KiB, send 8192 KiB")


@pytest.mark.parametrize(
    ("receive", "send", "remedy"),
    [
        (212992, BUFFER_BYTES, "sysctl -w net.core.rmem_max=4194304"),
        (BUFFER_BYTES, 212992, "sysctl -w net.core.wmem_max=4194304"),
        (212992, 212992, "sysctl -w net.core.rmem_max=4194304 net.core.wmem_max=4194304"),
    ],
)
def test_buffers_that_a_sysctl_makes_larger(receive, send, remedy):
    finding = check_buffers(receive, send, "linux")
    assert (finding.grade, finding.remedy) == ("hint", remedy)
    assert f"receive {receive // 1024} KiB, send {send // 1024} KiB" in finding.text


def test_small_buffers_elsewhere():
    assert "sysctl" not in check_buffers(1024, 1024, "darwin").remedy


@pytest.mark.skipif(sys.platform != "linux", reason="reads the limits of Linux")
def test_what_is_granted_is_what_the_limits_say_or_all_of_it_to_an_administrator():
    for granted, key in zip(granted_buffers(), ("rmem_max", "wmem_max"), strict=True):
        try:
            limit = int(Path("/proc/sys/net/core", key).read_text())
        except OSError:
            pytest.skip("the limit cannot be read here")
        assert granted in (min(limit, BUFFER_BYTES), BUFFER_BYTES)


SNMP = """Ip: Forwarding DefaultTTL
Ip: 1 64
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors
Udp: 970 1 30 5 {lost} 0
UdpLite: InDatagrams RcvbufErrors
UdpLite: 0 99
"""
SNMP6 = "Ip6InReceives 5\nUdp6InDatagrams \t 0\nUdp6RcvbufErrors \t {lost}\nUdpLite6RcvbufErrors 7\n"


@pytest.mark.parametrize(
    ("snmp", "snmp6", "grade", "text"),
    [
        (SNMP.format(lost=0), "", "ok", "none was lost to a full buffer since boot"),
        (SNMP.format(lost=30), "", "hint", "30 lost to full buffers since boot, 3.00% of all"),
        (
            SNMP.format(lost=0),
            SNMP6.format(lost=30),
            "hint",
            "30 lost to full buffers since boot, 3.00% of all",
        ),
        ("", SNMP6.format(lost=0), "ok", "none was lost to a full buffer since boot"),
        ("", "", "ok", "this system does not count them"),
        ("Udp: InDatagrams\nUdp: 5\n", "", "ok", "this system does not count them"),
        ("Udp: InDatagrams RcvbufErrors\nUdp: x -1\n", "Udp6 6", "ok", "this system does not count them"),
        ("Udp: InDatagrams RcvbufErrors\n", "", "ok", "this system does not count them"),
    ],
)
def test_kernel_drops(snmp, snmp6, grade, text):
    finding = check_drops(snmp, snmp6)
    assert (finding.grade, finding.text) == (grade, text)
    assert bool(finding.remedy) == (grade == "hint")


def test_counters_that_cannot_be_read():
    assert doctor._proc_text("nothing-of-this-name") == ""


@pytest.mark.parametrize(
    ("limits", "grade", "text"),
    [
        (None, "ok", "this system has no such limit"),
        ((1024, ENOUGH), "ok", f"an agent can hold {ENOUGH - 64} flows (soft 1024, hard {ENOUGH})"),
        ((1024, sys.maxsize), "ok", f"an agent can hold {ENOUGH - 64} flows (soft 1024, hard none)"),
        ((1024, 4096), "hint", "an agent can hold 4032 flows (soft 1024, hard 4096)"),
        ((1024, MANY_FLOWS), "hint", "an agent can hold 65472 flows (soft 1024, hard 65536)"),
        ((32, 32), "problem", "an agent can hold 0 flows (soft 32, hard 32)"),
    ],
)
def test_open_files(limits, grade, text):
    finding = check_descriptors(limits)
    assert (finding.grade, finding.text) == (grade, text)
    assert ("LimitNOFILE=" in finding.remedy) == (grade != "ok")


def test_where_the_limits_come_from(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (1024, resource.RLIM_INFINITY))
    assert descriptor_limits() == (1024, sys.maxsize)
    monkeypatch.setattr(sys, "platform", "win32")
    assert descriptor_limits() is None


def terminal(**facts):
    environ = {"TERM": "xterm-256color", "COLORTERM": "truecolor"} | facts.pop("environ", {})
    return Terminal(
        **(
            {"stdin": True, "stderr": True, "size": (120, 40), "encoding": "utf-8", "environ": environ}
            | facts
        )
    )


@pytest.mark.parametrize(
    ("facts", "grade", "text"),
    [
        ({}, "ok", "xterm-256color, 120x40, 16 million colours, UTF-8"),
        ({"encoding": "UTF8"}, "ok", "xterm-256color, 120x40, 16 million colours, UTF-8"),
        ({"environ": {"COLORTERM": ""}}, "ok", "xterm-256color, 120x40, 256 colours, UTF-8"),
        ({"environ": {"COLORTERM": "", "TERM": "linux"}}, "ok", "linux, 120x40, 16 colours, UTF-8"),
        ({"environ": {"NO_COLOR": "1"}}, "ok", "xterm-256color, 120x40, no colours (NO_COLOR), UTF-8"),
        ({"environ": {"TERM": "dumb"}}, "hint", "dumb, 120x40, 16 million colours, UTF-8"),
        ({"environ": {"TERM": ""}}, "hint", "no TERM, 120x40, 16 million colours, UTF-8"),
        ({"encoding": "latin-1"}, "hint", "xterm-256color, 120x40, 16 million colours, latin-1"),
        ({"encoding": ""}, "hint", "xterm-256color, 120x40, 16 million colours, no encoding"),
        ({"size": (79, 40)}, "hint", "xterm-256color, 79x40, 16 million colours, UTF-8"),
        ({"size": (120, 23)}, "hint", "xterm-256color, 120x23, 16 million colours, UTF-8"),
        ({"stdin": False}, "hint", "stdin is no terminal: no console here"),
        ({"stdin": False, "stderr": False}, "hint", "stdin and stderr are no terminal: no console here"),
    ],
)
def test_terminal(facts, grade, text):
    finding = check_terminal(terminal(**facts))
    assert (finding.grade, finding.text) == (grade, text)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_the_facts_of_a_terminal(monkeypatch):
    import termios

    near, far = os.openpty()
    termios.tcsetwinsize(near, (30, 100))
    with open(far, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(sys, "stdin", None)
        facts = doctor._terminal()
    os.close(near)
    assert facts == Terminal(False, True, (100, 30), "utf-8", os.environ)


def test_a_stream_that_was_closed(monkeypatch):
    with open(os.devnull) as stream:
        pass
    monkeypatch.setattr(sys, "stderr", stream)
    assert doctor._terminal().size == (0, 0)


def test_control_directory(tmp_path):
    tmp_path.chmod(0o700)
    missing = tmp_path / "run" / "rtun"
    assert check_control_directory(missing) == Finding("control sockets", "ok", str(missing))
    assert check_control_directory(tmp_path).grade == "ok"
    file = tmp_path / "file"
    file.touch()
    assert check_control_directory(file / "rtun").text == f"{file} is not a directory"
    assert not missing.parent.exists()


def test_a_control_directory_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.os, "access", lambda path, _mode: path != tmp_path)
    finding = check_control_directory(tmp_path / "rtun")
    assert (finding.grade, finding.text) == ("problem", f"{tmp_path} cannot be written")
    assert "XDG_RUNTIME_DIR" in finding.remedy


def test_a_control_directory_of_another_user(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert check_control_directory(tmp_path).text == f"{tmp_path} belongs to another user"
    # What lies above it is shared, as /tmp is.
    assert check_control_directory(tmp_path / "rtun").grade == "ok"


def test_secret():
    assert check_secret(b"mine") == Finding("secret", "ok", "a secret is set")
    public = check_secret(PUBLIC_SECRET)
    assert (public.grade, "RTUN_SECRET" in public.remedy) == ("hint", True)
