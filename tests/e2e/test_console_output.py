"""What reaches the terminal of the console: colours only if wanted, and nothing that is not the console."""

from __future__ import annotations

import re
import signal

import pytest

from tests.e2e.consoles import PROGRAMS, Console, Stage, wait_logged

MONO = {*range(10), *range(21, 30), 39, 49}  # parameters of SGR that choose no colour
NOISY = (str(PROGRAMS / "noisy.py"),)
BROKEN = (str(PROGRAMS / "broken.py"),)


def colours(console: Console) -> set[str]:
    """Every SGR sequence so far that chooses a colour."""
    return {
        sequence
        for sequence in console.screen.sgr
        if not MONO.issuperset(int(number or 0) for number in re.split("[;:]", sequence))
    }


# ---- colours --------------------------------------------------------------------------------------------


def test_without_colours_everything_can_be_read(stage: Stage) -> None:
    console = stage.simulated(env={"NO_COLOR": "1"}, size=(160, 60))
    for word in ("in use", "EXPIRING", "LOST", "DEGRADED", "draining", "opening", "ready"):
        console.wait_for(word)
    console.point_at("2", "Tunnels", "t5")
    console.send("x")
    console.wait_for("Drain tunnel t5?")
    console.wait_for("type t5 to go on")
    console.send("\x1b")
    console.wait_for(lambda screen: "type t5" not in screen.text())
    console.send("?")
    console.wait_for("one row down")
    console.send("\x1b")
    console.wait_for(lambda screen: "one row down" not in screen.text())
    console.focus("3", "Flows")
    console.send("\r")
    console.wait_for("Detail")
    console.send(":")
    console.wait_for("Esc undo")
    console.send("theme gruvbox\r")
    console.wait_for("p pause")
    console.send("p")
    console.wait_for("PAUSED")
    assert "7" in console.screen.style_of("PAUSED").split(";")
    assert colours(console) == set()
    console.signal(signal.SIGTERM)
    assert console.wait_end() == 0
    console.assert_left_clean()


def test_an_empty_no_color_keeps_the_colours(stage: Stage) -> None:
    console = stage.simulated(env={"NO_COLOR": ""})
    console.wait_for(lambda _screen: any(";" in each for each in colours(console)))
    assert any(not _grey(each) for each in colours(console))


def _grey(sequence: str) -> bool:
    found = re.findall(r"[34]8;2;(\d+);(\d+);(\d+)", sequence)
    return all(len(set(each)) == 1 for each in found)


# ---- nothing else ---------------------------------------------------------------------------------------


def test_no_stray_line_reaches_the_screen(stage: Stage) -> None:
    log = stage.folder / "noisy.log"
    console = stage.simulated("--log-file", str(log), program=NOISY, size=(160, 60))
    console.send("4")
    console.send("z")
    console.wait_for("┏━ 4 Events")
    console.signal(signal.SIGUSR1)
    wanted = ("info", "warning", "apart", "late", "print", "half and half", "warn", "thread")
    console.wait_for(lambda screen: all(f"stray {word}" in screen.text() for word in wanted))
    console.send("n")  # something that the program itself writes, after everything else
    console.wait_for("nothing is searched for")
    strays = [line for line in console.text().split("\n") if "stray" in line]
    assert all(line.startswith("┃") and line.endswith("┃") for line in strays), strays
    console.send("Q")
    console.wait_for("the console is closed")
    assert "stray" not in console.text()
    logged = wait_logged(log, *(f"stray {word}" for word in wanted))
    assert logged.count("stray warning") == 1
    console.signal(signal.SIGTERM)
    assert console.wait_end() == 0
    console.assert_left_clean()


def test_a_console_that_fails_is_told_and_the_relay_goes_on(stage: Stage) -> None:
    log = stage.folder / "broken.log"
    console = stage.relay("--log-file", str(log), program=BROKEN)
    client = stage.client(console)
    console.signal(signal.SIGUSR1)
    console.wait_for("the console failed, rtun goes on without it: ")
    console.wait_for("is broken")
    console.assert_left_clean()
    assert len(console.text().strip().split("\n")) == 1, console.text()
    assert all(client.round_trip() for _ in range(5))
    logged = wait_logged(log, "console lost: the console failed", "RuntimeError: the table")
    assert "in fail" in logged
    console.send("\x03")
    assert console.wait_end() == 0
    console.assert_left_clean()


@pytest.mark.slow
def test_a_console_that_fails_after_its_terminal_is_slow_or_gone(stage: Stage) -> None:
    console = stage.relay(program=BROKEN, ignore_hangup=True)
    client = stage.client(console)
    console.stop_reading()
    console.signal(signal.SIGUSR1)
    console.send("jjj")
    assert client.round_trip()
    console.hang_up()
    with pytest.raises(AssertionError, match="still running"):
        console.wait_end(2)
    assert all(client.round_trip() for _ in range(5))
    console.signal(signal.SIGTERM)
    assert console.wait_end() == 0
