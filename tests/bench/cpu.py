"""CPU time of other processes, user and system together."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, all its threads together.

    On Linux from the process's CPU clock, which counts nanoseconds (clock_getcpuclockid(3)); the tables
    of the system that psutil reads elsewhere count hundredths of a second.
    """
    if sys.platform == "linux":
        return time.clock_gettime((~pid << 3) | 2)
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def main_thread_seconds(pid: int) -> float:
    """CPU time that the main thread of a process has used: a console's, while its engine has another."""
    if sys.platform == "linux":
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9
    first = psutil.Process(pid).threads()[0]
    return float(first.user_time + first.system_time)


class CpuMeter:
    """The CPU time of named processes since this was made."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._before = {name: cpu_seconds(pid) for name, pid in pids.items()}

    def used(self) -> dict[str, float]:
        """Seconds by name."""
        return {name: cpu_seconds(pid) - self._before[name] for name, pid in self._pids.items()}
