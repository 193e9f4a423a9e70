"""Control sessions over a transport in memory: order, time-outs, kicks, and what peers do wrong."""

import asyncio

import pytest

from rtun_core.errors import CommandRefused, SignalingError
from rtun_core.net import switch
from rtun_core.net.switch import ClientSession, ServiceSession
from rtun_core.wire.control import kick_request
from rtun_core.wire.pb import rtun_pb2 as pb
from rtun_core.wire.switch_packet import decode_packet, encode_packet


class Pipe:
    """One end of a transport in memory; `stuck` holds back what is sent."""

    def __init__(self, peer="192.0.2.1:1000"):
        self.peer = peer
        self.other = None
        self.inbox = asyncio.Queue()
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.ended = False

    async def send(self, packet):
        await self.flowing.wait()
        if self.ended:
            raise SignalingError("the pipe is closed")
        self.other.inbox.put_nowait(packet)

    async def recv(self):
        packet = await self.inbox.get()
        if packet is None:
            raise SignalingError("the pipe ended")
        return packet

    async def close(self):
        self.ended = True
        self.inbox.put_nowait(None)
        self.other.inbox.put_nowait(None)


def pipe():
    near, far = Pipe(), Pipe()
    near.other, far.other = far, near
    return near, far


class Echo:
    """Answers `open_p2p` with its arguments; requests for the target `wait` wait for `release`."""

    def __init__(self):
        self.seen = asyncio.Queue()
        self.release = asyncio.Event()

    async def handle(self, request):
        self.seen.put_nowait(request)
        if request.open_p2p.udp_relay.target_addr == "wait":
            await self.release.wait()
        if request.HasField("exec_agent_script"):
            raise CommandRefused("no scripts here")
        if request.HasField("open_socks"):
            return pb.Pong(timestamp=1)
        if request.HasField("open_sell"):
            raise ZeroDivisionError
        return pb.OpenP2PResponse(args=request.open_p2p)


def p2p(target):
    return pb.C2ARequest(open_p2p=pb.P2PArgs(udp_relay=pb.UdpRelayArgs(target_addr=target)))


@pytest.fixture
async def ends():
    near, far = pipe()
    client, service = ClientSession(near, max_in_flight=8), ServiceSession(far)
    echo = Echo()
    client.start()
    running = asyncio.get_running_loop().create_task(service.run(echo))
    yield client, service, echo, running
    await client.close("the test is over")
    await running


async def test_a_request_gets_its_answer(ends):
    client, _, _, _ = ends
    answer = await client.request(p2p("192.0.2.9:53"), timeout=5)
    assert answer.args.udp_relay.target_addr == "192.0.2.9:53"
    assert client.pending == 0


async def test_answers_leave_in_the_order_of_the_requests(ends):
    client, _, echo, _ = ends
    loop = asyncio.get_running_loop()
    slow = loop.create_task(client.request(p2p("wait"), timeout=5))
    fast = loop.create_task(client.request(p2p("fast"), timeout=5))
    await echo.seen.get()
    await echo.seen.get()
    assert not fast.done()
    echo.release.set()
    assert (await slow).args.udp_relay.target_addr == "wait"
    assert (await fast).args.udp_relay.target_addr == "fast"


async def test_ping_measures_the_round_trip(ends):
    assert 0 < await ends[0].ping(5) < 5


async def test_a_refusal_of_the_handler_is_an_error_answer(ends):
    request = pb.C2ARequest(exec_agent_script=pb.ExecAgentScriptArgs(name="noop"))
    answer = await ends[0].request(request, timeout=5)
    assert (answer.status_code, answer.reason) == (-1, "no scripts here")


async def test_a_handler_that_answers_the_wrong_type_gives_an_error_answer(ends):
    request = pb.C2ARequest(open_socks=pb.OpenSocksArgs(peer_addr="127.0.0.1:1"))
    answer = await ends[0].request(request, timeout=5)
    assert "answered by OpenChannelResponse" in answer.status.reason


async def test_a_bug_of_the_handler_is_answered_and_reported(ends):
    reports = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: reports.append(context))
    answer = await ends[0].request(pb.C2ARequest(open_sell=pb.OpenShellArgs()), timeout=5)
    assert answer.status.reason == "internal error: ZeroDivisionError"
    assert isinstance(reports[0]["exception"], ZeroDivisionError)
    assert not ends[1].closed.is_set()


async def test_a_request_times_out_alone(ends):
    client, _, echo, _ = ends
    with pytest.raises(SignalingError, match=r"no answer within 0\.05 s"):
        await client.request(p2p("wait"), timeout=0.05)
    echo.release.set()
    assert (await client.request(p2p("next"), timeout=5)).args.udp_relay.target_addr == "next"


async def test_requests_time_out_although_the_transport_is_stuck(ends):
    client, _, _, _ = ends
    client._transport.flowing.clear()
    with pytest.raises(SignalingError, match="no answer within"):
        await client.request(p2p("x"), timeout=0.05)
    client._transport.flowing.set()


async def test_the_end_fails_what_is_outstanding(ends):
    client, _service, echo, running = ends
    waiting = asyncio.get_running_loop().create_task(client.request(p2p("wait"), timeout=5))
    await echo.seen.get()
    await client.close("enough")
    with pytest.raises(SignalingError, match="enough"):
        await waiting
    with pytest.raises(SignalingError, match="enough"):
        await client.request(p2p("x"), timeout=5)
    assert await running == "the pipe ended"


async def test_a_kick_is_answered_before_the_session_ends(ends):
    client, service, _, running = ends
    answer = await client.request(kick_request("make room"), timeout=5)
    assert (answer.code, answer.reason) == (0, "ok")
    assert await running == "kicked down by the peer: make room"
    assert service.kicked


async def test_a_kick_behind_a_slow_request_does_not_wait_for_it_for_ever(ends, monkeypatch):
    monkeypatch.setattr(switch, "_LAST_ANSWER_S", 0.05)
    client, service, _echo, running = ends
    loop = asyncio.get_running_loop()
    slow = loop.create_task(client.request(p2p("wait"), timeout=5))
    kick = loop.create_task(client.request(kick_request(), timeout=5))
    assert "kicked" in await running
    results = await asyncio.gather(slow, kick, return_exceptions=True)
    assert all(isinstance(result, SignalingError) for result in results)
    assert service.kicked


async def test_settle_waits_for_answers(ends):
    client, service, echo, _ = ends
    waiting = asyncio.get_running_loop().create_task(client.request(p2p("wait"), timeout=5))
    await echo.seen.get()
    settled = asyncio.get_running_loop().create_task(service.settle())
    await asyncio.sleep(0)
    assert not settled.done()
    echo.release.set()
    await settled
    await waiting


async def test_a_silent_peer_is_given_up(monkeypatch):
    monkeypatch.setattr("rtun_core.wire.control.WATCHDOG", 0.05)
    _, far = pipe()
    service = ServiceSession(far)
    assert "silent" in await service.run(Echo())
    assert service.faults == {"silent": 1}


async def test_an_unanswered_ping_ends_the_session(monkeypatch):
    monkeypatch.setattr("rtun_core.wire.control.PING_AFTER", 0.02)
    monkeypatch.setattr("rtun_core.wire.control.PING_TIMEOUT", 0.02)
    near, far = pipe()
    client = ClientSession(near)
    client.start()
    ping = decode_packet(await far.recv())
    assert pb.C2ARequest.FromString(ping.payload).ping.timestamp > 0
    await asyncio.wait_for(client.closed.wait(), 5)
    assert client.faults == {"ping": 1}
    await client.close("")


async def test_an_idle_client_pings_and_lives(monkeypatch):
    monkeypatch.setattr("rtun_core.wire.control.PING_AFTER", 0.02)
    near, far = pipe()
    client = ClientSession(near)
    client.start()
    for _ in range(3):
        ping = pb.C2ARequest.FromString(decode_packet(await far.recv()).payload).ping
        await far.send(encode_packet(0, pb.Pong(timestamp=ping.timestamp).SerializeToString()))
    assert not client.closed.is_set()
    await client.close("over")


@pytest.mark.parametrize(
    ("packet", "fault"),
    [
        (encode_packet(0, b"\x08\x01"), "unsolicited"),
        (b"\xff\xff", "packet"),
    ],
)
async def test_a_client_ends_on_what_it_did_not_ask_for(packet, fault):
    near, far = pipe()
    client = ClientSession(near)
    client.start()
    await far.send(packet)
    await asyncio.wait_for(client.closed.wait(), 5)
    assert client.faults == {fault: 1}
    await client.close("")


async def test_the_peer_may_close_the_control_channel():
    near, far = pipe()
    client = ClientSession(near)
    client.start()
    await far.send(b"")
    await asyncio.wait_for(client.closed.wait(), 5)
    assert client.close_reason == "the peer closed the control channel"
    await client.close("")
    near, far = pipe()
    service = ServiceSession(near)
    far.other.inbox.put_nowait(b"")
    assert await service.run(Echo()) == "the peer closed the control channel"


@pytest.mark.parametrize(("payload", "fault"), [(b"\xff", "request"), (b"\x7a\x00", "request")])
async def test_a_service_ends_on_a_request_it_does_not_know(payload, fault):
    near, far = pipe()
    service = ServiceSession(near)
    await far.send(encode_packet(0, payload))
    await service.run(Echo())
    assert service.faults == {fault: 1}


async def test_a_peer_that_asks_and_never_reads_is_ended():
    near, far = pipe()
    near.flowing.clear()
    service = ServiceSession(near)
    ping = pb.C2ARequest(ping=pb.Ping(timestamp=1)).SerializeToString()
    for _ in range(400):
        await far.send(encode_packet(0, ping))
    assert await service.run(Echo()) == "the peer does not read its answers"
    assert service.faults == {"flood": 1}
    near.flowing.set()


async def test_cancelling_run_closes_the_session():
    near, far = pipe()
    service = ServiceSession(near)
    running = asyncio.get_running_loop().create_task(service.run(Echo()))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert near.ended
    assert service.closed.is_set()
    assert await far.inbox.get() is None
