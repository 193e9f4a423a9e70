"""Forked processes are like those that Python starts."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.e2e.warm_start import WarmParent, WarmProcess

LIMIT = 30.0  # seconds


@pytest.fixture(scope="module")
def parent() -> Iterator[WarmParent]:
    parent = WarmParent("rtun_core.cli", env={"LANG": "C.UTF-8"})
    yield parent
    parent.close()


@pytest.fixture
def output(tmp_path: Path) -> Iterator[BinaryIO]:
    with (tmp_path / "output").open("w+b") as file:
        yield file


def start(parent: WarmParent, output: BinaryIO, module: str, *args: str, **more: object) -> WarmProcess:
    files = (output.fileno(),) * 3
    return parent.start(module, *args, files=files, **({"env": {}} | more))  # type: ignore[arg-type]


def python(code: str) -> tuple[str, ...]:
    """A module of the library, and arguments that make it run a statement once."""
    return "timeit", "-n1", "-r1", code


def written(output: BinaryIO) -> str:
    output.seek(0)
    return output.read().decode()


@pytest.mark.parametrize(("option", "status", "begin"), [("--version", 0, "rtun "), ("--no", 2, "Error: ")])
def test_status_and_output(
    parent: WarmParent, output: BinaryIO, option: str, status: int, begin: str
) -> None:
    assert start(parent, output, "rtun_core", option).wait(LIMIT) == status
    assert written(output).startswith(begin)
    assert written(output).count("\n") == 1


def test_environment_directory_and_session(parent: WarmParent, output: BinaryIO, tmp_path: Path) -> None:
    leads = "os.getsid(0) == os.getpid()"
    code = f"import os; print(os.getcwd(), dict(os.environ), {leads}, sorted(os.listdir('/proc/self/fd')))"
    start(parent, output, *python(code), env={"A": "b"}, cwd=tmp_path).wait(LIMIT)
    where, told = written(output).split(" ", 1)
    assert where == str(tmp_path)
    assert told.startswith("{'A': 'b'} True ['0', '1', '2', '3']"), "3 is what lists"


def test_signals_and_waiting(parent: WarmParent, output: BinaryIO) -> None:
    sleeper = start(parent, output, *python("import time; time.sleep(60)"))
    with pytest.raises(subprocess.TimeoutExpired):
        sleeper.wait(0.05)
    assert sleeper.poll() is None
    sleeper.kill()
    assert sleeper.wait(LIMIT) == sleeper.poll() == -signal.SIGKILL
    sleeper.kill()


def test_a_hangup_can_be_ignored_from_the_start(parent: WarmParent, output: BinaryIO) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGHUP)"
    statuses = [start(parent, output, *python(code), nohup=nohup).wait(LIMIT) for nohup in (True, False)]
    assert statuses == [0, -signal.SIGHUP]
