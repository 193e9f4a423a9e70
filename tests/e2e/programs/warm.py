"""rtun that has been imported once, and is forked for every process that a test wants.

    python warm.py DESCRIPTOR PACKAGE...

Each message on the Unix socket DESCRIPTOR asks for one process: JSON with the fields of `Wanted`, and four
descriptors: a socket for this process alone, and what it has as 0, 1 and 2. Through its own socket the
process id is told, and the status (as `Popen.returncode`) once it has ended; it is reaped when the other
side closes that socket, so that the id means nothing else as long as it is used.
Ends when the other side of DESCRIPTOR is closed; what was forked goes on.
"""

from __future__ import annotations

import fcntl
import importlib
import io
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import sys
import termios
from typing import NamedTuple

MESSAGE = 256 * 1024  # bytes
BY_NAME_ONLY = ("__main__", "rtunnel")  # modules that are programs: they are run, and not imported before


class Wanted(NamedTuple):
    """`python -m module args` with its environment and directory, as the leader of a new session."""

    module: str
    args: list[str]
    env: dict[str, str]
    cwd: str
    nohup: bool = False


class Parent:
    """Forks on demand. One thread, so that a child has everything in a state that is whole."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel, selectors.EVENT_READ)
        self._wakeup, self._waker = socket.socketpair()
        for end in (self._wakeup, self._waker):
            end.setblocking(False)
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._waker.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._children: dict[int, socket.socket] = {}  # by process id
        self._running: set[int] = set()

    def serve(self) -> Wanted | None:
        """Returns in each child, with what it is to be; None in the parent, when nobody asks any more."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._wakeup:
                    self._tell_ends()
                elif key.fileobj is not self._channel:
                    self._reap(key.data)
                else:
                    message, files, _, _ = socket.recv_fds(self._channel, MESSAGE, 4)
                    if not message:
                        return None
                    wanted = Wanted(**json.loads(message))
                    if not self._fork(socket.socket(fileno=files[0])):
                        self._let_go()
                        become(wanted, files[1:])
                        return wanted
                    for file in files[1:]:
                        os.close(file)

    def _fork(self, told: socket.socket) -> int:
        pid = os.fork()
        self._children[pid] = told
        if pid:
            self._running.add(pid)
            self._selector.register(told, selectors.EVENT_READ, pid)
            told.send(b"%d\n" % pid)
        return pid

    def _tell_ends(self) -> None:
        self._wakeup.recv(4096)
        for pid in tuple(self._running):
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is not None:
                self._running.discard(pid)
                by_itself = ended.si_code == os.CLD_EXITED
                self._children[pid].send(b"%d\n" % (ended.si_status if by_itself else -ended.si_status))

    def _reap(self, pid: int) -> None:
        told = self._children.pop(pid)
        self._selector.unregister(told)
        told.close()
        os.waitpid(pid, os.WNOHANG)  # it runs on when the test itself was killed
        self._running.discard(pid)

    def _let_go(self) -> None:
        """In a child: nothing of the parent's is left open."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for end in (self._channel, self._wakeup, self._waker, *self._children.values()):
            end.close()


def become(wanted: Wanted, files: list[int]) -> None:
    """Take on the session, files, directory and environment."""
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    if os.isatty(0):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
    if wanted.nohup:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(wanted.env)
    os.chdir(wanted.cwd)
    sys.argv[1:] = wanted.args
    sys.path[0] = wanted.cwd
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
    sys.stdout = sys.__stdout__ = _writer(1)
    sys.stderr = sys.__stderr__ = _writer(2)


def _writer(fileno: int) -> io.TextIOWrapper:
    """A stream as Python makes it at its start."""
    raw = io.FileIO(fileno, "w", closefd=False)
    through = bool(os.environ.get("PYTHONUNBUFFERED"))
    whole_lines = fileno == 2 or raw.isatty()
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        errors="backslashreplace" if fileno == 2 else None,
        line_buffering=whole_lines,
        write_through=through,
    )


def import_all(package: str) -> None:
    """A package with all its modules but the programs."""
    found = importlib.import_module(package)
    for module in pkgutil.walk_packages(found.__path__, f"{package}."):
        if module.name.rpartition(".")[2] not in BY_NAME_ONLY:
            importlib.import_module(module.name)


if __name__ == "__main__":
    for name in sys.argv[2:]:
        import_all(name)
    importlib.import_module("uvloop")  # which rtun imports where it needs it
    if (program := Parent(socket.socket(fileno=int(sys.argv[1]))).serve()) is not None:
        runpy.run_module(program.module, run_name="__main__", alter_sys=True)
