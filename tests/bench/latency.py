"""Round-trip time that relay and agent add to a direct echo, at 1,000 datagrams per second."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench.lanes import REMAIN
from tests.bench.load_tool import LoadProcess, Result, measured
from tests.bench.row import Row, row_of
from tests.e2e.processes import Fleet, local_address

ROUNDS: Final = 5
_SECONDS: Final = 2
_TARGETS: Final = {"p50": "at most 0.15", "p99": "at most 0.6", "p999": ""}


def measure_latency() -> list[Row]:
    """A row for each of the percentiles 50, 99 and 99.9."""
    direct: list[Result] = []
    tunnel: list[Result] = []
    echo = LoadProcess("echo", "0")
    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(Path(folder))
        try:
            target = f"127.0.0.1:{echo.ready()['port']}"
            fleet.server("http")
            fleet.agent("bench")
            host, port = local_address(fleet.relay(f"127.0.0.1:0?to={target}", args=REMAIN))
            _ping(f"{host}:{port}")
            for _ in range(ROUNDS):
                direct.append(_ping(target))
                tunnel.append(_ping(f"{host}:{port}"))
        finally:
            fleet.close()
            echo.close()
    return [_row(point, direct, tunnel) for point in _TARGETS]


def _ping(to: str) -> Result:
    return measured("ping", to, "--rate", "1000", "--seconds", str(_SECONDS), "--size", "200")


def _row(point: str, direct: list[Result], tunnel: list[Result]) -> Row:
    ours, other = ([result[f"{point}_us"] / 1e3 for result in results] for results in (tunnel, direct))
    name = f"Round trip added, {point.replace('999', '99.9')}, 1,000/s"
    note = f"{median(ours):.3f} ms, direct {median(other):.3f} ms"
    values = [mine - theirs for mine, theirs in zip(ours, other, strict=True)]
    return row_of(name, values, "ms", target=_TARGETS[point], note=note)
