"""The line at the top: what runs, through whom, how much, and whether what is seen is live.

Pieces have shorter forms and leave one by one where there is no room; none is ever cut. The last word
stays to the end, because everything else means little without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from textual.strip import Strip

from rtun_core.engine.source import Picture, SourceStatus
from rtun_core.model import AgentState, AgentView, RuleState, Snapshot, TunnelState
from rtun_core.view.cells import visible
from rtun_core.view.units import Look, count_text, share_text
from rtun_tui.draw.empty import LOST
from rtun_tui.draw.frame import Brush, cut

LOUD_DROPS: Final = 0.001  # of all datagrams: from here on the share leaves late
LIVE_WORDS: Final = frozenset({"LIVE", "ATTACHED"})  # what is seen is what is

_BAR: Final = " | "
# Which piece takes its next shorter form when the line is too long, in this order.
_SHORTER: Final = (
    *("agent", "tunnels", "signal", "flows", "name", "drops", "name", "agent"),
    *("word", "flows", "tunnels", "agent", "name", "signal", "rates", "drops"),
)
_QUIET_DROPS, _LATE_DROPS = _SHORTER.index("drops"), len(_SHORTER) - 1
_WORKS: Final = frozenset({TunnelState.UP, TunnelState.DEGRADED})
_USED: Final = frozenset({AgentState.IN_USE})
_SOON: Final = 120.0  # seconds before its end from which on the agent in use needs an eye
_DETAIL: Final = 60  # cells of what is said of a link that is down
_NAME: Final = 40  # cells of a name that has to fit in a line with others
_PREFIXES: Final = ("", "k", "M", "G", "T", "P", "E")


class _Piece(NamedTuple):
    """A part of the line: its forms, the longest first and none at the end, and its role."""

    name: str
    forms: tuple[str, ...]
    role: str = "header"


def header_text(
    picture: Picture | None,
    status: SourceStatus,
    width: int,
    look: Look,
    paused_for: float | None,
    *,
    brush: Brush,
    source: str = "",
    hz: float = 0.0,
    now: float | None = None,
) -> Strip:
    """The line for `width` cells. `source` is what is looked at, `hz` how often, `now` the Unix time."""
    pieces = [] if picture is None else _pieces(picture, look, source)
    pieces.append(_word(status, paused_for, hz, now, brush.ellipsis))
    return _line(_fitting(pieces, width), width, brush)


def rates_text(up: float, down: float, look: Look) -> str:
    """`up 84.2 dn 212.6 Mb/s`: bytes per second in one unit, so that they can be compared.

    >>> rates_text(10.525e6, 26.575e6, Look())
    'up 84.2 dn 212.6 Mb/s'
    """
    factor, base = (8 if look.bits else 1), (1024 if look.iec else 1000)
    up, down, power = up * factor, down * factor, 0
    while max(up, down) >= base - 0.05 and power < len(_PREFIXES) - 1:
        up, down, power = up / base, down / base, power + 1
    prefix = f"{_PREFIXES[power]}{'i' if look.iec and power else ''}"
    decimals = 1 if power else 0
    return f"up {up:.{decimals}f} dn {down:.{decimals}f} {prefix}{'b' if look.bits else 'B'}/s"


def short_time(seconds: float) -> str:
    """One unit, or two where the second matters: `12s`, `41m`, `3h12m`, `12d03h`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours < 24 else f"{hours // 24}d{hours % 24:02}h"


def _pieces(picture: Picture, look: Look, source: str) -> list[_Piece]:
    """All pieces but the last word, in the order of the line."""
    snapshot = picture.snapshot
    title = visible(source)[:_NAME] or " ".join(snapshot.services)
    named = f"rtun {title}".rstrip()
    uptime = short_time(snapshot.uptime_s)
    flows = _flows(picture)
    up, most = _tunnels(snapshot)
    rates = rates_text(snapshot.rates.up_bytes, snapshot.rates.down_bytes, look)
    tunnels = f"{up}/{most}"
    return [
        _Piece("name", (f"{named} {uptime}", named, "rtun", "")),
        _agent_piece(snapshot),
        *_signal_piece(snapshot),
        _Piece(
            "tunnels", (f"tunnels {tunnels}", f"t {tunnels}", ""), "header" if up or not most else "state-bad"
        ),
        _Piece("flows", (f"flows {flows}", f"fl {flows}", "")),
        _Piece("rates", (rates, ""), "header-value"),
        _drops_piece(picture),
    ]


def _agent_piece(snapshot: Snapshot) -> _Piece:
    """Who carries the traffic; that nobody does only where somebody should."""
    used = [agent for agent in snapshot.agents if agent.state in _USED]
    if not used:
        wanted = any(rule.state is not RuleState.STOPPED for rule in snapshot.rules)
        return _Piece("agent", ("no agent", "") if wanted else ("",), "state-bad")
    agent = max(used, key=lambda each: each.tunnels)
    name = visible(agent.id)[:_NAME]
    more = f" +{len(used) - 1}" if len(used) > 1 else ""
    left = _left(agent, snapshot.ts)
    forms = (
        f"agent {name}{more}{f' exp {left}' if left else ''}",
        f"{name}{more}{f' {left}' if left else ''}",
        name,
        "",
    )
    soon = agent.expires_at is not None and agent.expires_at - snapshot.ts < _SOON
    return _Piece("agent", forms, "state-warn" if soon else "header")


def _signal_piece(snapshot: Snapshot) -> list[_Piece]:
    """That no agent can be looked for, since when; nothing is said of a connection that is there."""
    lost = [signal.since for signal in snapshot.signal if signal.state == LOST]
    if not lost:
        return []
    since = f"signal lost {short_time(snapshot.ts - min(lost))}"
    return [_Piece("signal", (since, "signal lost", ""), "state-warn")]


def _left(agent: AgentView, now: float) -> str:
    return "" if agent.expires_at is None else short_time(agent.expires_at - now)


def _drops_piece(picture: Picture) -> _Piece:
    share = picture.history.drop_share()
    if share is None:
        return _Piece("drops", ("",))
    return _Piece(
        "drops", (f"drop {share_text(share)}", ""), "header" if share < LOUD_DROPS else "state-warn"
    )


def _tunnels(snapshot: Snapshot) -> tuple[int, int]:
    """How many carry traffic, of how many there may be."""
    up = sum(tunnel.state in _WORKS for tunnel in snapshot.tunnels)
    most = sum(rule.tunnels_max for rule in snapshot.rules if rule.state is not RuleState.STOPPED)
    return up, max(most, up) if most else len(snapshot.tunnels)


def _flows(picture: Picture) -> str:
    page = picture.pages.get("flows")
    if page is not None:
        return count_text(page.total)
    return count_text(sum(rule.flows for rule in picture.snapshot.rules))


def _word(
    status: SourceStatus, paused_for: float | None, hz: float, now: float | None, ellipsis: str
) -> _Piece:
    """How far what is seen can be trusted."""
    word = visible(status.word)
    if word in LIVE_WORDS and paused_for is None:
        often = f" {hz:.2g}Hz" if hz > 0 else ""
        return _Piece("word", (f"{word}{often}", word), "header-live")
    if paused_for is not None and word in LIVE_WORDS:
        return _Piece("word", (f" PAUSED {short_time(paused_for)} ",), "header-alert")
    age = (
        f" {short_time(now - status.since)}" if now is not None and status.since and word != "REPLAY" else ""
    )
    detail = cut(visible(status.detail), _DETAIL, ellipsis)
    forms = [f" {word}{age}: {detail} "] if detail else []
    return _Piece("word", (*forms, f" {word}{age} ", f" {word} "), "header-alert")


def _fitting(pieces: list[_Piece], width: int) -> list[tuple[str, str]]:
    """Texts and roles of the pieces that fit, each in the longest form there is room for."""
    forms = {piece.name: 0 for piece in pieces}
    by_name = {piece.name: piece for piece in pieces}
    for name in (None, *_order(by_name.get("drops"))):
        if name is not None and name in forms:
            forms[name] = min(forms[name] + 1, len(by_name[name].forms) - 1)
        chosen = [(piece.forms[forms[piece.name]], piece.role) for piece in pieces]
        chosen = [(text, role) for text, role in chosen if text]
        if _length(chosen) <= width:
            return chosen
    return chosen


def _order(drops: _Piece | None) -> Iterator[str]:
    """Names of the pieces to shorten. Many drops are worth more than most other figures."""
    loud = drops is not None and drops.role != "header"
    without = _QUIET_DROPS if loud else _LATE_DROPS
    return (name for place, name in enumerate(_SHORTER) if place != without)


def _length(chosen: list[tuple[str, str]]) -> int:
    """Cells of a line: a space before it and bars between."""
    return 1 + sum(cell_len(text) for text, _ in chosen) + len(_BAR) * (len(chosen) - 1)


def _line(chosen: list[tuple[str, str]], width: int, brush: Brush) -> Strip:
    header, bar = brush.palette.style("header"), brush.palette.style("border")
    pieces = [Segment(" ", header)]
    for place, (text, role) in enumerate(chosen):
        if place:
            pieces.append(Segment(_BAR, header + bar))
        pieces.append(Segment(text, header + brush.palette.style(role)))
    return Strip(pieces).adjust_cell_length(max(0, width), header)
