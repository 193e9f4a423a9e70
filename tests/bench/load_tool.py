"""The load generator, sink and reference forwarder: a C program where a compiler is, else its Python twin.

The head of udpbench.c describes the modes and the lines that they read and write.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

Result = dict[str, Any]

_HERE = Path(__file__).parent
_ANSWER_S = 60.0


@cache
def load_command() -> tuple[str, ...]:
    """How to start it. The program is compiled once per version of its source, into the cache folder."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform != "linux":
        return sys.executable, str(_HERE / "load_fallback.py")
    source = _HERE / "udpbench.c"
    name = f"udpbench-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}"
    program = user_cache_path("rtun", ensure_exists=True) / name
    if not program.exists():
        fresh = program.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, "-O2", "-o", str(fresh), str(source)], check=True)
        fresh.rename(program)
    return (str(program),)


def is_compiled() -> bool:
    """Whether the C program is used."""
    return len(load_command()) == 1


class LoadProcess:
    """One running mode. It is steered by lines on its input and answers with JSON lines."""

    def __init__(self, *args: str) -> None:
        self._what = " ".join(args)
        self._popen = subprocess.Popen(
            [*load_command(), *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self._pending = b""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def ready(self) -> Result:
        """Its first line, for modes that have one."""
        return self.line()

    def ask(self, text: str, *, timeout: float = _ANSWER_S) -> Result:
        """Send a line, and wait for the answer."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(text.encode() + b"\n")
        return self.line(timeout=timeout)

    def line(self, *, timeout: float = _ANSWER_S) -> Result:
        """The next line. Raises RuntimeError when none comes in time (seconds) or the process ends."""
        assert self._popen.stdout is not None
        deadline = time.monotonic() + timeout
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._popen.stdout], [], [], left)[0]:
                raise RuntimeError(f"udpbench {self._what}: no answer within {timeout:.0f} s")
            data = self._popen.stdout.read(65536)
            if not data:
                raise RuntimeError(f"udpbench {self._what}: ended with status {self._popen.wait()}")
            self._pending += data
        text, _, self._pending = self._pending.partition(b"\n")
        answer: Result = json.loads(text)
        return answer

    def close(self) -> None:
        """End it."""
        self._popen.kill()
        self._popen.wait()
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None:
                stream.close()


def measured(*args: str, timeout: float = _ANSWER_S) -> Result:
    """Run a mode that ends by itself, and give its result."""
    process = LoadProcess(*args)
    try:
        return process.line(timeout=timeout)
    finally:
        process.close()
