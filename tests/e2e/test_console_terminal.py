"""The console and its terminal: signals, a terminal that is slow, stuck, gone, resized, or none at all."""

from __future__ import annotations

import re
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.e2e.consoles import PROGRAMS, Console, Stage, wait_logged
from tests.e2e.processes import SECRET

SLOW = pytest.mark.slow
ENDING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
CPU_LIMIT = 0.02  # of one processor
SHELL = str(PROGRAMS / "shell.py")


def cpu_share(console: Console, seconds: float) -> float:
    """The share of a processor that the program uses while that time goes by."""
    with pytest.raises(AssertionError, match="still running"):
        console.wait_end(0.5)  # what happens at once belongs to what happened before
    before, begin = console.cpu_seconds(), time.monotonic()
    with pytest.raises(AssertionError, match="still running"):
        console.wait_end(seconds)
    return (console.cpu_seconds() - before) / (time.monotonic() - begin)


# ---- signals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)
def test_a_signal_ends_it_in_order(stage: Stage, number: signal.Signals) -> None:
    console = stage.simulated("--on-hangup", "exit")
    console.signal(number)
    assert console.wait_end() == 0
    console.assert_left_clean()
    assert console.text().strip() == ""
    assert not console.control.exists()


def test_hangup_with_a_log_file_reopens_it_and_the_console_stays(stage: Stage) -> None:
    log = stage.folder / "reopened"
    console = stage.simulated("--log-file", str(log))
    log.rename(stage.folder / "reopened.1")
    console.signal(signal.SIGHUP)
    console.focus("2", "Tunnels")
    console.signal(signal.SIGTERM)
    assert console.wait_end() == 0
    assert "stopping: SIGTERM" in log.read_text()


def test_no_signal_stops_the_process(stage: Stage) -> None:
    console = stage.simulated()
    for number in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        console.signal(number)
    console.send("\x1a")
    console.focus("2", "Tunnels")
    assert psutil.Process(console.pid).status() != psutil.STATUS_STOPPED


@SLOW
def test_a_signal_at_any_moment_ends_it_in_order(stage: Stage) -> None:
    for number in range(12):
        console = stage.run("demo", "--simulate", "--tui")
        console.wait_for(lambda screen: screen.alternate)
        time.sleep(number / 50)  # into its beginning, at different places
        console.signal(signal.SIGTERM)
        assert console.wait_end() == 0
        console.assert_left_clean()
        assert console.text().strip() == ""


@SLOW
def test_a_signal_into_the_end_finds_no_default_action(stage: Stage) -> None:
    for number in range(10):
        console = stage.simulated()
        console.send("Q" if number % 2 else ":quit\r")
        time.sleep(number / 100)
        console.signal(signal.SIGTERM)
        assert console.wait_end() in (0, 128 + signal.SIGTERM)
        console.assert_left_clean()


# ---- a terminal that goes away --------------------------------------------------------------------------


@pytest.mark.parametrize("ignore_hangup", [False, pytest.param(True, marks=SLOW)])
def test_without_its_terminal_the_relay_goes_on(stage: Stage, ignore_hangup: bool) -> None:
    log = stage.folder / f"lost-{ignore_hangup}"
    console = stage.relay("--log-file", str(log), "--log-level", "debug", ignore_hangup=ignore_hangup)
    client = stage.client(console)
    console.hang_up()
    wait_logged(log, "console lost: the terminal is gone")
    share = cpu_share(console, 5 if ignore_hangup else 1)
    assert share < CPU_LIMIT * (1 if ignore_hangup else 2), share
    assert all(client.round_trip() for _ in range(20))
    console.signal(signal.SIGTERM)
    assert console.wait_end() == 0
    assert "stopping: SIGTERM" in log.read_text()


@SLOW
def test_a_shell_that_passes_a_hangup_on_later_ends_nothing(stage: Stage) -> None:
    console = stage.relay(program=(SHELL, "hangup"))
    child = psutil.Process(console.snapshot()["pid"])
    client = stage.client(console)
    console.hang_up()
    with pytest.raises(AssertionError, match="still running"):
        console.wait_end(1.2)
    assert client.round_trip()
    child.terminate()
    assert console.wait_end() == 0


@pytest.mark.parametrize("program", ["", pytest.param("hangup", marks=SLOW)])
@pytest.mark.parametrize("ignore_hangup", [False, pytest.param(True, marks=SLOW)])
def test_without_its_terminal_it_ends_in_order(stage: Stage, program: str, ignore_hangup: bool) -> None:
    shell = {"program": (SHELL, program)} if program else {}
    log = stage.folder / f"ended-{program}-{ignore_hangup}"
    console = stage.simulated(
        "--on-hangup", "exit", "--log-file", str(log), ignore_hangup=ignore_hangup, **shell
    )
    console.hang_up()
    assert console.wait_end() == 0
    assert "stopping: the terminal is gone" in log.read_text()


@SLOW
def test_a_demo_with_a_summary_and_no_terminal_to_write_it_to(stage: Stage) -> None:
    console = stage.run("demo", "--tui", "--seconds", "3", "--clients", "3", "--rate", "50")
    console.wait_for("LIVE")
    console.hang_up()
    assert console.wait_end() == 0


# ---- the console is closed, the relay stays -------------------------------------------------------------


def test_the_console_is_closed_and_the_relay_stays(stage: Stage) -> None:
    console = stage.relay()
    client = stage.client(console)
    console.wait_for(lambda screen: screen.title == "rtun relay")
    console.send("Q")
    console.wait_for(f"the console is closed, rtun goes on as process {console.pid}")
    console.assert_left_clean()
    assert all(client.round_trip() for _ in range(5))
    console.send("\x03")
    assert console.wait_end() == 0
    console.assert_left_clean()


# ---- a terminal that is slow, stuck, resized ------------------------------------------------------------


@SLOW
@pytest.mark.alone
@pytest.mark.timeout(180)
def test_a_terminal_that_is_not_read_for_20_seconds(
    stage: Stage, record_testsuite_property: Callable[[str, object], None]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    console = stage.relay("--metrics", f"127.0.0.1:{port}", size=(160, 50))
    client = stage.client(console)
    console.wait_for(client.address)
    quiet = worst_rtt(client.socket, 3)
    before = loop_lag(port)
    console.stop_reading()
    console.send("+" * 8)  # as often as it can
    stuck = worst_rtt(client.socket, 20)
    after = loop_lag(port)
    dropped = console.snapshot()["console_frames_dropped"]
    console.send("2")  # a frame that comes but once
    console.resume_reading()
    console.wait_for("┏━ 2 Tunnels")
    console.wait_for(lambda screen: re.search(r"relay 2\ds", screen.line(0)))
    late = {limit: (after[limit] - before[limit]) for limit in after}
    record_testsuite_property(
        "worst_rtt_ms", {"read": round(quiet * 1e3, 1), "not read": round(stuck * 1e3, 1)}
    )
    record_testsuite_property("frames_dropped", dropped)
    record_testsuite_property("loop_lag", late)
    assert late[0.1] == late[float("inf")], late  # 12 s on a loop that is shared with the console
    assert stuck < 0.25
    console.send("q")
    console.wait_for("1 flow would end")
    console.send("y")
    assert console.wait_end() == 0
    console.assert_left_clean()


def loop_lag(port: int) -> dict[float, int]:
    """How many times the engine's loop was late by at most so many seconds, from the metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    rows = re.findall(r'rtun_loop_lag_seconds_bucket\{le="([^"]+)"\} ([\d.]+)', text)
    return {float(limit): int(float(count)) for limit, count in rows}


def worst_rtt(client: socket.socket, seconds: float) -> float:
    """The longest of all round trips in that time, in seconds; each datagram has to come back."""
    worst, end = 0.0, time.monotonic() + seconds
    client.settimeout(15)
    while (begin := time.perf_counter()) and time.monotonic() < end:
        client.send(b"ping")
        client.recv(100)
        worst = max(worst, time.perf_counter() - begin)
        time.sleep(0.002)
    return worst


@SLOW
def test_a_stuck_terminal_is_left_in_time(stage: Stage) -> None:
    console = stage.simulated(size=(160, 50))
    console.stop_reading()
    console.send("+" * 8)
    console.wait_state(lambda state: state["console_frames_dropped"] > 3)
    asked = time.monotonic()
    console.signal(signal.SIGTERM)
    assert console.wait_end() == 0
    assert time.monotonic() - asked < 5
    assert console.attributes() == console.before
    console.resume_reading()
    console.wait_for(lambda screen: not screen.alternate)
    console.wait_end()
    console.assert_left_clean()


def test_a_storm_of_sizes(stage: Stage) -> None:
    console = stage.simulated()
    for number in range(60):
        console.resize(20 + number * 37 % 180, 5 + number * 23 % 60)
    console.resize(120, 36)
    console.wait_for(lambda screen: screen.line(1).startswith("┌─ 1 Agents") and len(screen.line(1)) == 120)
    console.wait_for(lambda screen: "q quit" in screen.line(35))
    console.resize(50, 10)
    console.wait_for(lambda screen: "Agents" not in screen.text() and "beta" in screen.text())
    console.signal(signal.SIGTERM)
    assert console.wait_end() == 0
    console.assert_left_clean()


# ---- no terminal ----------------------------------------------------------------------------------------


def test_no_terminal_no_console(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "stderr"
    null = Path("/dev/null")
    cases = (
        ({"redirect": {0: null}}, "standard input is not one"),
        ({"redirect": {2: file}}, "standard error is not one"),
        ({"redirect": {0: None}}, "standard input is closed"),
        ({"env": {"TERM": "dumb"}}, "TERM says dumb"),
        ({"program": (SHELL, "background")}, "as a background job"),
    )
    consoles = [stage.run("demo", "--simulate", "--tui", **options) for options, _ in cases]
    for console, (_, reason) in zip(consoles, cases, strict=True):
        assert console.wait_end() == 2, reason
        line = file.read_text() if reason.startswith("standard error") else console.text()
        assert line.startswith("Error: the console "), line
        assert reason in " ".join(line.split())
        assert len(line.strip().split("\n")) == 1, line
        assert b"\x1b" not in console.output() + line.encode()
        console.assert_left_clean()


def test_json_and_the_console_exclude_each_other(stage: Stage) -> None:
    console = stage.run(
        "relay",
        "-L",
        "127.0.0.1:0?to=127.0.0.1:9",
        "http://127.0.0.1:9",
        "--secret",
        SECRET,
        "--tui",
        "--json",
    )
    assert console.wait_end() == 2
    assert "Error: --json: not together with --tui" in console.text()
    assert b"\x1b" not in console.output()
