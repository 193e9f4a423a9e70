"""Processes of rtun that need not import it: forked from one that has, see programs/warm.py.

A process costs 0.1 s of processor time then in place of 1 s, and a test has three of them.
They are processes like others, with a session of their own. `COLD_START=1` starts all of them plainly.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_PROGRAM = Path(__file__).parent / "programs" / "warm.py"
_ROOT = Path(__file__).parents[2]

COLD = bool(os.environ.get("COLD_START"))


class WarmProcess:
    """One such process, with what tests use of `subprocess.Popen`."""

    def __init__(self, told: socket.socket) -> None:
        self._told = told
        self._lock = threading.Lock()
        self._said = b""
        self._read(None)
        self.pid = int(self._said.split(b"\n")[0])
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its status if it has ended."""
        return self._status(0)

    def wait(self, timeout: float | None = None) -> int:
        """Its status once it has ended. Raises TimeoutExpired after so many seconds."""
        status = self._status(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        """Nothing happens when it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)

    def _status(self, timeout: float | None) -> int | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            with self._lock:
                if self.returncode is None and self._read(left):
                    self.returncode = int(self._said.split(b"\n")[1])
                    self._told.close()
            if left == 0:
                break
        return self.returncode

    def _read(self, timeout: float | None) -> bool:
        """Whether the status is there; waits so long for anything."""
        if select.select([self._told], [], [], timeout)[0]:
            data = self._told.recv(100)
            assert data, "the process that forks has ended"
            self._said += data
        return self._said.count(b"\n") == 2


class WarmParent:
    """The process that has imported some packages; started when it is first asked for another."""

    def __init__(self, *packages: str, env: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = ours
        with theirs:
            self._popen = subprocess.Popen(
                [sys.executable, str(_PROGRAM), str(theirs.fileno()), *packages],
                stdin=subprocess.DEVNULL,
                env={"OPENBLAS_NUM_THREADS": "1", **env},  # a fork takes one thread along
                cwd=_ROOT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        atexit.register(self.close)

    def start(
        self,
        module: str,
        *args: str,
        files: tuple[int, int, int],
        env: Mapping[str, str],
        cwd: Path | None = None,
        nohup: bool = False,
    ) -> WarmProcess:
        """`python -m module args` with these files as 0, 1 and 2; a terminal will be its own."""
        wanted: dict[str, Any] = {
            "module": module, "args": args, "env": dict(env), "cwd": str(cwd or Path.cwd()), "nohup": nohup
        }  # fmt: skip
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._channel, [json.dumps(wanted).encode()], [theirs.fileno(), *files])
        return WarmProcess(ours)

    def close(self) -> None:
        """End it; processes that it has forked go on."""
        self._channel.close()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(5)
