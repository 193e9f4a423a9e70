"""The terminal of the tests itself, with small programs on it."""

from __future__ import annotations

import os
import signal
import sys
import termios
import time

import pytest

from tests.tui.terminal_harness import Terminal

ECHO = "import sys\nfor line in sys.stdin: print('got', line.strip(), flush=True)"
FLOOD = "while True: print('x' * 70, flush=True)"


def python(program: str, **options) -> Terminal:
    return Terminal(sys.executable, "-c", program, **options)


def test_keys_go_in_and_text_comes_out():
    with python(ECHO) as terminal:
        terminal.send("hello\r")
        terminal.wait_for("got hello")
        assert terminal.attributes() == (True, True, True)
        terminal.send("\x04")
        assert terminal.wait_end() == 0
        assert b"got hello\r\n" in terminal.output()


def test_it_is_the_controlling_terminal_of_its_size():
    with python(
        "import os; print(os.get_terminal_size(), os.tcgetpgrp(0) == os.getpgrp())", size=(91, 17)
    ) as terminal:
        assert terminal.wait_end() == 0
        assert "columns=91, lines=17" in terminal.text()
        assert "True" in terminal.text()


def test_the_environment_is_ours():
    with python("import os; print(os.environ['TERM'], os.environ['MINE'])", env={"MINE": "yes"}) as terminal:
        terminal.wait_end()
        assert terminal.screen.line(0) == "xterm-256color yes"


def test_a_program_waits_for_a_terminal_that_is_not_read():
    with python(FLOOD) as terminal:
        terminal.wait_for("xxx")
        terminal.stop_reading()
        wait_until_idle(terminal)
        size = len(terminal.output())
        wait_until_idle(terminal)
        assert len(terminal.output()) == size
        terminal.resume_reading()
        terminal.wait_for(lambda screen: len(terminal.raw) > size + 50_000)


def wait_until_idle(terminal: Terminal, timeout: float = 10.0) -> None:
    """Until the program has used no processor time for a while."""
    end = time.monotonic() + timeout
    used = -1.0
    while used != (used := terminal.cpu_seconds()):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_hanging_up_ends_a_program():
    with python("import time; print('up', flush=True); time.sleep(60)") as terminal:
        terminal.wait_for("up")
        terminal.hang_up()
        assert terminal.wait_end() == -signal.SIGHUP
        with pytest.raises(termios.error):
            terminal.attributes()


def test_a_program_can_be_started_to_survive_that():
    program = (
        "import os\nprint('up', flush=True)\ntry: os.read(0, 1)\nexcept OSError: pass\nfinally: os._exit(7)"
    )
    with python(program, ignore_hangup=True) as terminal:
        terminal.wait_for("up")
        terminal.hang_up()
        assert terminal.wait_end() == 7


def test_resize_is_told():
    program = (
        "import os, signal\n"
        "signal.signal(signal.SIGWINCH, lambda *_: os.write(1, str(os.get_terminal_size()).encode()))\n"
        "print('up', flush=True)\n"
        "while True: signal.pause()"
    )
    with python(program) as terminal:
        terminal.wait_for("up")
        terminal.resize(50, 12)
        terminal.wait_for("columns=50, lines=12")


def test_files_in_place_of_the_terminal(tmp_path):
    program = "import sys; print(sys.stdin is None, file=sys.stderr); print('to the file')"
    with python(program, redirect={0: None, 1: tmp_path / "out"}) as terminal:
        assert terminal.wait_end() == 0
        assert terminal.text().strip() == "True"
    assert (tmp_path / "out").read_text() == "to the file\n"


def test_what_did_not_appear_is_told_with_the_screen():
    with python("print('this is shown', flush=True); input()") as terminal:
        terminal.wait_for("this")
        with pytest.raises(AssertionError, match=r"(?s)'that' did not appear.*this is shown"):
            terminal.wait_for("that", timeout=0.05)
        with pytest.raises(AssertionError, match="still running"):
            terminal.wait_end(0.05)


def test_closing_kills_and_gives_everything_back():
    before = len(os.listdir("/proc/self/fd"))
    with python("import time; time.sleep(60)") as terminal:
        assert terminal.running
    assert not terminal.running
    terminal.close()
    assert len(os.listdir("/proc/self/fd")) == before
