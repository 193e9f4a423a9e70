"""What the console takes on its own thread, how soon it is there, and how soon a key shows.

A simulated relay on a pseudo-terminal of 160x50 that is read all the time.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench.console_terminal import BenchTerminal, Chunk, looks_note, share_of
from tests.bench.cpu import cpu_seconds
from tests.bench.row import Row, row_of

ROUNDS: Final = 5
FLOWS: Final = 10_000
MANY_FLOWS: Final = 100_000
_ROUND_S: Final = 3.0
_SETTLE_S: Final = 4.0  # until everything was imported, and the governor has seen some looks
_STARTS: Final = 7
_KEYS_A_SECOND: Final = 60.0
_PAIRS: Final = 150
_MARKS: Final = re.compile(rb"(\d+) marked")

_HEADLESS: Final = """
import sys
sys.argv = ["rtun", "demo", "--simulate", "--seconds", "1", "--no-tui", "--quiet"]
from rtun_core.cli.main import main
try:
    main()
except SystemExit:
    pass
print(sum(name.partition(".")[0] == "textual" for name in sys.modules))
"""


def measure_looks() -> list[Row]:
    """CPU of a look at 10,000 flows, and the share of a core at 100,000."""
    with _simulated(FLOWS) as console:
        watched = [console.watch(_ROUND_S) for _ in range(ROUNDS)]
    with _simulated(MANY_FLOWS) as console:
        many = [console.watch(_ROUND_S) for _ in range(ROUNDS)]
    return [
        row_of(
            f"CPU of a look, {FLOWS:,} flows, 160x50",
            [each.own / max(each.looks, 1) * 1e3 for each in watched],
            "ms",
            target="at most 8",
            note=looks_note(watched),
        ),
        row_of(
            f"Console's share of a core, {MANY_FLOWS:,} flows",
            [each.own / each.seconds * 100 for each in many],
            "%",
            target="below 10",
            note=looks_note(many),
        ),
    ]


def measure_start() -> list[Row]:
    """From the start of the process to the first frame, and what a headless run imports."""
    frames, rows, spent = [], [], []
    for _ in range(_STARTS):
        with _started("demo", "--simulate", "--tui") as console:
            frames.append(console.first(rb"1 Agents") - console.began)
            spent.append(cpu_seconds(console.pid))
            rows.append(console.first(rb"3 Flows [\d,]+") - console.began)
    answer = subprocess.run([sys.executable, "-c", _HEADLESS], check=True, capture_output=True, text=True)
    return [
        row_of(
            "First frame after the start",
            frames,
            "s",
            target="at most 0.6",
            note=f"{median(spent):.2f} s of CPU until then",
        ),
        row_of("First rows after the start", rows, "s"),
        Row("Textual's modules in a headless run", int(answer.stdout.split()[-1]), "", "0"),
    ]


def measure_keys() -> list[Row]:
    """60 keys a second: in turn a mark and a row down, so that the count of marks tells every one."""
    with _simulated(FLOWS) as console:
        console.keep(on=True)
        for keys, answer in (("3:", rb"older lines"), ("sort flow", rb"sort flow"), ("\r", rb"by flow ")):
            console.send(keys)
            console.first(answer)
        console.keep(on=True)
        sent = _type(console)
        time.sleep(1.0)
        taken = _marks_taken(sent, console.keep(on=False))
    handled = 2 * len(taken)
    note = f"{handled} of {2 * len(sent)} keys were handled"
    return [
        Row("Keys that were lost, 60/s", 2 * len(sent) - handled, "", "0"),
        Row(f"Key to frame, p50, 60/s, {FLOWS:,} flows", share_of(taken, 0.5) * 1e3, "ms", note=note),
        Row(f"Key to frame, p99, 60/s, {FLOWS:,} flows", share_of(taken, 0.99) * 1e3, "ms"),
    ]


def _type(console: BenchTerminal) -> list[float]:
    """Pairs of keys; when each mark was typed."""
    sent, begin = [], time.monotonic()
    for number in range(2 * _PAIRS):
        time.sleep(max(0.0, begin + number / _KEYS_A_SECOND - time.monotonic()))
        if number % 2 == 0:
            sent.append(time.monotonic())
        console.send("j" if number % 2 else " ")
    return sent


def _marks_taken(sent: list[float], chunks: list[Chunk]) -> list[float]:
    """Seconds from each mark to the frame that counts it; a mark that was lost has none."""
    shown = 0
    taken = []
    for chunk in chunks:
        for match in _MARKS.finditer(chunk.data):
            count = min(int(match[1]), len(sent))
            taken += [chunk.at - sent[place] for place in range(shown, count)]
            shown = max(shown, count)
    return taken


@contextmanager
def _simulated(flows: int) -> Iterator[BenchTerminal]:
    """A simulated relay that has been looked at for a while."""
    with _started("demo", "--simulate", "--flows", str(flows), "--tui") as console:
        console.first(rb"3 Flows [\d,]+")
        console.keep(on=False)
        time.sleep(_SETTLE_S)
        yield console


@contextmanager
def _started(*args: str) -> Iterator[BenchTerminal]:
    with tempfile.TemporaryDirectory() as folder:
        console = BenchTerminal(Path(folder), *args)
        with console:
            yield console
