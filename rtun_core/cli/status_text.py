"""A snapshot as plain text tables that fit 80 columns."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from rtun_core.model import (
    AgentView,
    FlowView,
    RuleState,
    RuleView,
    SignalView,
    Snapshot,
    TunnelState,
    TunnelView,
)

WIDTH = 80
TOP_FLOWS = 20

_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
# What steers a terminal, and what turns the direction of writing.
_STEERING = (
    *range(32),
    *range(127, 160),
    *range(0x200E, 0x2010),
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
)
_CONTROLS = dict.fromkeys(_STEERING, "?")

# Each column: title, width, and whether it is a number, which stands at the right.
Column = tuple[str, int, bool]

_SIGNAL: tuple[Column, ...] = (("SIGNALLING", 48, False), ("STATE", 11, False), ("REASON", 19, False))
_RULES: tuple[Column, ...] = (
    ("RULE", 4, False),
    ("LISTEN", 21, False),
    ("TARGET", 21, False),
    ("STATE", 8, False),
    ("TUN", 7, True),
    ("FLOWS", 6, True),
    ("DROPS", 6, True),
)
_AGENTS: tuple[Column, ...] = (
    ("AGENT", 22, False),
    ("ADDRESS", 21, False),
    ("STATE", 8, False),
    ("EXPIRES", 7, True),
    ("RTT", 8, True),
    ("TUN", 4, True),
)
_TUNNELS: tuple[Column, ...] = (
    ("TUN", 5, False),
    ("REMOTE", 21, False),
    ("STATE", 8, False),
    ("RTT", 8, True),
    ("LOSS", 6, True),
    ("UP", 8, True),
    ("DOWN", 8, True),
    ("FLOWS", 6, True),
)
_FLOWS: tuple[Column, ...] = (
    ("FLOW", 8, False),
    ("SOURCE", 21, False),
    ("TUN", 5, False),
    ("STATE", 7, False),
    ("UP", 8, True),
    ("DOWN", 8, True),
    ("IDLE", 6, True),
    ("MOVES", 5, True),
)


def status_text(snapshot: Snapshot) -> str:
    """The whole page, no line longer than `WIDTH`. Tables without rows are left out."""
    top, total = biggest(snapshot.flows), _flow_count(snapshot)
    blocks = [
        _head(snapshot),
        table(_SIGNAL, map(_signal_row, snapshot.signal)),
        table(_RULES, map(_rule_row, snapshot.rules)),
        table(_AGENTS, (_agent_row(agent, snapshot.ts) for agent in snapshot.agents)),
        table(_TUNNELS, map(_tunnel_row, snapshot.tunnels)),
        "\n".join(_troubles(snapshot)),
        table(_FLOWS, map(_flow_row, top)),
        f"{len(top)} of {total} flows" if total > len(top) else "",
        _counts("drops", snapshot.drops),
        _counts("faults", snapshot.faults),
    ]
    return "\n\n".join(block for block in blocks if block)


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> str:
    """Cells in columns with one space between; a longer cell is cut and ends in `~`."""
    lines = [_line(columns, row) for row in rows]
    return "\n".join([_line(columns, [title for title, _, _ in columns]), *lines]) if lines else ""


def biggest(flows: Sequence[FlowView]) -> list[FlowView]:
    """The flows that carry most now, and of those that rest the ones that carried most."""
    return heapq.nlargest(
        TOP_FLOWS,
        flows,
        key=lambda flow: (flow.up_rate + flow.down_rate, flow.up_bytes + flow.down_bytes),
    )


def bytes_text(count: float) -> str:
    """Three significant digits and a unit: `1.44 GB`."""
    for unit in _BYTE_UNITS:
        if count < 999.5 or unit == _BYTE_UNITS[-1]:
            break
        count /= 1000
    if unit == "B":
        return f"{count:.0f} B"
    decimals = 2 if count < 9.995 else 1 if count < 99.95 else 0
    return f"{count:.{decimals}f} {unit}"


def time_text(seconds: float) -> str:
    """The two largest units: `41m02s`, `3h12m`, `2d04h`."""
    whole = max(0, round(seconds))
    for size, unit, part, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // part:02}{name}"
    return f"{whole}s"


def _line(columns: Sequence[Column], cells: Sequence[str]) -> str:
    parts = [_fit(cell, width, right) for cell, (_, width, right) in zip(cells, columns, strict=True)]
    return " ".join(parts).rstrip()


def _fit(cell: str, width: int, right: bool) -> str:
    text = cell.translate(_CONTROLS)
    if len(text) > width:
        text = text[: width - 1] + "~"
    return text.rjust(width) if right else text.ljust(width)


def _head(snapshot: Snapshot) -> str:
    flows = _flow_count(snapshot)
    text = (
        f"rtun {snapshot.version} ({', '.join(snapshot.services)}), pid {snapshot.pid}, "
        f"up {time_text(snapshot.uptime_s)}, {flows} flow{'' if flows == 1 else 's'}, "
        f"sent {bytes_text(snapshot.traffic.up_bytes)}, received {bytes_text(snapshot.traffic.down_bytes)}"
    )
    return "\n".join(_wrap(text.split(" ")))


def _flow_count(snapshot: Snapshot) -> int:
    return len(snapshot.flows) if snapshot.flows_total is None else snapshot.flows_total


def _troubles(snapshot: Snapshot) -> Iterable[str]:
    """Why rules wait and tunnels are degraded, a paragraph each."""
    for rule in snapshot.rules:
        if rule.state is RuleState.WAITING and rule.reason:
            yield _trouble("rule", rule.id, rule.state, rule.reason)
    for tunnel in snapshot.tunnels:
        if tunnel.state is TunnelState.DEGRADED and tunnel.reason:
            yield _trouble("tunnel", tunnel.id, tunnel.state, tunnel.reason)


def _trouble(kind: str, name: str, state: str, reason: str) -> str:
    return "\n".join(_wrap(f"{kind} {name} is {state}: {reason.translate(_CONTROLS)}".split(" ")))


def _signal_row(signal: SignalView) -> list[str]:
    return [signal.url, signal.state, signal.reason]


def _rule_row(rule: RuleView) -> list[str]:
    return [
        rule.id,
        rule.listen,
        rule.target,
        rule.state,
        f"{rule.tunnels_up}/{rule.tunnels_max}",
        str(rule.flows),
        str(sum(rule.drops.values())),
    ]


def _agent_row(agent: AgentView, now: float) -> list[str]:
    expires = "-" if agent.expires_at is None else time_text(agent.expires_at - now)
    return [
        agent.id,
        agent.address or agent.signal,
        agent.state,
        expires,
        _ms(agent.rtt_ms),
        str(agent.tunnels),
    ]


def _tunnel_row(tunnel: TunnelView) -> list[str]:
    known = [share for share in (tunnel.loss_up, tunnel.loss_down) if share is not None]
    return [
        tunnel.id,
        tunnel.remote or "-",
        tunnel.state,
        _ms(tunnel.rtt_ms),
        f"{max(known):.1%}" if known else "-",
        bytes_text(tunnel.traffic.up_bytes),
        bytes_text(tunnel.traffic.down_bytes),
        str(tunnel.flows),
    ]


def _flow_row(flow: FlowView) -> list[str]:
    return [
        flow.id,
        flow.source,
        flow.tunnel or "-",
        flow.state,
        bytes_text(flow.up_bytes),
        bytes_text(flow.down_bytes),
        time_text(flow.idle_s),
        str(flow.moves),
    ]


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"


def _counts(title: str, counts: dict[str, int]) -> str:
    words = [f"{reason} {count}" for reason, count in sorted(counts.items()) if count]
    return "\n".join(_wrap([f"{title}:", *(f"{word}," for word in words[:-1]), *words[-1:]])) if words else ""


def _wrap(words: Sequence[str]) -> list[str]:
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + 1 + len(word) > WIDTH:
            lines.append(" " * 2 + word)
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return [line[:WIDTH] for line in lines]
