"""An app on a ConsoleDriver for tests: a screen full of a number that counts, and a report of what happened.

    python ticker.py REPORT [--rate HZ] [--on-lost exit|stay|headless] [--wait-hangup]

Keys: n counts, u changes the mark in the last line, f fails, q quits, t sets the title, c copies, r forgets
stalls. The report is a file, written anew at each of these keys, at every tenth number, when the terminal
is lost, on a signal and at the end. `--wait-hangup` takes the terminal only when it is gone.
"""

from __future__ import annotations

import argparse
import json
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from textual.app import App, ComposeResult
from textual.events import Key, Resize
from textual.geometry import Size
from textual.widgets import Static

from rtun_tui.driver import ConsoleDriver, install_signals

BEAT = 0.005  # seconds between looks at whether the loop is on time


class Ticker(App[str]):
    """Fills the screen with one number, `rate` new ones a second."""

    ENABLE_COMMAND_PALETTE = False
    CSS = "#number { height: 1fr; } #mark { height: 1; }"

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(driver_class=ConsoleDriver)
        self.options = options
        self.seen: dict[str, Any] = {
            "ticks": 0,
            "stall": 0.0,
            "lost": 0,
            "signals": [],
            "keys": [],
            "marks": 0,
        }
        self._last_beat, self._waited = time.perf_counter(), waited_for_processor()

    def compose(self) -> ComposeResult:
        yield Static("ready", id="number")
        yield Static("mark 0", id="mark")

    def on_load(self) -> None:
        if self.options.wait_hangup:
            self.report()
            poller = select.poll()
            poller.register(sys.__stdin__, 0)
            poller.poll()

    def on_mount(self) -> None:
        install_signals(self, self._signal)
        driver = self.driver
        driver.on_lost = self._lost
        if self.options.rate:
            self.set_interval(BEAT, self._beat)
            self.set_interval(1 / self.options.rate, self._tick)

    @property
    def driver(self) -> ConsoleDriver:
        assert isinstance(self._driver, ConsoleDriver)
        return self._driver

    def on_key(self, event: Key) -> None:
        self.seen["keys"].append(event.key)
        if event.key == "f":
            raise RuntimeError("the app has failed")
        actions = {
            "q": self.exit,
            "t": self._title,
            "c": self._copy,
            "r": self._reset,
            "n": self._tick,
            "u": self._mark,
        }
        if action := actions.get(event.key):
            action()
        self.report()

    def on_resize(self, event: Resize) -> None:
        self._paint(event.size)

    def report(self) -> None:
        """Write what was seen so far, in one piece."""
        driver = self._driver
        dropped = driver.frames_dropped if isinstance(driver, ConsoleDriver) else 0
        beside = Path(f"{self.options.report}.new")
        beside.write_text(json.dumps({**self.seen, "dropped": dropped}))
        beside.replace(self.options.report)

    def _tick(self) -> None:
        self.seen["ticks"] += 1
        self._paint(self.size)
        if self.seen["ticks"] % 10 == 0:
            self.report()

    def _paint(self, size: Size) -> None:
        width, height = size
        line = f"number {self.seen['ticks']} "
        self.query_one("#number", Static).update("\n".join([(line * width)[:width]] * (height - 1)))

    def _beat(self) -> None:
        """Note how late this is, but for the time in which other processes had the processors."""
        now, waited = time.perf_counter(), waited_for_processor()
        stall = now - self._last_beat - BEAT - (waited - self._waited)
        self.seen["stall"] = max(self.seen["stall"], stall)
        self._last_beat, self._waited = now, waited

    def _reset(self) -> None:
        self._last_beat, self._waited = time.perf_counter(), waited_for_processor()
        self.seen["stall"] = 0.0

    def _mark(self) -> None:
        self.seen["marks"] += 1
        self.query_one("#mark", Static).update(f"mark {self.seen['marks']}")

    def _title(self) -> None:
        self.driver.set_title("ticker \x1b at work")

    def _copy(self) -> None:
        self.copy_to_clipboard("copied text")

    def _signal(self, number: signal.Signals) -> None:
        self.seen["signals"].append(number.name)
        self.exit("signal", return_code=128 + number)
        self.report()

    def _lost(self) -> None:
        self.seen["lost"] += 1
        if self.options.on_lost != "stay":
            self.exit("lost")
        self.report()


def waited_for_processor() -> float:
    """Seconds that our threads were ready to run and did not: one of them may hold the interpreter."""
    threads = Path("/proc/self/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[1]) for thread in threads) / 1e9


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("report")
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--on-lost", default="exit")
    parser.add_argument("--wait-hangup", action="store_true")
    options = parser.parse_args()
    app = Ticker(options)
    result = app.run()
    app.report()
    if result == "lost" and options.on_lost == "headless":
        while True:
            signal.pause()
    return app.return_code or 0


if __name__ == "__main__":
    sys.exit(main())
