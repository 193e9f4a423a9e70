"""One channel: what it carries, what it measures, and how it ends."""

import asyncio

import pytest

from rtun_core.model import Traffic
from rtun_core.net import frame_socket
from rtun_core.net.udp import HEADROOM
from rtun_core.relay.channel import Channel, ChannelIdentity, Stage
from rtun_core.relay.health import Grade
from rtun_core.wire.frame_policy import FrameTerms, Step
from rtun_core.wire.relay_frame import CodecKind
from rtun_core.wire.relay_report import Ping, Pong, decode_report, encode_report
from tests.relay.datagrams import frames_of, listed
from tests.relay.world import FakePath, until


class Receiver:
    def __init__(self):
        self.got = []

    def deliver_one(self, flow, payload):
        self.got.append((flow, payload))

    def deliver(self, frames):
        self.got += listed(frames)


@pytest.fixture
async def make(far):
    """Builds channels to `far`; `.receiver` and `.lost` are what they told."""
    channels = []

    def build(*, reports=False, settled=CodecKind.OBFS_V2, rtt=0.004, max_payload=0):
        receiver, lost = Receiver(), []
        channel = Channel(
            ChannelIdentity("t1", 4, "r1", "alpha/1"),
            FakePath.to(far, rtt=rtt),
            FrameTerms(seed=77, settled=settled),
            reports=reports,
            max_payload=max_payload,
            receiver=receiver,
            on_lost=lambda channel, reason: lost.append((channel.id, reason)),
        )
        channel.receiver, channel.lost = receiver, lost
        channels.append(channel)
        channel.frames.start()
        return channel

    yield build
    for channel in channels:
        channel.close()


def send_batch(channel, payloads):
    channel.send(frames_of(list(enumerate(payloads, 10)), room=HEADROOM))


async def test_a_new_channel_is_prepared_and_knows_its_path(make, far):
    channel = make(max_payload=900)
    assert (channel.id, channel.number, channel.rule, channel.agent) == ("t1", 4, "r1", "alpha/1")
    assert channel.stage is Stage.PREPARED
    assert channel.health.rtt == 0.004
    assert channel.max_payload == 900
    assert channel.frames.remote == far.address
    assert not channel.draining
    assert not channel.closed


async def test_without_a_measured_path_there_is_no_rtt(make):
    assert make(rtt=None).health.rtt is None


@pytest.mark.parametrize(
    ("stage", "draining"),
    [(Stage.PREPARED, False), (Stage.ACTIVE, False), (Stage.DRAINING, True), (Stage.RETIRING, True)],
)
async def test_which_stages_drain(make, stage, draining):
    channel = make()
    channel.stage = stage
    assert channel.draining is draining


async def test_datagrams_go_up_one_by_one_and_in_batches(make, far):
    channel = make()
    channel.send_one(3, b"single")
    send_batch(channel, [b"a", b"bb", b"ccc"])
    assert await far.next_frame() == (3, b"single")
    assert [await far.next_frame() for _ in range(3)] == [(10, b"a"), (11, b"bb"), (12, b"ccc")]
    assert channel.traffic == Traffic(4, 12, 0, 0)


async def test_a_batch_with_runs_of_few_flows_keeps_their_order(make, far):
    channel = make()
    frames = [(flow, b"%d %d" % (flow, number)) for number in range(30) for flow in (1, 2, 2, 2)]
    channel.send(frames_of(frames, room=HEADROOM))
    assert [await far.next_frame() for _ in frames] == frames
    assert channel.traffic.up_packets == 120


@pytest.mark.parametrize("scalar_rows", [10, 0], ids=["one by one", "in batches"])
async def test_answers_come_down(make, far, monkeypatch, scalar_rows):
    monkeypatch.setattr(frame_socket, "SCALAR_ROWS", scalar_rows)
    channel = make()
    far.frame(7, b"yes")
    far.frame(0)
    far.frame(8, b"no")
    await until(lambda: len(channel.receiver.got) == 2)
    assert channel.receiver.got == [(7, b"yes"), (8, b"no")]
    assert channel.traffic == Traffic(0, 0, 2, 5)


async def test_garbage_is_counted(make, far):
    channel = make()
    far.send(b"xx")
    await until(channel.drops)
    assert channel.drops() == {"decode short": 1}
    assert channel.faults() == {}


# ---- reports --------------------------------------------------------------------------------------------


async def next_report(far):
    """The next report; heartbeats and data are left out."""
    while True:
        flow, payload = await far.next_frame()
        if flow == 0:
            return decode_report(payload)


async def test_each_tick_pings_and_the_pong_is_a_measurement(make, far):
    channel = make(reports=True, rtt=None)
    loop = asyncio.get_running_loop()
    begin = loop.time()
    channel.tick(begin)
    first = await next_report(far)
    assert isinstance(first, Ping)
    assert (first.seq, first.tx_frames) == (1, 1)  # the heartbeat of the start
    far.frame(0, encode_report(Pong(first.seq, first.sent_us, 1, 1)))
    await until(lambda: channel.health.rtt is not None)
    assert 0 <= channel.health.rtt <= loop.time() - begin + 0.001
    assert channel.health.loss_up is None
    for _ in range(10):
        channel.send_one(1, b"x")
    channel.tick(loop.time())
    second = await next_report(far)
    assert (second.seq, second.tx_frames) == (2, 12)
    far.frame(0, encode_report(Pong(second.seq, second.sent_us, 7, 2)))
    await until(lambda: channel.health.loss_up)
    assert channel.health.loss_up == pytest.approx(0.2 * 5 / 11)
    assert channel.health.loss_down == 0


async def test_a_pong_nobody_asked_for_is_a_fault(make, far):
    channel = make(reports=True, rtt=None)
    for _ in range(2):
        far.frame(0, encode_report(Pong(99, 0, 1, 1)))
    await until(lambda: channel.faults() == {"unsolicited": 2})
    assert channel.health.rtt is None


async def test_only_the_newest_pings_are_remembered(make, far):
    channel = make(reports=True)
    for _ in range(17):
        channel.tick(0.0)
    far.frame(0, encode_report(Pong(1, 0, 1, 1)))
    await until(lambda: channel.faults() == {"unsolicited": 1})
    far.frame(0, encode_report(Pong(2, 0, 1, 1)))
    far.frame(5, b"after it")
    await until(lambda: channel.receiver.got)
    assert channel.faults() == {"unsolicited": 1}


async def test_a_ping_is_answered(make, far):
    make(reports=True)
    far.frame(0, encode_report(Ping(31, 123, 1)))
    pong = await next_report(far)
    assert (pong.seq, pong.echo_sent_us, pong.rx_frames) == (31, 123, 1)


async def test_without_agreed_reports_nothing_is_on_the_wire_but_frames(make, far):
    channel = make()
    channel.tick(0.0)
    channel.send_one(9, b"data")
    assert await far.next_frame() == (9, b"data")


# ---- health ---------------------------------------------------------------------------------------------


async def test_the_rate_is_smoothed_over_ticks(make):
    channel = make()
    for _ in range(10):
        channel.send_one(1, b"x")
    channel.tick(0.0)
    assert channel.rate == pytest.approx(3.0)
    channel.tick(0.0)
    assert channel.rate == pytest.approx(2.1)


async def test_what_arrives_is_known_to_health_at_the_tick(make, far):
    channel = make()
    now = asyncio.get_running_loop().time()
    channel.health.last_rx = now - 100
    far.frame(1, b"alive")
    await until(lambda: channel.receiver.got)
    channel.tick(now)
    assert channel.health.quiet(now) < 5


async def test_refused_sends_degrade_it(make):
    channel = make()
    channel.close()
    channel.send_one(1, b"x")
    send_batch(channel, [b"y"])
    assert channel.health.regrade(asyncio.get_running_loop().time(), None)
    assert (channel.health.grade, channel.health.reason) == (Grade.DEGRADED, "2 send errors")
    assert channel.drops() == {"tunnel socket": 2}


# ---- the end --------------------------------------------------------------------------------------------


async def test_a_closed_port_at_the_far_end_is_told_once(make, far):
    channel = make()
    far.close()

    def lost():
        channel.send_one(1, b"anybody?")
        return channel.lost

    await until(lost)
    assert channel.lost == [("t1", "the peer's port is closed")]
    assert channel.closed
    for _ in range(3):
        channel.send_one(1, b"anybody?")
        channel.tick(0.0)
    assert len(channel.lost) == 1


async def test_silence_ends_it_at_the_tick(make, monkeypatch):
    channel = make()
    monkeypatch.setattr(frame_socket.FramePolicy, "tick", lambda _policy, _now: Step(close="silent"))
    channel.tick(0.0)
    assert channel.lost == [("t1", "silent")]


async def test_closing_is_quiet_and_wakes_who_waits_for_the_form(make):
    channel = make(settled=None)
    assert not channel.frames.ready.is_set()
    channel.close()
    channel.close()
    await asyncio.wait_for(channel.frames.ready.wait(), 5)
    assert channel.closed
    assert channel.lost == []


async def test_the_first_frame_shows_the_form(make, far):
    channel = make(settled=None)
    far.frame(0)
    await asyncio.wait_for(channel.frames.ready.wait(), 5)
    assert channel.frames.codec_name == "obfs-v2"
