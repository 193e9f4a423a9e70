"""The impairable path itself, without a relay: what it loses, delays, swallows and puts in."""

from __future__ import annotations

import random

from tests.e2e.path_proxy import Direction, PathProxy
from tests.e2e.processes import Fleet
from tests.e2e.udp import EchoTarget


def test_loss_is_a_share_that_the_seed_decides() -> None:
    first, second = (Direction(random.Random(7), loss=0.3) for _ in range(2))
    fates = [first.swallows() for _ in range(1000)]
    assert fates == [second.swallows() for _ in range(1000)]
    assert (first.lost, first.passed) == (sum(fates), 1000 - sum(fates))
    assert 250 < first.lost < 350


def test_dark_swallows_everything() -> None:
    way = Direction(random.Random(1), dark=True)
    assert all(way.swallows() for _ in range(100))


def test_everything_passes_through_the_path(network: PathProxy, fleet: Fleet, echo: EchoTarget) -> None:
    relay = fleet.relay(f"127.0.0.1:0?to={echo.address}")
    (path,) = network.paths
    client = fleet.client(relay)
    before = path.up.passed, path.down.passed
    assert all(client.round_trip() for _ in range(20))
    assert path.up.passed >= before[0] + 20
    assert path.down.passed >= before[1] + 20
    assert network.path_of(relay.wait_for("tunnel.up")["remote"]) is path
