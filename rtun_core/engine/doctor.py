"""What this machine offers rtun, one finding per question; `doctor_network` asks the network.

A check is given facts, or the one thing to try, and judges them. `machine_findings` collects the facts.
"""

from __future__ import annotations

import errno
import importlib.metadata
import os
import platform
import socket
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Literal, NamedTuple, TextIO

import msgspec
import numpy as np

from rtun_core.agent.descriptors import ENOUGH
from rtun_core.engine.paths import runtime_dir
from rtun_core.errors import RtunError
from rtun_core.net.udp_batch import BatchIO, Spans
from rtun_core.net.udp_gro import UDP_GRO
from rtun_core.net.udp_open import BUFFER_BYTES, open_socket, thread_io
from rtun_core.wire.address import Address
from rtun_core.wire.token import PUBLIC_SECRET

Grade = Literal["ok", "hint", "problem"]

MANY_FLOWS: Final = 65536
"""What an agent carries at most unless it is told otherwise; each flow is a socket."""

_OTHER_FILES = 64  # descriptors of an agent that are no flows: signalling, tunnels, logs
_FEW_FILES = 256
_TRIED = 4  # datagrams
_TRIED_SIZE = 100  # bytes
_PATIENCE = 1.0  # seconds that a datagram may take on loopback
_ENOUGH_COLUMNS, _ENOUGH_LINES = 80, 24
_KIB = 1024


class Finding(msgspec.Struct, frozen=True):
    """One answer: a hint costs speed or comfort, a problem keeps something from working.

    `text` and `remedy` are a sentence or less each; `remedy` may be a command to copy, or empty.
    """

    name: str
    grade: Grade
    text: str
    remedy: str = ""


class Terminal(NamedTuple):
    """The facts about the terminal: `size` is (columns, lines), (0, 0) where there is none."""

    stdin: bool
    stderr: bool
    size: tuple[int, int]
    encoding: str
    environ: Mapping[str, str]


def machine_findings(secret: bytes) -> Iterator[Finding]:
    """Every check that asks only this machine, in the order in which they are read. Raises nothing."""
    checks: dict[str, Callable[[], Finding]] = {
        "python": lambda: check_python(_uvloop_version()),
        "batched calls": lambda: check_batches(thread_io()),
        "segmented sends": lambda: check_segments(thread_io()),
        "joined reads": check_joined_reads,
        "socket buffers": lambda: check_buffers(*granted_buffers()),
        "kernel drops": lambda: check_drops(_proc_text("snmp"), _proc_text("snmp6")),
        "open files": lambda: check_descriptors(descriptor_limits()),
        "terminal": lambda: check_terminal(_terminal()),
        "control sockets": lambda: check_control_directory(runtime_dir()),
        "secret": lambda: check_secret(secret),
    }
    for name, check in checks.items():
        try:
            yield check()
        except (OSError, RtunError) as error:
            yield Finding(name, "problem", getattr(error, "strerror", None) or str(error))


def check_python(uvloop: str | None) -> Finding:
    """The interpreter, and the event loop that the packet path is measured with."""
    version = f"{platform.python_implementation()} {platform.python_version()}"
    if uvloop is not None:
        return Finding("python", "ok", f"{version} with uvloop {uvloop}")
    if sys.platform == "win32":
        return Finding("python", "ok", f"{version}; uvloop does not exist for Windows")
    text = f"{version} without uvloop: datagrams cost more"
    return Finding("python", "hint", text, "python -m pip install uvloop")


def check_batches(io: BatchIO) -> Finding:
    """Send and receive a few datagrams by one system call each. Raises OSError."""
    if io.sender is None:
        text = "no recvmmsg and sendmmsg: a call for each datagram"
        return Finding("batched calls", "hint", text, "Linux has them")
    with _loopback_pair() as (source, sink):
        sent = _transmit(io, source, segment=False)
        received = _receive(io, sink)
    if (sent, received) != (_TRIED, _TRIED):
        text = f"of {_TRIED} datagrams on loopback {sent} were sent and {received} received"
        return Finding("batched calls", "problem", text, "look for a filter of system calls, as in sandboxes")
    return Finding("batched calls", "ok", "recvmmsg and sendmmsg work")


def check_segments(io: BatchIO) -> Finding:
    """Send a run of equal datagrams as one message on loopback and count what arrives. Raises OSError.

    A network device may still refuse what loopback takes; then sockets go back to single messages.
    """
    if io.sender is not None:
        with _loopback_pair() as (source, sink):
            _transmit(io, source, segment=True)
            if not io.sender.segments_refused and _count_datagrams(sink) == _TRIED:
                return Finding("segmented sends", "ok", "UDP_SEGMENT (GSO) works")
    text = "no UDP_SEGMENT (GSO) here: bulk traffic costs more"
    return Finding("segmented sends", "hint", text, "Linux 4.18 or newer has it")


def check_joined_reads() -> Finding:
    """Whether the kernel offers UDP_GRO. Raises OSError when it is there and forbidden."""
    with _loopback_pair() as (_source, sink):
        try:
            sink.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        except OSError as error:
            if error.errno not in (errno.ENOPROTOOPT, errno.EINVAL):
                raise
            text = "no UDP_GRO here: bulk traffic of tunnels costs more"
            return Finding("joined reads", "hint", text, "Linux 5.0 or newer has it")
    return Finding("joined reads", "ok", "UDP_GRO works: runs of datagrams are read whole")


def check_buffers(receive: int, send: int, system: str = sys.platform) -> Finding:
    """Compare the buffers (bytes) that a UDP socket is given with what rtun asks for."""
    text = f"receive {receive // _KIB} KiB, send {send // _KIB} KiB"
    small = [key for key, size in (("rmem_max", receive), ("wmem_max", send)) if size < BUFFER_BYTES]
    if not small:
        return Finding("socket buffers", "ok", text)
    remedy = "raise this system's limit of socket buffers"
    if system == "linux":
        remedy = " ".join(["sysctl -w", *(f"net.core.{key}={BUFFER_BYTES}" for key in small)])
    asked = f"rtun asks for {BUFFER_BYTES // _KIB}: bursts may be lost"
    return Finding("socket buffers", "hint", f"{text}; {asked}", remedy)


def granted_buffers() -> tuple[int, int]:
    """The receive and send buffers, in bytes, of a socket that rtun opens. Raises OSError, BindError."""
    loopback = Address("127.0.0.1", 0)
    with open_socket(local=loopback, remote=None, family=None, small_buffers=False) as sock:
        sizes = [
            sock.getsockopt(socket.SOL_SOCKET, option) for option in (socket.SO_RCVBUF, socket.SO_SNDBUF)
        ]
    # Linux reports twice what it grants: the other half is for its own headers (socket(7)).
    receive, send = (size // 2 if sys.platform == "linux" else size for size in sizes)
    return receive, send


def check_drops(snmp: str, snmp6: str = "") -> Finding:
    """Read the UDP counters of /proc/net/snmp (IPv4) and /proc/net/snmp6; empty where there are none."""
    counters = _udp_counters(snmp, snmp6)
    if not counters:
        return Finding("kernel drops", "ok", "this system does not count them")
    lost, read = counters["RcvbufErrors"], counters["InDatagrams"]
    if not lost:
        return Finding("kernel drops", "ok", "none was lost to a full buffer since boot")
    text = f"{lost} lost to full buffers since boot, {lost / (lost + read):.2%} of all"
    return Finding(
        "kernel drops", "hint", text, "nstat -az UdpRcvbufErrors Udp6RcvbufErrors  # still growing?"
    )


def check_descriptors(limits: tuple[int, int] | None) -> Finding:
    """Judge the (soft, hard) limit of open files; None where there is no such limit.

    The hard one counts: an agent raises its soft limit to it.
    """
    if limits is None:
        return Finding("open files", "ok", "this system has no such limit")
    soft, hard = limits
    usable = min(hard, ENOUGH)
    flows = max(0, usable - _OTHER_FILES)
    text = f"an agent can hold {flows} flows (soft {_limit(soft)}, hard {_limit(hard)})"
    if flows >= MANY_FLOWS:
        return Finding("open files", "ok", text)
    grade: Grade = "problem" if usable < _FEW_FILES else "hint"
    return Finding("open files", grade, text, f"LimitNOFILE={ENOUGH} in the service unit, or limits.conf(5)")


def descriptor_limits() -> tuple[int, int] | None:
    """The (soft, hard) limit of open files of this process, unlimited as ENOUGH or more."""
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    return (sys.maxsize if soft == unlimited else soft, sys.maxsize if hard == unlimited else hard)


def check_terminal(terminal: Terminal) -> Finding:
    """Judge what the console needs: a terminal at both ends, room, and UTF-8."""
    if not (terminal.stdin and terminal.stderr):
        missing = [name for name in ("stdin", "stderr") if not getattr(terminal, name)]
        text = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} no terminal: no console here"
        return Finding("terminal", "hint", text)
    columns, lines = terminal.size
    utf8 = terminal.encoding.lower().replace("-", "").replace("_", "") == "utf8"
    kind = terminal.environ.get("TERM", "")
    encoding = "UTF-8" if utf8 else terminal.encoding or "no encoding"
    text = f"{kind or 'no TERM'}, {columns}x{lines}, {_colours(terminal.environ)}, {encoding}"
    if kind in ("", "dumb"):
        return Finding("terminal", "hint", text, "set TERM to what this terminal is, as in xterm-256color")
    if not utf8:
        return Finding("terminal", "hint", text, "export LC_ALL=C.UTF-8")
    if columns < _ENOUGH_COLUMNS or lines < _ENOUGH_LINES:
        return Finding("terminal", "hint", text, f"make it at least {_ENOUGH_COLUMNS}x{_ENOUGH_LINES}")
    return Finding("terminal", "ok", text)


def check_control_directory(directory: Path) -> Finding:
    """Whether control sockets can be made in `directory`, which need not exist yet. Raises OSError."""
    name, remedy = "control sockets", "set XDG_RUNTIME_DIR to a directory that is yours alone"
    existing = next(path for path in (directory, *directory.parents) if os.path.lexists(path))
    status = existing.stat()
    if not stat.S_ISDIR(status.st_mode):
        return Finding(name, "problem", f"{existing} is not a directory", remedy)
    if existing == directory and hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        return Finding(name, "problem", f"{existing} belongs to another user", remedy)
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding(name, "problem", f"{existing} cannot be written", remedy)
    return Finding(name, "ok", str(directory))


def check_secret(secret: bytes) -> Finding:
    """Whether the secret is one that everybody knows."""
    if secret != PUBLIC_SECRET:
        return Finding("secret", "ok", "a secret is set")
    text = "none is set: the built-in one is public, so anyone may use what it guards"
    return Finding("secret", "hint", text, "set RTUN_SECRET or --secret-file, the same on every side")


def _transmit(io: BatchIO, source: socket.socket, *, segment: bool) -> int:
    """Send the tried datagrams; how many went out."""
    assert io.sender is not None
    starts, lengths = np.zeros(_TRIED, np.int64), np.full(_TRIED, _TRIED_SIZE, np.int64)
    io.sender.load(Spans(np.zeros(_TRIED_SIZE, np.uint8), starts, lengths), None, None, segment=segment)
    return io.sender.transmit(source, 0, _TRIED)


def _receive(io: BatchIO, sink: socket.socket) -> int:
    """How many datagrams come in batches. Raises the OSError that ends one."""
    received = 0
    # A busy kernel may deliver late even on loopback.
    sink.settimeout(_PATIENCE)
    while received < _TRIED:
        try:
            sink.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            break
        count = io.receive(sink, 0, _TRIED)
        if io.error is not None:
            raise io.error
        if not count:
            break
        received += count
    return received


def _count_datagrams(sink: socket.socket) -> int:
    """How many of the tried datagrams come, one by one. Raises OSError."""
    sink.settimeout(_PATIENCE)
    for count in range(_TRIED):
        try:
            sink.recv(_TRIED * _TRIED_SIZE)
        except TimeoutError:
            return count
    return _TRIED


@contextmanager
def _loopback_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A UDP socket connected to another one on 127.0.0.1. Raises OSError."""
    with ExitStack() as stack:
        sink = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sink.bind(("127.0.0.1", 0))
        source = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        source.connect(sink.getsockname())
        yield source, sink


def _uvloop_version() -> str | None:
    """None when it is not installed, or cannot be loaded."""
    try:
        import uvloop
    except ImportError:
        return None
    return str(getattr(uvloop, "__version__", None) or importlib.metadata.version("uvloop"))


def _proc_text(name: str) -> str:
    """A file of /proc/net; empty where there is none or it may not be read."""
    try:
        return Path("/proc/net", name).read_text()
    except OSError:
        return ""


def _udp_counters(snmp: str, snmp6: str) -> dict[str, int]:
    """The counters of UDP over IPv4 and IPv6 together; empty unless the two that matter are there."""
    rows = [line.split()[1:] for line in snmp.splitlines() if line.startswith("Udp:")]
    pairs = list(zip(rows[0], rows[1], strict=False)) if len(rows) == 2 else []
    six = [line.split() for line in snmp6.splitlines() if line.startswith("Udp6")]
    pairs += [(row[0].removeprefix("Udp6"), row[1]) for row in six if len(row) == 2]
    counters: dict[str, int] = {}
    for key, value in pairs:
        if value.isdecimal():
            counters[key] = counters.get(key, 0) + int(value)
    return counters if {"InDatagrams", "RcvbufErrors"} <= counters.keys() else {}


def _limit(count: int) -> str:
    return "none" if count == sys.maxsize else str(count)


def _terminal() -> Terminal:
    stdin, stderr = _is_terminal(sys.stdin), _is_terminal(sys.stderr)
    columns, lines = os.get_terminal_size(sys.stderr.fileno()) if stderr else (0, 0)
    return Terminal(stdin, stderr, (columns, lines), getattr(sys.stderr, "encoding", None) or "", os.environ)


def _is_terminal(stream: TextIO | None) -> bool:
    """A standard stream may be closed, or None from the start."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def _colours(environ: Mapping[str, str]) -> str:
    if environ.get("NO_COLOR"):
        return "no colours (NO_COLOR)"
    if environ.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return "16 million colours"
    return "256 colours" if "256color" in environ.get("TERM", "") else "16 colours"
