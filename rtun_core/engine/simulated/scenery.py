"""What the simulated relay is made of: sorts of traffic, agents, and the tunnels of the opening scene.

Addresses are from the ranges set aside for documentation, apart from two public name servers. The
opening scene is a busy relay a few hours after its start, with one of everything worth looking at.
"""

from __future__ import annotations

from typing import NamedTuple

SIGNAL = "quic://a.ex:8888"
CODEC = "obfs-v2"
VERSION = "0.1.0"
LOCAL_PORT = 40_000  # the first local port of tunnels
LIFETIME = 900.0  # seconds a tunnel is kept before it rotates
IDLE_TIMEOUT = 120.0  # seconds without traffic after which a flow is closed
UPTIME = 11_520.0  # seconds the relay has run when the scene opens
MEAN_DOWN = 20_700.0  # bytes per second and flow, idle ones included
TOP_RATE = 1.3e6  # bytes per second of the biggest flow


class Sort(NamedTuple):
    """One sort of traffic, which a rule carries.

    `share` of all flows, `weight` of a typical flow's rate, `spread` of the logarithm of rates, `ratio` of
    bytes up to bytes down, sizes in bytes, `rest` and `wake`: chances to fall silent and to speak again,
    every two seconds.
    """

    listen: str
    target: str
    share: float
    weight: float
    spread: float
    ratio: float
    size_up: float
    size_down: float
    rest: float
    wake: float


SORTS = (
    Sort("0.0.0.0:10443", "198.51.100.4:443", 0.50, 1.0, 1.6, 0.25, 420.0, 1180.0, 0.10, 0.06),
    Sort("127.0.0.1:15353", "8.8.8.8:53", 0.20, 0.02, 1.0, 0.45, 64.0, 142.0, 0.30, 0.08),
    Sort("0.0.0.0:51820", "192.0.2.10:51820", 0.04, 4.0, 1.2, 0.60, 780.0, 1120.0, 0.02, 0.12),
    Sort("0.0.0.0:13478", "203.0.113.77:3478", 0.12, 0.6, 0.7, 0.95, 172.0, 172.0, 0.05, 0.05),
    Sort("0.0.0.0:27015", "192.0.2.30:27015", 0.10, 0.25, 0.8, 0.55, 96.0, 188.0, 0.06, 0.05),
    Sort("127.0.0.1:15354", "8.8.4.4:53", 0.04, 0.02, 1.0, 0.45, 64.0, 138.0, 0.30, 0.08),
)


class Actor(NamedTuple):
    """An agent of the opening scene: `left` seconds until it expires, negative: lost that long ago."""

    name: str
    instance: str
    signal: str
    host: str
    left: float
    rtt: float  # milliseconds of the way to it
    probed: float | None  # seconds since it was probed


ACTORS = (
    Actor("beta", "7f3c", "quic://a.ex:8888", "203.0.113.9", 2462.0, 18.8, None),
    Actor("alpha", "19d0", "https://a.ex:8888", "198.51.100.7", 2320.0, 21.0, 3.0),
    Actor("gamma", "c2aa", "quic://b.ex:8888", "198.51.100.52", 731.0, 48.0, 40.0),
    Actor("delta", "0b51", "quic://b.ex:8888", "192.0.2.200", 58.0, 61.0, None),
    Actor("beta", "6a90", "quic://a.ex:8888", "203.0.113.9", -240.0, 19.0, None),
)

# Agents that appear later on.
NAMES = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
SIGNALS = ("quic://a.ex:8888", "https://a.ex:8888", "quic://b.ex:8888")
HOSTS = ("203.0.113.9", "198.51.100.7", "198.51.100.52", "192.0.2.200", "203.0.113.140")


class Part(NamedTuple):
    """A tunnel of the first rule in the opening scene, with its share of the rule's flows."""

    number: int
    port: int
    rtt: float  # milliseconds
    loss: float
    share: float
    age: float  # seconds it was open when the scene opens


PARTS = (
    Part(5, 41822, 18.4, 0.0, 0.38, 400.0),
    Part(6, 50114, 19.1, 0.001, 0.28, 330.0),
    Part(4, 38800, 19.4, 0.002, 0.22, 520.0),
    Part(3, 33102, 20.0, 0.0, 0.12, 860.0),
)
NEXT_PART = 7  # the number of the tunnel that opens when the scene does
TROUBLED = 4  # the number of the one that degrades
DRAINED = 3  # the number of the one that drains
TROUBLE_RTT, TROUBLE_LOSS = 0.078, 0.041  # seconds and share on top of the usual
TROUBLE_AT, TROUBLE_ENDS, DRAIN_AT = -48.0, 70.0, -6.0  # seconds from the opening of the scene


def sort_of(index: int) -> Sort:
    """The traffic of the rule with that index; beyond the known ones, they come again elsewhere."""
    sort = SORTS[index % len(SORTS)]
    again = index // len(SORTS)
    if not again:
        return sort
    listen, _, port = sort.listen.rpartition(":")
    host, _, service = sort.target.rpartition(":")
    network, _, last = host.rpartition(".")
    return sort._replace(
        listen=f"{listen}:{int(port) + 100 * again}",
        target=f"{network}.{(int(last) + again) % 255}:{service}",
    )
