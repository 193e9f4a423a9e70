"""Pictures of flows with every kind of row in them, from a seed."""

import numpy as np

from rtun_core.flow_rows import ADDRESS_SIZE, FLOW_STATES, FlowRows

RULES = (None, "r1", "r2")
TARGETS = ("8.8.8.8:53", "[2001:db8::9]:443", "dns.example:53", "192.0.2.10:9000")
TUNNELS = (None, "t2", "t10", "t1", "t7")


def random_sources(rng, count):
    """IPv4 mostly, IPv6, and some without a source; hosts repeat."""
    sources = rng.integers(0, 256, (count, ADDRESS_SIZE), np.uint8)
    sources[:, 14] %= 4
    v4 = rng.random(count) < 0.8
    sources[v4, :10] = 0
    sources[v4, 10:12] = 255
    sources[rng.random(count) < 0.02] = 0
    return sources


def random_rows(count, seed=1, *, now=1e9):
    """`count` flows; four in five are silent, so numbers tie."""
    rng = np.random.default_rng(seed)
    quiet = rng.random(count) < 0.8
    counts = {
        name: rng.integers(0, 10**9, count) * (rng.random(count) < 0.9)
        for name in ("up_packets", "up_bytes", "down_packets", "down_bytes")
    }
    return FlowRows(
        ids=rng.permutation(np.arange(1, count + 1, dtype=np.uint64)) * np.uint64(7919),
        sources=random_sources(rng, count),
        rule=rng.integers(0, len(RULES), count, np.int32),
        target=rng.integers(0, len(TARGETS), count, np.int32),
        tunnel=rng.integers(0, len(TUNNELS), count, np.int32),
        state=rng.integers(0, len(FLOW_STATES), count, np.uint8),
        opened_at=now - rng.integers(0, 5000, count).astype(np.float64),
        idle_s=np.where(quiet, rng.integers(0, 100, count), 0).astype(np.float64),
        up_rate=np.where(quiet, 0.0, rng.random(count) * 1e5),
        down_rate=np.where(quiet, 0.0, rng.random(count) * 1e6),
        moves=rng.integers(0, 4, count),
        rules=RULES,
        targets=TARGETS,
        tunnels=TUNNELS,
        **counts,
    )
