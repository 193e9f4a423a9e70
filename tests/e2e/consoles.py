"""The real program with its console on a pseudo-terminal, and what else a test needs to look at it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from tests.e2e.processes import LOOPBACK_ICE, SECRET, Fleet, Process, ask
from tests.e2e.udp import Client, EchoTarget
from tests.e2e.warm_start import COLD, WarmParent, WarmProcess
from tests.tui.screen_model import Screen
from tests.tui.terminal_harness import DEADLINE, Start, Terminal, environment

PROGRAMS = Path(__file__).parent / "programs"
RTUN = ("-m", "rtun_core")
SIZE = (140, 40)


@cache
def _warm_parent() -> WarmParent:
    return WarmParent("rtun_core", "rtun_tui", env=environment({}))


def _start_warm(wanted: Start) -> WarmProcess:
    module, *args = wanted.argv[2:]
    files = (wanted.slave,) * 3
    nohup = wanted.ignore_hangup
    return _warm_parent().start(module, *args, files=files, env=wanted.env, cwd=wanted.cwd, nohup=nohup)


class Console(Terminal):
    """`rtun ARGS --control SOCKET` on a terminal; home and socket are in `folder`.

    It is forked from a process that has imported it, unless it is to start cold or in a special way.
    """

    def __init__(
        self,
        folder: Path,
        *args: str,
        program: tuple[str, ...] = RTUN,
        env: Mapping[str, str] | None = None,
        size: tuple[int, int] = SIZE,
        cold: bool = COLD,
        **terminal: Any,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.control = folder / "control"
        home = {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
        command = (sys.executable, *program, *args, "--control", str(self.control))
        if not (cold or env or program != RTUN or "redirect" in terminal):
            terminal["start"] = _start_warm
        super().__init__(*command, env={**home, **(env or {})}, size=size, **terminal)

    def snapshot(self) -> dict[str, Any]:
        """The state of the engine behind the console."""
        return ask(self.control, "GET", "/snapshot")

    def wait_state(
        self, condition: Callable[[dict[str, Any]], object], timeout: float = DEADLINE
    ) -> dict[str, Any]:
        """The first state of the engine that satisfies the condition; the console is there before it is."""
        end = time.monotonic() + timeout
        while not ((state := self._state()) and condition(state)):
            assert time.monotonic() < end, state
            time.sleep(0.05)
        return state

    def _state(self) -> dict[str, Any]:
        with suppress(FileNotFoundError, ConnectionRefusedError):  # not bound yet, or not listening yet
            return self.snapshot()
        return {}

    def focus(self, key: str, title: str) -> None:
        """Go to a pane and wait until its frame says so."""
        self.send(key)
        self.wait_for(lambda screen: f"┏━ {key} {title}" in screen.text())

    def point_at(self, key: str, title: str, row: str) -> None:
        """Go to a pane and move its cursor to the row that begins with `row`."""
        self.focus(key, title)

        def at() -> list[int]:
            """Where the cursor is, and the row."""
            rows = rows_of(self.screen, title)
            found = (index_of(rows, ">"), index_of(rows, row))
            return [index for index in found if index is not None]

        self.wait_for(lambda _screen: len(at()) == 2)
        while (here := at())[0] != here[1]:
            self.send("j" if here[0] < here[1] else "k")
            self.wait_for(lambda _screen, here=here: len(at()) == 2 and at()[0] != here[0])

    def assert_left_clean(self) -> None:
        """The terminal is as it was before."""
        assert self.screen.left_behind() == []
        assert not self.screen.alternate
        assert self.attributes() == self.before


def rows_of(screen: Screen, title: str) -> list[str]:
    """The rows of the pane that has the focus, from the mark of the cursor on."""
    lines = screen.text().split("\n")
    top = next((row for row, line in enumerate(lines) if "┏━" in line and title in line), len(lines))
    left = lines[top].index("┏") if top < len(lines) else 0
    return [line[left + 2 :] for line in lines[top + 2 :] if line[left : left + 1] == "┃"]


def index_of(rows: list[str], begin: str) -> int | None:
    """Which row begins so, behind the mark of the cursor or with it."""
    return next(
        (n for n, row in enumerate(rows) if row.startswith((begin, f"> {begin}", f"  {begin}"))), None
    )


def wait_logged(log: Path, *texts: str, timeout: float = DEADLINE) -> str:
    """A log file once it has all these texts."""
    end = time.monotonic() + timeout
    while not all(text in (logged := log.read_text() if log.exists() else "") for text in texts):
        assert time.monotonic() < end, logged
        time.sleep(0.02)
    return logged


class Stage:
    """What the consoles of a module share: an echo target; server and agents once they are needed."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.folder = fleet.folder
        self.echo = EchoTarget()
        self.agents: dict[str, Process] = {}
        self._started: list[Terminal] = []

    def run(self, *args: str, **terminal: Any) -> Console:
        """Any rtun with a console."""
        console = Console(self.folder / f"console-{len(self._started)}", *args, **terminal)
        self._started.append(console)
        return console

    def simulated(self, *args: str, **terminal: Any) -> Console:
        """A simulated relay, shown."""
        console = self.run("demo", "--simulate", "--tui", *args, **terminal)
        console.wait_for("LIVE")
        console.wait_state(lambda state: state["flows"])
        return console

    def relay(self, *args: str, agent: str = "alpha|beta", rules: int = 1, **terminal: Any) -> Console:
        """A relay to the echo target with a tunnel, shown."""
        if not self.agents:
            self.fleet.server("http")
            self.agents = {name: self.fleet.agent(name) for name in ("alpha", "beta")}
        local = ("-L", f"127.0.0.1:0?to={self.echo.address}") * rules
        console = self.run(
            "relay", *local, self.fleet.url, "--secret", SECRET, *LOOPBACK_ICE, "--agent", agent,
            "--tui", *args, **terminal,
        )  # fmt: skip
        console.wait_for("LIVE")
        console.wait_state(lambda state: all(rule["tunnels_up"] for rule in state["rules"]))
        return console

    def client(self, console: Console, rule: int = 0) -> Client:
        """A client of a rule, whose flow exists."""
        host, _, port = console.snapshot()["rules"][rule]["listen"].rpartition(":")
        client = Client((host, int(port)))
        self.fleet.clients.append(client)
        assert client.until_answered()
        return client

    def close_consoles(self) -> None:
        """End what a test has started."""
        for console in self._started:
            console.close()

    def close(self) -> None:
        """End the rest."""
        self.close_consoles()
        self.echo.close()
