"""Who runs first when the console and the engine want the same processor: the engine.

Only one of the two threads computes at a time, so the kernel likes to keep both on one processor. There the
engine, woken by a datagram, waits until the time slice of the console ends, 4 ms later. With slices of
0.5 ms it may interrupt the console, and as the console is nice, the time that the engine has just used is
hardly ever held against it. Only both together help: the p99 of round trips through a relay with 10,000 flows
and its console on is 1.4 to 2.3 ms then; 2.6 to 4.2 with the niceness alone, 3.2 to 4.8 with the slices
alone, 3.0 to 4.5 with neither.

These are hints. What the system does not have, or forbids, is left out.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
import threading
from typing import Final

SLICE: Final = 0.0005
"""Seconds of the engine's time slices (Linux 6.12 and later, sched_setattr(2)). With 0.1 ms, the
shortest that there are, a relay that has too much to do carries some 4 % less."""

NICENESS: Final = 10
"""Of the console. Its share is a tenth where both threads want to run, and whatever is free else."""

# The C library has no function for it.
_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
# size, policy, flags, nice, priority, runtime, deadline, period
_ATTRIBUTES: Final = struct.Struct("=IIQiIQQQ")


def run_before(other: threading.Thread) -> None:
    """Have the calling thread run before another one of the process, from now on and for good."""
    if sys.platform != "linux" or other.native_id is None:
        return
    if os.sched_getscheduler(0) == os.SCHED_OTHER:
        _ask_for_short_slices()
    niceness = os.getpriority(os.PRIO_PROCESS, other.native_id)
    os.setpriority(os.PRIO_PROCESS, other.native_id, max(NICENESS, niceness))


def _ask_for_short_slices() -> None:
    call = _SCHED_SETATTR.get(platform.machine())
    if call is None or struct.calcsize("P") != 8:
        return
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, niceness, 0, round(SLICE * 1e9), 0, 0)
    ctypes.CDLL(None).syscall(call, 0, attributes, 0)
