"""Where simulated flows come from: hosts in 10.0.0.0/16, some of them busy, and a few over IPv6."""

from __future__ import annotations

import ipaddress

import numpy as np
from numpy.typing import NDArray

from rtun_core.flow_rows import ADDRESS_SIZE

IPV6_SHARE = 0.06
_NETWORK = (0x20, 0x01, 0x0D, 0xB8, 0x00, 0x10)  # 2001:db8:10::/48, for documentation


def draw_sources(noise: np.random.Generator, number: int, *, hosts: int) -> NDArray[np.uint8]:
    """`number` source addresses as rows of ADDRESS_SIZE bytes, spread unevenly over about `hosts` hosts."""
    hosts = min(hosts, 60_000)
    host = (noise.random(number) ** 2.0 * hosts).astype(np.int64)
    port = noise.integers(1024, 65536, number)
    rows = np.zeros((number, ADDRESS_SIZE), np.uint8)
    rows[:, 16], rows[:, 17] = port >> 8, port & 0xFF
    six = noise.random(number) < IPV6_SHARE
    rows[:, 10] = rows[:, 11] = np.where(six, 0, 0xFF)
    rows[:, 12] = np.where(six, 0, 10)
    networks = max(12, hosts // 240)
    rows[:, 14] = host % networks
    rows[:, 15] = 2 + host // networks
    rows[:, : len(_NETWORK)] = six[:, None] * np.array(_NETWORK, np.uint8)
    return rows


def source_text(row: NDArray[np.uint8]) -> str:
    """The spelling of one source address."""
    raw = row.tobytes()
    port = int.from_bytes(raw[16:])
    address = ipaddress.IPv6Address(raw[:16])
    four = address.ipv4_mapped
    return f"[{address}]:{port}" if four is None else f"{four}:{port}"
