"""The drawer: everything that is known of one agent, tunnel, flow or rule. Pure: values in, lines out.

Each line is a tuple of pieces, each piece a text and the role it is drawn in.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from rtun_core.event import Level, Stamped, counted
from rtun_core.model import AgentView, FlowView, RuleView, Snapshot, Traffic, TunnelView
from rtun_core.view.cells import visible
from rtun_core.view.columns import TableId, row_key
from rtun_core.view.history import HistoryPicture, Series
from rtun_core.view.units import (
    Look,
    address_text,
    bytes_text,
    count_text,
    masked_text,
    millis_text,
    rate_text,
    seconds_text,
    share_text,
)
from rtun_tui.draw.plot import sparkline
from rtun_tui.palette import state_role

HISTORY_LINES = 12
CLOCK = 10  # cells of the time before a line of the history
MINUTE = 60  # samples
LABEL = 10  # cells of a line's name


class Piece(NamedTuple):
    """Some text and the role it is drawn in."""

    text: str
    role: str = "text"


Line = tuple[Piece, ...]


class Frame(NamedTuple):
    """What a drawer is made from, apart from the row itself."""

    snapshot: Snapshot
    history: HistoryPicture
    events: Sequence[Stamped]
    look: Look
    width: int
    ascii: bool = False
    flow_rates: Sequence[tuple[float, float]] = ()  # up and down of this flow, bytes/s, oldest first


def detail_lines(table: TableId, row: Any, frame: Frame) -> list[Line]:
    """All lines, as many as there are; the drawer cuts what has no room."""
    draw: dict[type[Any], Callable[[Any, Frame], list[Line]]] = {
        AgentView: _agent,
        TunnelView: _tunnel,
        FlowView: _flow,
        RuleView: _rule,
    }
    lines = draw[type(row)](row, frame)
    return [*lines, (), *_history(row_key(table, row), row, frame)]


def _agent(agent: AgentView, frame: Frame) -> list[Line]:
    now = frame.snapshot.ts
    probe = "never" if agent.rtt_ms is None else f"{millis_text(agent.rtt_ms)}{_ago(agent.probed_at, now)}"
    expires = "never" if agent.expires_at is None else f"in {seconds_text(max(0.0, agent.expires_at - now))}"
    return [
        _title(f"agent {_masked(agent.id, frame)}", ""),
        (),
        _state("agents", str(agent.state), agent.reason),
        _pair("signal", address_text(agent.signal or "-", frame.look)),
        _pair("address", address_text(agent.address or "-", frame.look)),
        _pair("version", agent.version or "-"),
        _pair("expires", expires),
        _pair("probe", probe),
        _pair("tunnels", str(agent.tunnels)),
        _pair("pinned", "yes: no automatic switch" if agent.pinned else "no"),
    ]


def _tunnel(tunnel: TunnelView, frame: Frame) -> list[Line]:
    history = frame.history.tunnels.get(tunnel.id)
    plots: list[Line] = []
    if history is not None:
        plots = [
            (),
            _plot("up 5 min", history.up, "plot-up", frame),
            _plot("down 5 min", history.down, "plot-down", frame),
            _plot("rtt 5 min", history.rtt, "plot-rtt", frame),
            _plot("loss 5 min", history.loss, "plot-loss", frame),
        ]
    return [
        _title(f"tunnel {tunnel.id}", f"{tunnel.kind} {tunnel.codec}".strip()),
        (),
        _state("tunnels", str(tunnel.state), tunnel.reason),
        _pair("agent", _masked(tunnel.agent or "-", frame)),
        _pair("rule", _rule_text(tunnel.rule, frame)),
        _pair("remote", address_text(tunnel.remote or "-", frame.look)),
        _pair("local", address_text(tunnel.local or "-", frame.look)),
        _pair("opened", _since(tunnel.opened_at, frame.snapshot.ts)),
        _pair("replaced", _until(tunnel.expires_at, frame.snapshot.ts)),
        _pair("rtt", f"{millis_text(tunnel.rtt_ms)}   heard {seconds_text(tunnel.quiet_s)} ago"),
        _pair("loss", f"up {share_text(tunnel.loss_up)}  down {share_text(tunnel.loss_down)}"),
        _pair("flows", count_text(tunnel.flows) + ("   new ones prefer it" if tunnel.preferred else "")),
        (),
        *_traffic(tunnel.traffic, tunnel.rates.up_bytes, tunnel.rates.down_bytes, frame.look),
        *plots,
        *_drops(tunnel.drops),
    ]


def _flow(flow: FlowView, frame: Frame) -> list[Line]:
    tunnel = next((each for each in frame.snapshot.tunnels if each.id == flow.tunnel), None)
    on = "waits for a tunnel" if tunnel is None else f"{tunnel.id} ({tunnel.state})"
    rates = _padded(np.array(frame.flow_rates, np.float32).reshape(-1, 2))
    traffic = Traffic(flow.up_packets, flow.up_bytes, flow.down_packets, flow.down_bytes)
    lines = [
        _title(f"flow {flow.id}", f"rule {flow.rule}" if flow.rule else ""),
        (),
        _state("flows", str(flow.state), ""),
        _pair("source", address_text(flow.source, frame.look)),
        _pair("target", address_text(flow.target, frame.look)),
        _pair("opened", _since(flow.opened_at, frame.snapshot.ts)),
        _pair("idle", seconds_text(flow.idle_s)),
        _pair("tunnel", f"{on}   moved {counted(flow.moves, 'time')}" if flow.moves else on),
        (),
        *_traffic(traffic, flow.up_rate, flow.down_rate, frame.look),
        (),
        _plot("up", rates[:, 0], "plot-up", frame),
        _plot("down", rates[:, 1], "plot-down", frame),
    ]
    if tunnel is not None and (history := frame.history.tunnels.get(tunnel.id)) is not None:
        lines.append(_plot("rtt 5 min", history.rtt, "plot-rtt", frame))
    rule = next((each for each in frame.snapshot.rules if each.id == flow.rule), None)
    return lines + (_drops(rule.drops, f"of rule {rule.id}") if rule is not None else [])


def _padded(rates: Series) -> Series:
    """At least a minute of samples, so that the first ones stand at the right end of their plot."""
    missing = max(0, MINUTE - len(rates))
    return np.concatenate([np.full((missing, 2), np.nan, np.float32), rates])


def _rule(rule: RuleView, frame: Frame) -> list[Line]:
    return [
        _title(f"rule {rule.id}", rule.family),
        (),
        _state("rules", str(rule.state), rule.reason),
        _pair("listen", address_text(rule.listen, frame.look)),
        _pair("target", address_text(rule.target, frame.look)),
        _pair("agent", _masked(rule.agent or "-", frame)),
        _pair("tunnels", f"{rule.tunnels_up} up, {rule.tunnels_min} to {rule.tunnels_max} wanted"),
        _pair("flows", count_text(rule.flows)),
        (),
        *_traffic(rule.traffic, rule.rates.up_bytes, rule.rates.down_bytes, frame.look),
        *_drops(rule.drops),
    ]


def _traffic(traffic: Traffic, up: float, down: float, look: Look) -> list[Line]:
    rows = (
        ("up", up, traffic.up_bytes, traffic.up_packets, "plot-up"),
        ("down", down, traffic.down_bytes, traffic.down_packets, "plot-down"),
    )
    return [
        (
            Piece(name.ljust(LABEL), "muted"),
            Piece(f"{rate_text(rate, look)}/s".rjust(9), role),
            Piece(f"{bytes_text(size, look):>10}{count_text(packets):>14} pkt"),
        )
        for name, rate, size, packets, role in rows
    ]


def _plot(name: str, series: Series, role: str, frame: Frame) -> Line:
    width = max(4, frame.width - LABEL - 12)
    known = series[~np.isnan(series)] if len(series) else series
    last = float(known[-1]) if len(known) else math.nan
    text = _value_text(name, last, frame.look)
    return (
        Piece(name.ljust(LABEL), "muted"),
        Piece(sparkline(series, width, ascii=frame.ascii).ljust(width), role),
        Piece(text.rjust(9)),
    )


def _value_text(name: str, value: float, look: Look) -> str:
    if math.isnan(value):
        return "-"
    if name.startswith("rtt"):
        return millis_text(value)
    if name.startswith("loss"):
        return share_text(value)
    return rate_text(value, look)


def _drops(drops: dict[str, int], of: str = "") -> list[Line]:
    reasons = sorted(((count, reason) for reason, count in drops.items() if count), reverse=True)
    if not reasons:
        return [(), (Piece("DROPS".ljust(LABEL), "title"), Piece("none", "muted"))]
    title = f"DROPS {of}".rstrip()
    return [(), (Piece(title, "title"),)] + [
        (Piece(f"{count_text(count):>{LABEL}}  ", "state-warn"), Piece(reason)) for count, reason in reasons
    ]


def _history(key: str, row: Any, frame: Frame) -> list[Line]:
    """Events that name this very thing, newest first."""
    found: list[Line] = []
    for stamped in reversed(frame.events):
        if len(found) >= HISTORY_LINES:
            break
        if key in names_of(stamped):
            clock = datetime.fromtimestamp(stamped.ts).strftime("%H:%M:%S")
            warns = stamped.event.severity >= Level.WARNING
            text = _masked(visible(stamped.event.text().partition("\n")[0]), frame)
            lines = textwrap.wrap(text, max(20, frame.width - CLOCK)) or [""]
            found += [
                (Piece(before.ljust(CLOCK), "event-time"), Piece(line, "event-warn" if warns else "text"))
                for before, line in zip((clock, *[""] * len(lines)), lines, strict=False)
            ]
    return [(Piece("HISTORY", "title"),), *(found or [(Piece("nothing seen yet", "muted"),)])]


def names_of(stamped: Stamped) -> Iterable[str]:
    """Ids of what an event is about."""
    event = stamped.event
    fields = ("flow", "tunnel", "agent", "rule", "old", "new", "by")
    return {str(value) for name in fields if (value := getattr(event, name, None)) is not None}


def _title(left: str, right: str) -> Line:
    return (Piece(visible(left), "title"), Piece(f"   {visible(right)}", "muted"))


def _pair(name: str, value: str) -> Line:
    return (Piece(name.ljust(LABEL), "muted"), Piece(visible(value)))


def _state(table: TableId, word: str, reason: str) -> Line:
    pieces = (Piece("state".ljust(LABEL), "muted"), Piece(word.upper(), state_role(table, word)))
    return (*pieces, Piece(f"  {visible(reason)}")) if reason else pieces


def _rule_text(rule: str | None, frame: Frame) -> str:
    found = next((each for each in frame.snapshot.rules if each.id == rule), None)
    if found is None:
        return str(rule or "-")
    listen, target = address_text(found.listen, frame.look), address_text(found.target, frame.look)
    return f"{found.id}  {listen} -> {target}"


def _masked(text: str, frame: Frame) -> str:
    return masked_text(text) if frame.look.private else text


def _since(ts: float, now: float) -> str:
    return f"{datetime.fromtimestamp(ts).strftime('%H:%M:%S')} ({seconds_text(max(0.0, now - ts))} ago)"


def _until(ts: float | None, now: float) -> str:
    return "-" if ts is None else f"in {seconds_text(max(0.0, ts - now))}"


def _ago(ts: float | None, now: float) -> str:
    return "" if ts is None else f", {seconds_text(max(0.0, now - ts))} ago"
