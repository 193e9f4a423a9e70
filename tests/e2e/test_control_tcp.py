"""`--control-tcp`: a relay that is looked at and told what to do over TCP, and strangers at its port."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from rtun_core.engine.view_link import HEARTBEAT
from tests.e2e.consoles import RTUN, SIZE, Stage
from tests.e2e.cutting_proxy import CuttingProxy
from tests.e2e.processes import DEADLINE, Process, rtun
from tests.tui.terminal_harness import Terminal

TOKEN = "end-to-end-token"
WRONG = "another-end-to-end-token"
LOOPBACK = "127.0.0.1"


class Served(NamedTuple):
    """A relay, its address, and the options that show its token."""

    relay: Process
    address: str
    options: tuple[str, str]

    @property
    def port(self) -> int:
        """The port of the address."""
        return int(self.address.rpartition(":")[2])

    def faults(self, wanted: Callable[[dict[str, int]], object]) -> dict[str, int]:
        """What strangers did, once that is as wanted."""
        end = time.monotonic() + DEADLINE
        while not wanted(faults := self.relay.snapshot()["faults"]):
            assert time.monotonic() < end, faults
            time.sleep(0.05)
        return faults


@pytest.fixture(scope="module")
def served(shared_stage: Stage) -> Served:
    fleet = shared_stage.fleet
    token = fleet.folder / "token"
    token.write_text(TOKEN + "\n")
    options = ("--control-token-file", str(token))
    fleet.server("http")
    fleet.agent("alpha")
    relay = fleet.relay(f"{LOOPBACK}:0?to={LOOPBACK}:9", args=("--control-tcp", f"{LOOPBACK}:0", *options))
    listening = relay.wait_for("service.listening", lambda event: event["service"] == "control")
    return Served(relay, listening["address"].removeprefix("http://"), options)


def test_status_events_and_ctl(served: Served) -> None:
    status = rtun("status", served.address, *served.options)
    assert (status.returncode, status.stderr) == (0, "")
    assert f"(relay), pid {served.relay.pid}" in status.stdout
    events = rtun("events", served.address, *served.options)
    types = [json.loads(line)["type"] for line in events.stdout.splitlines()]
    assert "tunnel.up" in types
    done = rtun("ctl", "--on", served.address, *served.options, "rule", "pause", "r1")
    assert (done.returncode, done.stdout) == (0, "rule r1 paused\n")
    served.relay.wait_for("rule.changed", lambda event: event["state"] == "paused")
    rtun("ctl", "--on", served.address, *served.options, "rule", "resume", "r1")


def test_the_token_stands_on_no_command_line(served: Served) -> None:
    command = Path(f"/proc/{served.relay.pid}/cmdline")
    if not command.exists():
        pytest.skip("not offered by this system")
    assert TOKEN.encode() not in command.read_bytes()


def test_a_wrong_token_and_none(served: Served, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text(WRONG)
    before = served.faults(lambda _: True).get("control token", 0)
    refused = rtun("status", served.address, "--control-token-file", str(wrong))
    assert (refused.returncode, refused.stderr) == (1, f"Error: {served.address} refuses the token\n")
    missing = rtun("status", served.address)
    assert missing.returncode == 2
    assert "--control-token-file FILE" in missing.stderr
    served.faults(lambda faults: faults.get("control token", 0) == before + 1)
    told = [*served.relay.log, *map(json.dumps, served.relay.events)]
    assert not any(WRONG in line or TOKEN in line for line in told)


def test_serving_without_a_token_ends_at_once() -> None:
    ended = rtun("agent", "listen", "--control-tcp", f"{LOOPBACK}:0")
    assert ended.returncode == 2
    assert ended.stderr.startswith("Error: --control-tcp: it needs a token; accepted: ")
    assert ended.stderr.count("\n") == 1


def test_garbage_and_a_header_that_never_ends(served: Served) -> None:
    with socket.create_connection((LOOPBACK, served.port), DEADLINE) as slow:
        slow.sendall(b"GET /snapshot HTTP/1.1\r\nHost: x\r\n")
        for garbage in (b"\x16\x03\x01\x00\x05hello", b"\x00" * 10_000):
            with socket.create_connection((LOOPBACK, served.port), DEADLINE) as other:
                other.sendall(garbage)
        assert rtun("status", served.address, *served.options).returncode == 0
        slow.sendall(b"X-More: ")  # and never more
        assert _ends(slow)
    served.faults(lambda faults: faults.get("control idle") and faults.get("control not http", 0) >= 2)
    assert served.relay.status is None


def _ends(connection: socket.socket) -> bool:
    """Whether the other side ends the connection in time."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_events_are_followed(served: Served) -> None:
    command = [sys.executable, "-m", "rtun_core", "events", "-f", served.address, *served.options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert json.loads(reader.stdout.readline())["seq"] == 1
        done = rtun("ctl", "--on", served.address, *served.options, "agent", "pin")
        assert done.returncode == 0
        types = (json.loads(line)["type"] for line in reader.stdout)
        assert next(kind for kind in types if kind == "command.done")
        reader.terminate()


@pytest.fixture
def proxy(served: Served) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(served.port)
    yield proxy
    proxy.close()


@pytest.fixture
def console(served: Served, proxy: CuttingProxy, tmp_path: Path) -> Iterator[Terminal]:
    """A console that looks through the proxy, and has seen something."""
    place = f"{LOOPBACK}:{proxy.port}"
    command = (sys.executable, *RTUN, "attach", place, *served.options)
    home = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    with closing(Terminal(*command, env=home, size=SIZE)) as console:
        console.wait_for(lambda screen: "LIVE" in screen.line(0) and "alpha" in screen.text())
        yield console


def test_a_console_survives_a_link_that_drops(served: Served, proxy: CuttingProxy, console: Terminal) -> None:
    proxy.limit = lambda: 0
    proxy.cut("rst")
    console.wait_for(lambda screen: "LOST" in screen.line(0))
    assert served.relay.command("rule pause r1")["ok"]
    proxy.limit = lambda: None
    console.wait_for(lambda screen: "LIVE" in screen.line(0) and "rule r1 paused" in screen.text())
    assert served.relay.command("rule resume r1")["ok"]
    console.wait_for("rule r1 resumed")
    console.send("q")
    assert console.wait_end() == 0
    assert served.relay.status is None


@pytest.mark.slow
def test_a_console_notices_a_link_on_which_nothing_comes(proxy: CuttingProxy, console: Terminal) -> None:
    proxy.limit = lambda: 0
    proxy.cut("dark")
    console.wait_for(lambda screen: "LOST" in screen.line(0), timeout=3 * HEARTBEAT)
    proxy.limit = lambda: None
    console.wait_for(lambda screen: "LIVE" in screen.line(0))
    console.send("q")
    assert console.wait_end() == 0
