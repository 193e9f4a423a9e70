"""Channels of a switch session: who gets what, how they end, and that a slow one stalls nobody."""

import asyncio

import pytest

from rtun_core.errors import LocalProtocolError, SignalingError
from rtun_core.net.switch_session import CHANNEL_QUEUE, MAX_CHANNELS, SwitchSession
from rtun_core.wire.switch_packet import decode_packet, encode_packet


class Wire:
    """A transport whose both directions the test holds in its hands."""

    peer = "192.0.2.1:1000"

    def __init__(self):
        self.incoming = asyncio.Queue()
        self.sent = asyncio.Queue()
        self.closed = False

    async def send(self, packet):
        self.sent.put_nowait(packet)

    async def recv(self):
        packet = await self.incoming.get()
        if packet is None:
            raise SignalingError("the wire was cut")
        return packet

    async def close(self):
        self.closed = True


class Session(SwitchSession):
    def __init__(self, wire):
        super().__init__(wire)
        self.control = asyncio.Queue()

    def _on_control(self, payload):
        if payload == b"bug":
            raise ZeroDivisionError
        self.control.put_nowait(payload)


@pytest.fixture
async def wire():
    return Wire()


@pytest.fixture
async def session(wire):
    session = Session(wire)
    session.start()
    yield session
    await session.close("the test is over")


async def sync(session, wire):
    """Wait until everything put into the wire before was read."""
    wire.incoming.put_nowait(encode_packet(0, b"sync"))
    assert await session.control.get() == b"sync"


async def test_channels_carry_packets_both_ways(session, wire):
    channel = session.channel(300)
    await channel.send(b"abc")
    assert await wire.sent.get() == bytes.fromhex("08ac021203616263")
    wire.incoming.put_nowait(encode_packet(300, b"def"))
    assert await channel.recv() == b"def"


async def test_an_empty_payload_ends_a_channel(session, wire):
    channel = session.channel(5)
    wire.incoming.put_nowait(encode_packet(5, b"last"))
    wire.incoming.put_nowait(bytes.fromhex("0805"))
    assert [await channel.recv(), await channel.recv(), await channel.recv()] == [b"last", b"", b""]
    with pytest.raises(SignalingError, match="channel 5 is closed"):
        await channel.send(b"x")
    await channel.close()
    assert wire.sent.empty()


async def test_closing_a_channel_tells_the_peer_once(session, wire):
    channel = session.channel(5)
    await channel.close()
    await channel.close()
    assert await wire.sent.get() == bytes.fromhex("0805")
    assert wire.sent.empty()
    assert await channel.recv() == b""


async def test_an_empty_send_is_our_mistake(session):
    with pytest.raises(LocalProtocolError, match="call close"):
        await session.channel(1).send(b"")


async def test_ids_are_chosen_or_given(session):
    session.channel(2)
    assert [session.new_channel().id, session.new_channel().id] == [1, 3]
    for taken in (0, 2):
        with pytest.raises(LocalProtocolError, match=f"channel {taken} is in use"):
            session.channel(taken)


async def test_the_number_of_channels_is_bounded(session):
    for _ in range(MAX_CHANNELS):
        session.new_channel()
    with pytest.raises(LocalProtocolError, match="channels are open"):
        session.new_channel()


async def test_packets_for_unknown_channels_are_counted(session, wire):
    wire.incoming.put_nowait(encode_packet(9, b"x"))
    await sync(session, wire)
    assert session.faults == {"unknown channel": 1}


async def test_a_slow_channel_is_closed_and_stalls_nobody(session, wire):
    slow, quick = session.channel(1), session.channel(2)
    for number in range(CHANNEL_QUEUE + 1):
        wire.incoming.put_nowait(encode_packet(1, b"%d" % number))
    wire.incoming.put_nowait(encode_packet(2, b"quick"))
    await sync(session, wire)
    assert await quick.recv() == b"quick"
    assert session.faults == {"channel overflow": 1}
    assert await wire.sent.get() == encode_packet(1, b"")
    assert [await slow.recv() for _ in range(CHANNEL_QUEUE)][-1] == b"%d" % (CHANNEL_QUEUE - 1)
    assert await slow.recv() == b""


async def test_the_end_of_the_transport_ends_everything(session, wire):
    channel = session.channel(1)
    wire.incoming.put_nowait(None)
    assert await channel.recv() == b""
    assert session.closed.is_set()
    assert session.close_reason == "the wire was cut"
    with pytest.raises(SignalingError, match="the wire was cut"):
        await session.send_packet(1, b"x")
    assert session.channel(7).closed
    await session.close("later")
    assert wire.closed
    assert session.close_reason == "the wire was cut"


async def test_a_broken_packet_ends_the_session(session, wire):
    wire.incoming.put_nowait(b"\xff")
    await asyncio.wait_for(session.closed.wait(), 5)
    assert session.faults == {"packet": 1}


async def test_a_bug_ends_the_session_with_a_report(session, wire):
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reports.append(context))
    wire.incoming.put_nowait(encode_packet(0, b"bug"))
    await asyncio.wait_for(session.closed.wait(), 5)
    assert isinstance(reports[0]["exception"], ZeroDivisionError)


async def test_control_payloads_keep_their_order(session, wire):
    session._send_control([b"a", b"b"])
    session._send_control([b"c"])
    packets = [decode_packet(await wire.sent.get()) for _ in range(3)]
    assert packets == [(0, b"a"), (0, b"b"), (0, b"c")]


async def test_start_after_the_end_does_nothing(wire):
    session = Session(wire)
    await session.close("never began")
    session.start()
    assert session.close_reason == "never began"
