"""Round-trip time that relay and agent add to a direct echo, at 1,000 datagrams per second.

Two plain forwarders one behind the other are on the same way: what they add is what the system takes for
four wake-ups of a process, whatever that then does.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench.lanes import REMAIN, start_load
from tests.bench.load_tool import Result, measured
from tests.bench.row import Row, row_of
from tests.e2e.processes import Fleet, local_address

ROUNDS: Final = 5
_SECONDS: Final = 2
_TARGETS: Final = {"p50": "at most 0.15", "p99": "at most 0.6", "p999": ""}

_Trips = dict[str, list[Result]]


def measure_latency() -> list[Row]:
    """Two rows for each of the percentiles 50, 99 and 99.9."""
    with ExitStack() as stack:
        entries = _entries(stack)
        for entry in entries.values():
            _ping(entry)
        trips: _Trips = {name: [] for name in entries}
        for _ in range(ROUNDS):
            for name, entry in entries.items():
                trips[name].append(_ping(entry))
    return [_row(point, trips, name) for name in ("tunnel", "plain") for point in _TARGETS]


def _entries(stack: ExitStack) -> dict[str, str]:
    """Where one echo is reached: directly, through two plain forwarders, and through relay and agent."""
    direct = _address(start_load(stack, "echo", "0").ready())
    second = _address(start_load(stack, "fwd", "0", direct).ready())
    plain = _address(start_load(stack, "fwd", "0", second).ready())
    fleet = Fleet(Path(stack.enter_context(tempfile.TemporaryDirectory())))
    stack.callback(fleet.close)
    fleet.server("http")
    fleet.agent("bench")
    host, port = local_address(fleet.relay(f"127.0.0.1:0?to={direct}", args=REMAIN))
    return {"direct": direct, "plain": plain, "tunnel": f"{host}:{port}"}


def _address(ready: Result) -> str:
    return f"127.0.0.1:{ready['port']}"


def _ping(to: str) -> Result:
    return measured("ping", to, "--rate", "1000", "--seconds", str(_SECONDS), "--size", "200")


def _row(point: str, trips: _Trips, name: str) -> Row:
    ours, direct = ([result[f"{point}_us"] / 1e3 for result in trips[which]] for which in (name, "direct"))
    percentile = point.replace("999", "99.9")
    by = "" if name == "tunnel" else " by two C forwarders"
    return row_of(
        f"Round trip added{by}, {percentile}, 1,000/s",
        [mine - theirs for mine, theirs in zip(ours, direct, strict=True)],
        "ms",
        target=_TARGETS[point] if name == "tunnel" else "",
        note=f"{median(ours):.3f} ms, direct {median(direct):.3f} ms",
    )
