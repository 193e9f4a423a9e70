import ctypes
import subprocess
import sys

import pytest

from rtun_core.net import allocator

_COUNT = """
import resource
from rtun_core.net.allocator import keep_freed_memory
assert {wanted} is False or keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(2):
    blocks = [bytes(65_000) for _ in range(60)]
    del blocks
before = faults()
for _ in range(20):
    blocks = [bytes(65_000) for _ in range(60)]
    del blocks
print(faults() - before)
"""


def faults(*, wanted: bool) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _COUNT.format(wanted=wanted)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="a setting of glibc")
def test_memory_that_was_freed_is_there_again_without_a_page_fault() -> None:
    assert 10 * faults(wanted=True) < faults(wanted=False)


def test_a_c_library_without_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not allocator.keep_freed_memory()
