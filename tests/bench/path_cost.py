"""CPU time per datagram of relay and agent, as a multiple of what the plain forwarder uses."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final, NamedTuple

from tests.bench.lanes import LANES, Lane, Sample
from tests.bench.row import Row, row_of
from tests.bench.search import MAX_LOSS, coarse_capacity

SIZES: Final = (64, 512, 1200)
FLOWS: Final = (1, 64, 10_000)
ROUNDS: Final = 5
_SECONDS: Final = 0.5
_SHARE: Final = 0.6  # of the highest rate of the slower side
_LEAST_RATE: Final = 2_000.0
_TOLERATED: Final = 0.01  # so little loss does not change the cost of what arrives; the note tells it
_TARGETS: Final = {1: "below 1.0", 64: "at most 1.3", 10_000: "at most 1.6"}


class PathCase(NamedTuple):
    """A direction, up (to the target) or down, a number of flows, and the sizes to try in bytes."""

    direction: str
    flows: int
    sizes: tuple[int, ...] = SIZES
    rate: float = 0.0  # datagrams per second, 0: a share of what both sides reach


class _Pairs(NamedTuple):
    rate: float
    plain: list[Sample]
    tunnel: list[Sample]


def measure_path_cost(case: PathCase) -> list[Row]:
    """A row for each size and process."""
    rows = []
    with LANES[case.direction](case.flows) as lane:
        rate = case.rate or _comfortable(lane, case.sizes[-1])
        for size in case.sizes:
            pairs = _alternate(lane, rate, size)
            rows += [_row(case, size, process, pairs) for process in ("relay", "agent")]
    return rows


def _comfortable(lane: Lane, size: int) -> float:
    """A rate that both sides carry well."""
    return max(_LEAST_RATE, _SHARE * min(coarse_capacity(side, size) for side in (lane.plain, lane.tunnel)))


def _alternate(lane: Lane, rate: float, size: int) -> _Pairs:
    """Both sides in turn, at a rate at which neither loses; a lossy round is made again, slower."""
    pairs = _Pairs(rate, [], [])
    for _ in range(ROUNDS * 3):
        if len(pairs.plain) == ROUNDS:
            break
        plain, tunnel = (side.run(pairs.rate, _SECONDS, size) for side in (lane.plain, lane.tunnel))
        if max(plain.loss, tunnel.loss) > _TOLERATED and pairs.rate > _LEAST_RATE:
            pairs = _Pairs(pairs.rate * 0.8, [], [])
            continue
        pairs.plain.append(plain)
        pairs.tunnel.append(tunnel)
    if not pairs.plain:
        raise RuntimeError(f"no rate without loss was found down to {pairs.rate:,.0f} datagrams/s")
    return pairs


def _row(case: PathCase, size: int, process: str, pairs: _Pairs) -> Row:
    ours = [sample.cost(process) for sample in pairs.tunnel]
    plain = [sample.cost("fwd") for sample in pairs.plain]
    flows = f"{case.flows:,} flow{'s' * (case.flows > 1)}"
    return row_of(
        f"CPU {process}, {case.direction}, {size} bytes, {flows}",
        [mine / other for mine, other in zip(ours, plain, strict=True)],
        "x C",
        target=_TARGETS[case.flows] if size == SIZES[-1] else "",
        note=_note(ours, plain, pairs),
    )


def _note(ours: Sequence[float], plain: Sequence[float], pairs: _Pairs) -> str:
    lost = max(sample.loss for sample in (*pairs.plain, *pairs.tunnel))
    text = f"{median(ours):.2f} us, C {median(plain):.2f} us, at {pairs.rate:,.0f}/s"
    if len(ours) < ROUNDS:
        text += f", only {len(ours)} rounds"
    return f"{text}, loss {lost:.2%}" if lost > MAX_LOSS else text
