"""Flows as snapshot rows."""

import pytest

from rtun_core.agent.flow_rows import flow_rows
from rtun_core.model import FlowState


async def opened(exit_, flows=(0x1F,)):
    """A tunnel with these flows, each of which got one answer."""
    target = exit_.target()
    tunnel, relay = exit_.tunnel(target)
    for flow in flows:
        relay.uplink(flow, b"question")
        _, source = await target.recv()
        target.send(b"answer!", source)
        await relay.downlink()
    return target, tunnel


def rows(exit_):
    return flow_rows(exit_.flows, now=exit_.clock.now, wall=5000.0)


async def test_a_row_says_what_the_flow_did(exit_):
    target, tunnel = await opened(exit_)
    exit_.clock.now += 2
    (row,) = rows(exit_)
    assert row.id == "0000001f"
    assert (row.source, row.target) == (str(tunnel.remote), str(target.address))
    assert (row.tunnel, row.rule) == ("t1", None)
    assert (row.opened_at, row.idle_s) == (4998.0, 2.0)
    assert (row.up_packets, row.up_bytes, row.down_packets, row.down_bytes) == (1, 8, 1, 7)
    assert row.state is FlowState.ACTIVE


async def test_a_quiet_flow_is_idle_and_one_without_tunnel_waits(exit_):
    _, tunnel = await opened(exit_)
    exit_.clock.now += 6
    assert rows(exit_)[0].state is FlowState.IDLE
    tunnel.close()
    row = rows(exit_)[0]
    assert (row.state, row.tunnel, row.source) == (FlowState.WAITING, None, "-")


async def test_the_picture_stays_as_it_was(exit_):
    await opened(exit_)
    picture = rows(exit_)
    exit_.tick(11)
    assert len(exit_.flows) == 0
    assert len(picture) == 1
    assert picture[0].up_packets == 1


async def test_a_row_has_the_rates_of_the_last_second(exit_):
    await opened(exit_)
    exit_.tick(1)
    exit_.flows.columns.up_bytes += 300
    exit_.flows.columns.down_bytes += 500
    exit_.tick(2)
    (row,) = rows(exit_)
    assert (row.up_rate, row.down_rate) == (150.0, 250.0)


async def test_flows_of_several_tunnels_and_targets(exit_):
    first, second = exit_.target(), exit_.target()
    for number, target in enumerate((first, second, first), 1):
        _, relay = exit_.tunnel(target, session=str(number))
        relay.uplink(number, b"question")
        await target.recv()
    found = {row.id[-1]: (row.tunnel, row.target) for row in rows(exit_)}
    assert found == {
        "1": ("t1", str(first.address)),
        "2": ("t2", str(second.address)),
        "3": ("t3", str(first.address)),
    }
    assert [row.source for row in rows(exit_)] == [str(tunnel.remote) for tunnel in exit_.tunnels]


async def test_rows_behave_like_a_sequence(exit_):
    await opened(exit_, flows=(1, 2, 3))
    picture = rows(exit_)
    assert picture[1:] == [picture[1], picture[2]]
    assert {row.id for row in picture} == {"00000001", "00000002", "00000003"}
    assert picture[-1] == picture[2]
    with pytest.raises(IndexError):
        picture[3]


async def test_no_flows_no_rows(exit_):
    assert list(rows(exit_)) == []
