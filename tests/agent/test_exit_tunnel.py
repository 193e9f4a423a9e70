"""Exit tunnels between a flow table and a scalar relay, over real loopback sockets."""

import pytest

from rtun_core.wire.relay_frame import CodecKind
from rtun_core.wire.relay_report import Ping, Pong, decode_report, encode_report

pytestmark = pytest.mark.usefixtures("both_ways")


def form(kind):
    """How a relay of this generation sets a tunnel up."""
    if kind is CodecKind.LEGACY:
        return {"kind": kind, "seed": 0, "agreed": False}
    return {"kind": kind, "agreed": False}


async def test_every_frame_form_carries_data_both_ways(exit_, kind):
    target = exit_.target()
    tunnel, relay = exit_.tunnel(target, **form(kind))
    relay.uplink(7, b"question")
    data, source = await target.recv()
    assert data == b"question"
    target.send(b"answer", source)
    assert await relay.downlink() == (7, b"answer")
    assert tunnel.frames.codec_name == kind.value


async def test_large_batches_of_many_flows_keep_order_within_each_flow(exit_, kind):
    target = exit_.target()
    _, relay = exit_.tunnel(target, **form(kind))
    for turn in range(20):
        for flow in range(1, 6):
            relay.uplink(flow, b"%d %d" % (flow, turn))
    ports = {}
    for _ in range(100):
        data, source = await target.recv()
        flow, turn = map(int, data.split())
        assert ports.setdefault(flow, (source, []))[0] == source
        ports[flow][1].append(turn)
    assert {flow: turns for flow, (_, turns) in ports.items()} == {f: list(range(20)) for f in range(1, 6)}
    for flow, (source, _) in ports.items():
        for _ in range(12):
            target.send(b"to %d" % flow, source)
    answers = [await relay.downlink() for _ in range(60)]
    assert sorted(answers) == sorted([(flow, b"to %d" % flow) for flow in ports] * 12)
    assert exit_.drops() == {}


@pytest.mark.parametrize(
    ("terms", "sizes"),
    [
        ({}, [10]),
        ({"kind": CodecKind.LEGACY, "seed": 0, "agreed": False}, [8]),
        ({"agreed": False, "max_payload": 1442}, [10]),
        ({"agreed": False}, []),
    ],
    ids=["agreed", "seed 0", "1442 bytes", "nothing known"],
)
async def test_the_terms_decide_whether_it_beats_at_once(exit_, terms, sizes):
    tunnel, relay = exit_.tunnel(exit_.target(), **terms)
    assert tunnel.frames.tx_frames == len(sizes)
    assert [len(await relay.heartbeat()) for _ in sizes] == sizes


@pytest.mark.parametrize(
    ("max_payload", "kind"), [(0, CodecKind.OBFS_V2), (1391, CodecKind.OBFS_V2), (1443, CodecKind.OBFS_V1)]
)
async def test_after_three_seconds_of_silence_it_beats_in_the_likeliest_form(exit_, max_payload, kind):
    tunnel, relay = exit_.tunnel(exit_.target(), kind=kind, agreed=False, max_payload=max_payload)
    exit_.tick(2)
    assert tunnel.frames.tx_frames == 0
    exit_.tick(1)
    assert len(await relay.heartbeat()) == relay.codec.header_size
    assert tunnel.frames.codec_name == kind.value


async def test_a_wrong_guess_is_corrected_and_the_agreed_payload_stays(exit_):
    target = exit_.target()
    tunnel, relay = exit_.tunnel(target, kind=CodecKind.OBFS_V1, max_payload=1442, agreed=False)
    assert len((await relay.recv())[0]) == 10
    relay.uplink(3, b"data")
    assert (await target.recv())[0] == b"data"
    assert len(await relay.heartbeat()) == 9
    assert tunnel.max_payload == 1442


async def test_many_early_datagrams_are_all_taken(exit_):
    target = exit_.target()
    exit_.tunnel(target, early=[(1, b"%d" % number) for number in range(150)])
    assert [(await target.recv())[0] for _ in range(150)] == [b"%d" % number for number in range(150)]


async def test_uplink_above_the_agreed_payload_is_dropped(exit_):
    target = exit_.target()
    _, relay = exit_.tunnel(target, max_payload=100)
    relay.uplink(1, bytes(101))
    relay.uplink(1, bytes(100))
    assert len((await target.recv())[0]) == 100
    assert exit_.drops() == {"oversize": 1}


async def test_downlink_above_the_agreed_payload_and_empty_answers_are_dropped(exit_):
    target = exit_.target()
    _, relay = exit_.tunnel(target, max_payload=100)
    relay.uplink(1, b"hello")
    _, source = await target.recv()
    for size in (101, 0, 3000, 100):
        target.send(bytes(size), source)
    assert await relay.downlink() == (1, bytes(100))
    assert exit_.drops() == {"oversize": 2, "empty": 1}


async def test_the_largest_payload_fits_one_datagram(exit_, kind):
    target = exit_.target()
    _, relay = exit_.tunnel(target, **form(kind))
    size = relay.codec.max_payload
    relay.uplink(1, b"u" * size)
    data, source = await target.recv()
    assert data == b"u" * size
    target.send(b"d" * size, source)
    assert await relay.downlink() == (1, b"d" * size)


async def test_an_empty_payload_of_a_flow_is_forwarded(exit_):
    target = exit_.target()
    _, relay = exit_.tunnel(target)
    relay.uplink(1)
    assert (await target.recv())[0] == b""


async def test_flow_0_carries_data_when_no_reports_were_agreed(exit_):
    target = exit_.target()
    _, relay = exit_.tunnel(target)
    relay.uplink(0, b"data")
    _, source = await target.recv()
    target.send(b"answer", source)
    assert await relay.downlink() == (0, b"answer")


async def test_a_ping_is_answered_with_counts_of_both_directions(exit_, until):
    target = exit_.target()
    tunnel, relay = exit_.tunnel(target, reports=True)
    await relay.heartbeat()
    relay.uplink(0)
    relay.uplink(1, b"data")
    await target.recv()
    await until(lambda: tunnel.frames.rx_frames == 2)
    relay.uplink(0, encode_report(Ping(9, 123456, 2)))
    flow, payload = await relay.downlink()
    assert flow == 0
    assert decode_report(payload) == Pong(9, 123456, rx_frames=3, tx_frames=1)
    assert tunnel.frames.tx_frames == 2


async def test_what_is_no_ping_on_flow_0_is_a_fault(exit_, until):
    _, relay = exit_.tunnel(exit_.target(), reports=True)
    relay.uplink(0, b"?")
    relay.uplink(0, encode_report(Pong(1, 2, 3, 4)))
    await until(lambda: exit_.faults() == {"report": 1, "unsolicited": 1})
    assert len(exit_.flows) == 0


async def test_traffic_is_counted_by_payload(exit_):
    target = exit_.target()
    tunnel, relay = exit_.tunnel(target)
    relay.uplink(1, bytes(10))
    relay.uplink(2, bytes(20))
    await target.recv()
    _, source = await target.recv()
    target.send(bytes(5), source)
    await relay.downlink()
    traffic = tunnel.traffic
    assert (traffic.up_packets, traffic.up_bytes) == (2, 30)
    assert (traffic.down_packets, traffic.down_bytes) == (1, 5)


@pytest.mark.parametrize("target", ["127.0.0.1", "::1"])
async def test_targets_of_both_families_are_reached(exit_, target):
    peer = exit_.target(target)
    _, relay = exit_.tunnel(peer)
    relay.uplink(1, b"hi")
    data, source = await peer.recv()
    assert data == b"hi"
    peer.send(b"ho", source)
    assert await relay.downlink() == (1, b"ho")


async def test_garbage_reaches_no_target_and_is_counted_with_the_tunnel(exit_):
    target = exit_.target()
    tunnel, relay = exit_.tunnel(target)
    relay.raw(b"short")
    relay.raw(relay.frame(1, b"cut")[:-1])
    relay.uplink(1, b"data")
    assert (await target.recv())[0] == b"data"
    assert exit_.drops() == dict(tunnel.counters()[0]) == {"decode short": 1, "decode length": 1}
    assert len(exit_.flows) == 1


async def test_silence_closes_and_takes_the_tunnel_off_its_flows(exit_, until):
    target = exit_.target()
    tunnel, relay = exit_.tunnel(target, idle=100.0)
    relay.uplink(1, b"data")
    _, source = await target.recv()
    for _ in range(31):
        exit_.tick(1)
    assert tunnel.closed
    assert exit_.closed == [("t1", "no valid frame for 30 s")]
    target.send(b"answer", source)
    await until(lambda: exit_.drops() == {"no tunnel": 1})
    tunnel.close()
    exit_.tick(1)
    assert len(exit_.closed) == 1


async def test_a_relay_that_is_gone_closes_the_tunnel_within_seconds(exit_, until):
    tunnel, relay = exit_.tunnel(exit_.target())
    await relay.heartbeat()
    relay.close()
    exit_.tick(3)
    await until(lambda: tunnel.frames._policy._refused_at is not None, "the first refusal")
    assert not exit_.closed
    exit_.tick(1)
    await until(lambda: exit_.closed, "the end of the tunnel")
    assert exit_.closed == [("t1", "the peer's port is closed")]


async def test_a_tunnel_that_its_owner_closed_leaves_its_flows_and_says_nothing(exit_, until):
    target = exit_.target()
    tunnel, relay = exit_.tunnel(target)
    await relay.heartbeat()
    relay.uplink(1, b"data")
    _, source = await target.recv()
    tunnel.close()
    tunnel.close()
    exit_.tick(3)
    target.send(b"answer", source)
    await until(lambda: exit_.drops() == {"no tunnel": 1})
    assert relay.waiting() == []
    assert exit_.closed == []


async def test_a_tunnel_shows_its_path_and_terms(exit_):
    tunnel, relay = exit_.tunnel(exit_.target(), idle=33.0, max_payload=1000)
    assert (tunnel.remote, tunnel.idle_timeout, tunnel.max_payload) == (relay.address, 33.0, 1000)
    assert tunnel.opened_at == exit_.clock.now
    assert exit_.flows.paths[tunnel.path_index] is tunnel
