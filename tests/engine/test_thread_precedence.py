"""Which of two threads runs first: asked of the kernel, for threads of a process of their own."""

import ctypes
import os
import platform
import struct
import subprocess
import sys
import threading

import pytest

from rtun_core.engine import thread_precedence
from rtun_core.engine.thread_precedence import NICENESS, SLICE, run_before

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="niceness of threads is Linux's")

SCHED_GETATTR = {"x86_64": 315, "aarch64": 275, "riscv64": 275}


def beside_waiting(work):
    """Do `work(waiting)` on a thread that may stay changed, beside another one that waits."""
    over, results = threading.Event(), []
    waiting = threading.Thread(target=over.wait)
    waiting.start()
    worker = threading.Thread(target=lambda: results.append(work(waiting)))
    worker.start()
    worker.join()
    over.set()
    waiting.join()
    return results[0]


def niceness(thread=None):
    return os.getpriority(os.PRIO_PROCESS, 0 if thread is None else thread.native_id)


def slice_of_this_thread():
    """Seconds, as sched_getattr(2) has it."""
    room = ctypes.create_string_buffer(48)
    assert ctypes.CDLL(None).syscall(SCHED_GETATTR[platform.machine()], 0, room, len(room), 0) == 0
    return struct.unpack_from("=Q", room, 24)[0] / 1e9


def kernel():
    """Major and minor version."""
    major, minor = platform.release().split(".")[:2]
    return int(major), int(minor)


def test_the_other_thread_becomes_nice_and_this_one_does_not():
    before = niceness()

    def work(waiting):
        run_before(waiting)
        return niceness(waiting), niceness()

    assert beside_waiting(work) == (max(before, NICENESS), before)


def test_a_thread_that_is_nicer_already_stays_so():
    def work(waiting):
        os.setpriority(os.PRIO_PROCESS, waiting.native_id, 15)
        run_before(waiting)
        return niceness(waiting)

    assert beside_waiting(work) == max(15, niceness())


@pytest.mark.skipif(
    platform.machine() not in SCHED_GETATTR, reason="the numbers of its calls are not known here"
)
def test_this_thread_gets_short_slices_where_the_kernel_has_them():
    def work(waiting):
        default = slice_of_this_thread()
        run_before(waiting)
        return default, slice_of_this_thread()

    default, now = beside_waiting(work)
    # Kernels before 6.12 do not know of it and do not mind.
    assert now == (SLICE if kernel() >= (6, 12) else default)


def test_a_realtime_thread_keeps_its_policy(monkeypatch):
    monkeypatch.setattr(os, "sched_getscheduler", lambda pid: os.SCHED_FIFO)
    monkeypatch.setattr(
        thread_precedence, "_ask_for_short_slices", lambda: pytest.fail("would end its policy")
    )
    beside_waiting(run_before)


def test_a_thread_that_has_not_begun_is_left_alone():
    run_before(threading.Thread())


def test_an_unknown_machine_has_no_short_slices(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "m68k")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("which call would that be?"))
    beside_waiting(run_before)


def test_it_needs_no_privilege():
    code = (
        "import os, threading; from rtun_core.engine.thread_precedence import run_before;"
        "os.getuid() or os.setuid(65534);"
        "t = threading.Thread(target=run_before, args=(threading.main_thread(),)); t.start(); t.join();"
        "print(os.getpriority(os.PRIO_PROCESS, threading.main_thread().native_id))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) == max(niceness(), NICENESS)
