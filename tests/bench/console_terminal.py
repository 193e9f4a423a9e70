"""A console on a terminal that reads as fast as it can and does not look at what it reads."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from tests.bench.cpu import cpu_seconds, main_thread_seconds
from tests.tui.terminal_harness import Terminal

SIZE: Final = (160, 50)
SHOWN_S: Final = 30.0  # for anything that should appear
_APART: Final = 0.06  # seconds of silence between two looks; one look is written within 20 ms


class Chunk(NamedTuple):
    """What came at once, and when (monotonic seconds)."""

    at: float
    data: bytes


class Watched(NamedTuple):
    """A console over some time: CPU seconds of its main thread and of all others, looks, bytes written."""

    seconds: float
    own: float
    others: float
    looks: int
    written: int


class BenchTerminal(Terminal):
    """`rtun ARGS` with its home in `folder`. Everything is counted; `chunks` grow while `keeping`."""

    def __init__(self, folder: Path, *args: str) -> None:
        self.chunks: list[Chunk] = []
        self.keeping = True
        self._looks = self._written = 0
        self._last = float("-inf")
        self.began = time.monotonic()
        home = {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
        super().__init__(sys.executable, "-m", "rtun_core", *args, size=SIZE, env=home)

    def first(self, pattern: bytes) -> float:
        """When that was first seen in one chunk that is kept. Raises AssertionError."""
        wanted = re.compile(pattern)

        def found() -> float | None:
            return next((chunk.at for chunk in self.chunks if wanted.search(chunk.data)), None)

        with self._changed:
            if self._changed.wait_for(found, SHOWN_S) is None or (at := found()) is None:
                raise AssertionError(f"{pattern!r} did not appear in {SHOWN_S} s")
        return at

    def keep(self, *, on: bool) -> list[Chunk]:
        """Keep what comes from now on, or no more; gives what was kept until now."""
        with self._changed:
            kept, self.chunks, self.keeping = self.chunks, [], on
        return kept

    def watch(self, seconds: float) -> Watched:
        """What the console costs while nobody types."""
        before, begin = self._counted(), time.monotonic()
        time.sleep(seconds)
        grown = [late - early for late, early in zip(self._counted(), before, strict=True)]
        own, everything, looks, written = grown
        return Watched(time.monotonic() - begin, own, everything - own, int(looks), int(written))

    def _counted(self) -> tuple[float, float, float, float]:
        return main_thread_seconds(self.pid), cpu_seconds(self.pid), self._looks, self._written

    def _take(self, data: bytes) -> None:
        now = time.monotonic()
        self._looks += now - self._last > _APART
        self._last = now
        self._written += len(data)
        if self.keeping:
            with self._changed:
                self.chunks.append(Chunk(now, data))
                self._changed.notify_all()


def share_of(values: list[float], share: float) -> float:
    """The value that this share of all does not exceed; NaN of none."""
    ordered = sorted(values)
    return ordered[int((len(ordered) - 1) * share)] if ordered else float("nan")


def looks_note(watched: list[Watched]) -> str:
    """How often it looked, how much it wrote, what the engine's thread and the writer took."""
    hz = median(each.looks / each.seconds for each in watched)
    size = median(each.written / max(each.looks, 1) for each in watched)
    others = median(each.others / each.seconds for each in watched)
    return f"{hz:.1f} looks/s, {size / 1e3:.1f} kB a look, engine and writer {others:.1%} of a core"
