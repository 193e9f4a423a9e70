"""One line for each tunnel: how long its way takes and how much it loses, over the last minutes.

All courses share one scale and the same seconds, so that tunnels can be compared by eye.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, Literal, NamedTuple

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from textual.strip import Strip

from rtun_core.model import TunnelState, TunnelView
from rtun_core.view.cells import visible
from rtun_core.view.history import MAX_TUNNELS, HistoryPicture, Series, TunnelHistory
from rtun_core.view.units import millis_text, share_text
from rtun_tui.draw.frame import Brush
from rtun_tui.draw.plot import FINE, Scale, highest, sparkline
from rtun_tui.draw.table import fit
from rtun_tui.palette import state_role

Mode = Literal["rtt", "loss"]
MODES: Final[tuple[Mode, ...]] = ("rtt", "loss")

RECENT: Final = 120.0  # seconds that are compared with all that is known
LEAST_RTT: Final = 20.0  # ms: the top of the scale is never lower, or a still path would look wild
LEAST_LOSS: Final = 0.01

_ENOUGH: Final = 20  # samples without which nothing is said about the last minutes
_RTT_FACTOR, _RTT_MORE = 1.4, 5.0  # times and ms above the median that are clearly worse
_LOSS_FACTOR, _LOSS_MORE = 2.0, 0.01
_ID = 3  # cells
_ROOM: Final[Mapping[Mode, int]] = {"rtt": 7, "loss": 6}  # cells of a value
_NOTE, _SHORT_NOTE = 18, 10  # cells, two of them a gap
_NOTE_FROM, _SHORT_FROM = 52, 38  # cells of a line from which on it has such a note
_COURSE_FROM: Final = 4  # cells of a course worth drawing
_WIDEST_ID: Final = 12

_TOLD: Final = frozenset({TunnelState.OPENING, TunnelState.DEGRADED, TunnelState.CLOSED})


class HealthLine(NamedTuple):
    """What is said about one tunnel. `short` is the note for narrow places; `rank` 0 is the most urgent."""

    tunnel: TunnelView
    history: TunnelHistory | None
    note: str
    short: str
    role: str
    rank: int


@lru_cache(maxsize=MAX_TUNNELS)  # a history never changes, and is judged at each look
def is_worse(history: TunnelHistory, step: float = 1.0) -> bool:
    """Whether the last two minutes are clearly above what all five were like, in round trip or loss.

    Round trip: median against median, so that a single late packet says nothing. Loss: the mean of the
    last minutes against the median, since loss comes in single seconds.
    """
    last = max(1, round(RECENT / step))
    rtt, recent_rtt = _known(history.rtt), _known(history.rtt[-last:])
    if len(recent_rtt) >= _ENOUGH:
        usual, now = _median(rtt), _median(recent_rtt)
        if now > usual * _RTT_FACTOR and now > usual + _RTT_MORE:
            return True
    loss, recent_loss = _known(history.loss), _known(history.loss[-last:])
    if len(recent_loss) < _ENOUGH or len(loss) == len(recent_loss):
        return False
    usual, now = _median(loss), float(recent_loss.mean())
    return now > usual * _LOSS_FACTOR and now > usual + _LOSS_MORE


def health_line(tunnel: TunnelView, history: TunnelHistory | None, step: float = 1.0) -> HealthLine:
    """Judge one tunnel."""
    note, short, role, rank = _judge(tunnel, history, step)
    return HealthLine(tunnel, history, note, short, role, rank)


def health_lines(tunnels: Sequence[TunnelView], history: HistoryPicture, rows: int) -> list[HealthLine]:
    """The tunnels that are shown in `rows` lines, in their order: all, or those that need an eye first."""
    lines = [health_line(tunnel, history.tunnels.get(tunnel.id), history.step) for tunnel in tunnels]
    if len(lines) <= rows:
        return lines
    places = sorted(range(len(lines)), key=lambda place: (lines[place].rank, -lines[place].tunnel.flows))
    return [lines[place] for place in sorted(places[: max(0, rows)])]


def fit_scale(scale: Scale, lines: Sequence[HealthLine], mode: Mode) -> float:
    """The top that all lines share."""
    known = (line.history for line in lines if line.history is not None)
    return scale.fit(max((_highest(history, mode) for history in known), default=0.0))


def new_scale(mode: Mode) -> Scale:
    """A scale for a mode, kept from one sample to the next."""
    return Scale(least=LEAST_RTT if mode == "rtt" else LEAST_LOSS, steps=FINE)


def health_strip(
    line: HealthLine, width: int, brush: Brush, *, mode: Mode, top: float, count: int, id_width: int = _ID
) -> Strip:
    """One line: id, the value of the mode, its course, the other value, and what there is to say."""
    tunnel, palette = line.tunnel, brush.palette
    rtt = f"{millis_text(tunnel.rtt_ms):>{_ROOM['rtt']}}"
    loss = f"{share_text(_loss(tunnel)):>{_ROOM['loss']}}"
    first, second = (rtt, loss) if mode == "rtt" else (loss, rtt)
    note, note_room = _note(line, width)
    name = fit(visible(tunnel.id), id_width, brush.ellipsis)
    head = f"{name} {first} "
    tail = f" {second}"
    room = width - cell_len(head) - len(tail) - note_room
    if room < _COURSE_FROM:
        room = 0
    course = " " * room
    if line.history is not None and room:
        course = _course(line.history, mode, room, top, count, ascii=brush.ascii)
    text = palette.style("text")
    plot = palette.style("plot-rtt" if mode == "rtt" else "plot-loss")
    pieces = ((head, text), (course, plot), (tail, text), (note, palette.style(line.role)))
    return Strip([Segment(piece, style) for piece, style in pieces if piece]).adjust_cell_length(width)


def id_room(lines: Sequence[HealthLine]) -> int:
    """Cells for the ids."""
    return min(_WIDEST_ID, max([_ID, *(cell_len(visible(line.tunnel.id)) for line in lines)]))


def _judge(tunnel: TunnelView, history: TunnelHistory | None, step: float) -> tuple[str, str, str, int]:
    """Note, short note, role and rank."""
    if tunnel.state is TunnelState.DRAINING:
        left = f"{tunnel.flows} left"
        return f"draining {left}", left, state_role("tunnels", "draining"), 2
    if history is not None and tunnel.state is not TunnelState.CLOSED and is_worse(history, step):
        return "<- worse 2m", "worse", state_role("tunnels", "degraded"), 0
    if tunnel.state in _TOLD:
        word = tunnel.state.value
        return word, word, state_role("tunnels", word), 1 if tunnel.state is TunnelState.DEGRADED else 3
    return "", "", "text", 4


def _note(line: HealthLine, width: int) -> tuple[str, int]:
    """The note, and how many cells are kept for notes in a line of this width."""
    room = _NOTE if width >= _NOTE_FROM else _SHORT_NOTE if width >= _SHORT_FROM else 0
    fitting = (text for text in (line.note, line.short) if text and len(text) + 2 <= room)
    text = next(fitting, "")
    return (f"  {text}" if text else ""), room


@lru_cache(maxsize=MAX_TUNNELS)
def _course(history: TunnelHistory, mode: Mode, room: int, top: float, count: int, *, ascii: bool) -> str:
    series = history.rtt if mode == "rtt" else history.loss
    return sparkline(series, room, top=top, ascii=ascii, count=count)


@lru_cache(maxsize=MAX_TUNNELS)
def _highest(history: TunnelHistory, mode: Mode) -> float:
    return highest(history.rtt if mode == "rtt" else history.loss)


def _loss(tunnel: TunnelView) -> float | None:
    return max((loss for loss in (tunnel.loss_up, tunnel.loss_down) if loss is not None), default=None)


def _median(known: Series) -> float:
    """NumPy's own imports 40 ms of masked arrays, in the middle of a look."""
    low, high = (len(known) - 1) // 2, len(known) // 2
    middle = np.partition(known, (low, high))
    return float(middle[low] + middle[high]) / 2


def _known(series: Series) -> Series:
    return series[np.isfinite(series)]
