"""Exit tunnels over real loopback sockets, with a scalar relay at the other end."""

import errno
import random

import numpy as np
import pytest

from rtun_core.net.udp import HEADROOM, DatagramBatch
from rtun_core.wire.address import Address
from rtun_core.wire.relay_frame import CodecKind
from rtun_core.wire.relay_report import Ping, Pong, decode_report, encode_report
from rtun_core.wire.stun import COOKIE

pytestmark = pytest.mark.usefixtures("both_ways")


def stun(first=b"y"):
    return b"\x00\x01\x00\x00" + COOKIE + first + bytes(11)


def batch_of(datagrams):
    """Datagrams as a socket would deliver them."""
    batch = DatagramBatch()
    lengths, _ = batch.columns()
    for row, datagram in enumerate(datagrams):
        batch.data[row, HEADROOM : HEADROOM + len(datagram)] = np.frombuffer(datagram, np.uint8)
        lengths[row] = len(datagram)
    batch.resize(len(datagrams))
    return batch


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
    assert tunnel.codec_name == kind.value


async def test_large_batches_of_many_flows_keep_order_within_each_flow(exit_, kind, until):
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


async def test_the_first_heartbeat_goes_out_at_once_when_the_form_is_agreed(exit_):
    _, relay = exit_.tunnel(exit_.target())
    assert len(await relay.heartbeat()) == 10


async def test_seed_0_beats_at_once_in_the_legacy_form(exit_):
    _, relay = exit_.tunnel(exit_.target(), kind=CodecKind.LEGACY, seed=0, agreed=False)
    assert await relay.heartbeat() == bytes(8)


async def test_a_payload_of_1442_beats_at_once_in_obfs_v2(exit_):
    _, relay = exit_.tunnel(exit_.target(), max_payload=1442, agreed=False)
    assert len(await relay.heartbeat()) == 10


async def test_otherwise_the_heartbeat_waits_for_the_relays_first_frame(exit_, until):
    tunnel, relay = exit_.tunnel(exit_.target(), kind=CodecKind.TAGGED_9, agreed=False)
    exit_.tick(1)
    assert (tunnel.tx_frames, tunnel.codec_name) == (0, "")
    relay.uplink(0)
    assert len(await relay.heartbeat()) == 9
    assert tunnel.codec_name == "tagged-9"
    assert tunnel.rx_frames == 1


async def test_after_three_seconds_of_silence_it_beats_in_obfs_v2(exit_):
    tunnel, relay = exit_.tunnel(exit_.target(), agreed=False)
    exit_.tick(2)
    assert tunnel.tx_frames == 0
    exit_.tick(1)
    assert len(await relay.heartbeat()) == 10


async def test_a_wrong_guess_is_corrected_by_the_first_frame(exit_):
    target = exit_.target()
    tunnel, relay = exit_.tunnel(target, kind=CodecKind.OBFS_V1, max_payload=1442, agreed=False)
    assert len((await relay.recv())[0]) == 10
    relay.uplink(3, b"data")
    assert (await target.recv())[0] == b"data"
    assert len(await relay.heartbeat()) == 9
    assert tunnel.max_payload == 1442


async def test_nothing_is_lost_while_the_form_is_open(exit_, kind):
    target = exit_.target()
    _, relay = exit_.tunnel(target, **form(kind), early=[(1, b"early"), (0, b""), (1, b"next")])
    relay.uplink(1, b"later")
    assert [(await target.recv())[0] for _ in range(3)] == [b"early", b"next", b"later"]


async def test_many_early_datagrams_are_all_taken(exit_):
    target = exit_.target()
    exit_.tunnel(target, early=[(1, b"%d" % number) for number in range(150)])
    assert [(await target.recv())[0] for _ in range(150)] == [b"%d" % number for number in range(150)]


async def test_heartbeats_go_on_and_silence_closes(exit_):
    tunnel, relay = exit_.tunnel(exit_.target())
    for _ in range(31):
        exit_.tick(1)
    assert exit_.closed == [("t1", "no valid frame for 30 s")]
    assert tunnel.closed
    assert tunnel.tx_frames == 10
    for _ in range(10):
        await relay.heartbeat()
    exit_.tick(1)
    assert len(exit_.closed) == 1


async def test_any_valid_frame_keeps_the_tunnel(exit_, until):
    tunnel, relay = exit_.tunnel(exit_.target())
    exit_.tick(29)
    relay.uplink(0)
    await until(lambda: tunnel.rx_frames == 1)
    assert tunnel.quiet == 0
    exit_.tick(29)
    assert not exit_.closed


async def test_garbage_is_counted_by_reason_and_harms_nobody(exit_, kind, until):
    target = exit_.target()
    tunnel, relay = exit_.tunnel(target, **form(kind))
    relay.uplink(0)
    await until(lambda: tunnel.rx_frames == 1)
    good = relay.frame(5, b"payload")
    relay.raw(b"")
    relay.raw(b"short")
    relay.raw(good[:-3])
    if kind in (CodecKind.TAGGED_9, CodecKind.OBFS_V2):
        relay.raw(good[:2] + bytes([good[2] ^ 1]) + good[3:])
    if kind is CodecKind.OBFS_V2:
        relay.raw(good[:9] + bytes([good[9] ^ 0x80]) + good[10:])
    relay.raw(good)
    assert (await target.recv())[0] == b"payload"
    expected = {"short": 2, "length": 1}
    if kind in (CodecKind.TAGGED_9, CodecKind.OBFS_V2):
        expected["tag"] = 1
    if kind is CodecKind.OBFS_V2:
        expected["flags"] = 1
    assert exit_.drops() == expected


async def test_garbage_before_the_form_is_known_is_dropped(exit_, until):
    tunnel, relay = exit_.tunnel(exit_.target(), agreed=False)
    relay.raw(b"?")
    await until(lambda: exit_.drops() == {"codec": 1})
    assert tunnel.codec_name == ""


async def test_a_frame_with_a_sequence_number_is_accepted(exit_):
    target = exit_.target()
    _, relay = exit_.tunnel(target)
    relay.uplink(5, b"numbered", seq=300)
    assert (await target.recv())[0] == b"numbered"


async def test_padding_behind_the_payload_is_not_forwarded(exit_):
    target = exit_.target()
    _, relay = exit_.tunnel(target)
    relay.raw(relay.frame(5, b"payload") + b"padding")
    assert (await target.recv())[0] == b"payload"


async def test_uplink_above_the_agreed_payload_is_dropped(exit_):
    target = exit_.target()
    _, relay = exit_.tunnel(target, max_payload=100)
    relay.uplink(1, bytes(101))
    relay.uplink(1, bytes(100))
    assert len((await target.recv())[0]) == 100
    assert exit_.drops() == {"oversize": 1}


async def test_downlink_above_the_agreed_payload_and_empty_answers_are_dropped(exit_, until):
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
    await until(lambda: tunnel.rx_frames == 2)
    relay.uplink(0, encode_report(Ping(9, 123456, 2)))
    flow, payload = await relay.downlink()
    assert flow == 0
    assert decode_report(payload) == Pong(9, 123456, rx_frames=3, tx_frames=1)
    assert tunnel.tx_frames == 2


async def test_what_is_no_ping_on_flow_0_is_a_fault(exit_, until):
    _, relay = exit_.tunnel(exit_.target(), reports=True)
    relay.uplink(0, b"?")
    relay.uplink(0, encode_report(Pong(1, 2, 3, 4)))
    await until(lambda: exit_.faults() == {"report": 1, "unsolicited": 1})
    assert len(exit_.flows) == 0


async def test_stun_is_answered_or_counted_and_never_decoded(exit_, until):
    target = exit_.target()
    tunnel, relay = exit_.tunnel(target)
    await relay.heartbeat()
    relay.raw(stun(b"y"))
    assert (await relay.recv())[0] == b"answer"
    relay.raw(stun(b"n"))
    relay.uplink(1, b"data")
    assert (await target.recv())[0] == b"data"
    assert exit_.drops() == {"stun": 1}
    assert tunnel.rx_frames == 1


async def test_stun_does_not_settle_the_form(exit_):
    tunnel, relay = exit_.tunnel(exit_.target(), agreed=False)
    relay.raw(stun(b"y"))
    assert (await relay.recv())[0] == b"answer"
    assert tunnel.codec_name == ""


async def test_a_cookie_in_something_shorter_than_stun_is_a_bad_frame(exit_, until):
    _, relay = exit_.tunnel(exit_.target())
    relay.raw(stun()[:12])
    await until(lambda: sum(exit_.drops().values()) == 1)
    assert "stun" not in exit_.drops()


async def test_traffic_is_counted_by_payload(exit_, until):
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


async def test_a_relay_that_is_gone_closes_the_tunnel_at_the_second_refusal(exit_, until):
    tunnel, relay = exit_.tunnel(exit_.target())
    await relay.heartbeat()
    relay.close()
    exit_.tick(3)
    await until(lambda: tunnel._policy._refused_at is not None, "the first refusal")
    assert not exit_.closed
    exit_.tick(1)
    await until(lambda: exit_.closed, "the end of the tunnel")
    assert exit_.closed == [("t1", "the peer's port is closed")]


async def test_other_socket_errors_are_counted(exit_):
    tunnel, _ = exit_.tunnel(exit_.target())
    tunnel._on_error(OSError(errno.ENETUNREACH, "no route"))
    tunnel._on_error(OSError("unknown"))
    assert exit_.faults() == {"tunnel socket ENETUNREACH": 1, "tunnel socket error": 1}
    assert not tunnel.closed


async def test_a_closed_tunnel_says_nothing_more(exit_):
    tunnel, relay = exit_.tunnel(exit_.target())
    await relay.heartbeat()
    tunnel.close()
    tunnel.close()
    exit_.tick(3)
    assert relay.waiting() == []
    assert exit_.closed == []


@pytest.mark.parametrize("target", ["127.0.0.1", "::1"])
async def test_targets_of_both_families_are_reached(exit_, target):
    peer = exit_.target(target)
    _, relay = exit_.tunnel(peer)
    relay.uplink(1, b"hi")
    data, source = await peer.recv()
    assert data == b"hi"
    peer.send(b"ho", source)
    assert await relay.downlink() == (1, b"ho")


async def test_the_frames_of_a_batch_before_the_first_readable_one_are_dropped(exit_):
    target = exit_.target()
    tunnel, relay = exit_.tunnel(target, kind=CodecKind.TAGGED_9, agreed=False)
    for data in (b"noise", stun(b"n"), relay.frame(1, b"one"), b"more noise", relay.frame(1, b"two")):
        relay.raw(data)
    assert [(await target.recv())[0] for _ in range(2)] == [b"one", b"two"]
    drops = exit_.drops()
    assert drops.pop("codec") == 1
    assert drops.pop("stun") == 1
    assert sum(drops.values()) == 1
    assert tunnel.rx_frames == 2


async def test_no_datagram_whatsoever_breaks_a_tunnel(exit_, kind):
    chance = random.Random(kind.value)
    tunnel, relay = exit_.tunnel(Address("127.0.0.1", 9), reports=True, **form(kind))
    for _ in range(60):
        batch = []
        for _ in range(chance.randrange(1, 65)):
            good = relay.frame(chance.randrange(3), chance.randbytes(chance.randrange(40)))
            spoilt = bytearray(good)
            spoilt[chance.randrange(len(good))] ^= 1 << chance.randrange(8)
            noise = chance.randbytes(chance.randrange(80))
            batch.append(chance.choice([good, bytes(spoilt), noise, stun(noise[:1] or b"?"), good[:5], b""]))
        tunnel._on_batch(batch_of(batch))
    assert tunnel.rx_frames > 0
    assert not tunnel.closed
    assert len(exit_.flows) <= 100
