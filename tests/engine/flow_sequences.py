"""Pictures of flows that follow each other as those of a running relay do, from a seed."""

import numpy as np

from rtun_core.flow_rows import FLOW_STATES, FlowRows
from tests.view.random_rows import random_sources

TUNNELS = (None, "t1", "t2", "t3", "t10")


def new_rows(rng, count, *, first_id, now, rules=("r1", "r2")):
    """`count` flows that have just been opened."""
    counts = ("up_packets", "up_bytes", "down_packets", "down_bytes")
    return FlowRows(
        ids=np.arange(first_id, first_id + count, dtype=np.uint64),
        sources=random_sources(rng, count),
        rule=rng.integers(0, len(rules), count, np.int32),
        target=rng.integers(0, 2, count, np.int32),
        tunnel=rng.integers(0, len(TUNNELS), count, np.int32),
        state=rng.integers(0, len(FLOW_STATES), count, np.uint8),
        opened_at=np.full(count, now),
        idle_s=rng.random(count),
        up_rate=rng.random(count) * 1e6,
        down_rate=np.zeros(count),
        moves=np.zeros(count, np.int64),
        rules=rules,
        targets=("192.0.2.1:53", "[2001:db8::1]:53"),
        tunnels=TUNNELS,
        **{name: rng.integers(0, 10**12, count) for name in counts},
    )


def following(rng, rows, *, now, churn=0.1):
    """The same a second later: some speak, some end, some are opened, names may be other ones."""
    kept = rows.take(np.flatnonzero(rng.random(len(rows)) > churn))
    speak = rng.random(len(kept)) < 0.3
    changed = vars(kept).copy()
    changed["idle_s"] = np.where(speak, rng.random(len(kept)), kept.idle_s + 1.0)
    changed["down_bytes"] = kept.down_bytes + np.where(speak, rng.integers(0, 1500, len(kept)), 0)
    changed["up_rate"] = np.where(speak, rng.random(len(kept)) * 1e6, 0.0)
    changed["state"] = np.where(speak, 0, kept.state).astype(np.uint8)
    kept = FlowRows(**changed)
    first = int(rows.ids.max(initial=0)) + 1
    opened = new_rows(rng, int(rng.integers(0, 4)), first_id=first, now=now, rules=("r2", "r3", None))
    parts = [kept, opened] if rng.random() < 0.7 else [opened, kept]
    return FlowRows.join(parts)


def assert_same(rows, other):
    """Every column has the same bits, every tuple the same names."""
    if not len(rows) and not len(other):
        return
    for name in FlowRows._PER_ROW:
        one, two = getattr(rows, name), getattr(other, name)
        assert one.shape == two.shape, name
        assert one.tobytes() == np.ascontiguousarray(two, one.dtype).tobytes(), name
    assert (rows.rules, rows.targets, rows.tunnels) == (other.rules, other.targets, other.tunnels)
