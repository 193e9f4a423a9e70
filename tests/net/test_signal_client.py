"""The QUIC client towards servers that answer by script; the real server is met in tests/signaling."""

import asyncio

import pytest

from rtun_core.errors import SignalingError, Unauthorized
from rtun_core.net import signal_client, tls
from rtun_core.net.endpoint import SignalEndpoint
from rtun_core.net.quic_server import AcceptLimits, QuicAcceptor
from rtun_core.net.tasks import TaskOwner
from rtun_core.net.udp import UdpSocket
from rtun_core.wire.address import Address
from rtun_core.wire.signal_json import AgentEntry, decode_request
from rtun_core.wire.signal_url import parse_signal_url
from rtun_core.wire.token import verify_token


class Script:
    """A QUIC server that answers every request with the same bytes and keeps the requests."""

    def __init__(self):
        self.answer = b""
        self.requests = []
        self.asked = asyncio.Event()
        self.tasks = TaskOwner("script")
        self.acceptor = QuicAcceptor(
            UdpSocket.open(local=Address("127.0.0.1", 0)),
            tls.CertificatePair(*tls.self_signed(["127.0.0.1"])),
            AcceptLimits(connections=10, first_bytes=1000, max_frame=1000),
            on_stream=lambda stream: self.tasks.spawn(self.serve(stream), "stream"),
            on_fault=lambda _word: None,
        )
        self.acceptor.start()
        url = parse_signal_url(f"quic://127.0.0.1:{self.acceptor.address.port}")
        self.endpoint = SignalEndpoint(url=url, secret=b"sec", insecure=True)

    async def serve(self, stream):
        self.requests.append(decode_request(await stream.recv()))
        self.asked.set()
        if self.answer:
            await stream.send(self.answer)


@pytest.fixture
async def script():
    script = Script()
    yield script
    await script.tasks.close()
    script.acceptor.close()


async def test_the_list(script):
    script.answer = (
        b'{"kind":"sessions","code":0,"reason":"","sessions":[{"name":"b","addr":"a","expire_at":1}]}'
    )
    assert await signal_client.list_agents(script.endpoint) == [AgentEntry("b", "a", 1)]


async def test_attaching(script):
    script.answer = b'{"kind":"sub","code":0,"reason":""}'
    session = await signal_client.open_sub(script.endpoint, agent="beta", instance="AAAAAAAA")
    request = script.requests[0]
    assert (request.agent, request.instance_id) == ("beta", "AAAAAAAA")
    assert verify_token(b"sec", request.token) > 1_700_000_000_000
    await session.close("over")


async def test_registering(script):
    script.answer = b'{"kind":"pub","code":0,"reason":"","agent_name":"given"}'
    session, name = await signal_client.open_pub(
        script.endpoint, agent=None, expire_in_ms=600_000, ver="0.1.0.py"
    )
    assert name == "given"
    request = script.requests[0]
    assert (request.agent, request.expire_in, request.ver) == (None, 600_000, "0.1.0.py")
    await session.close("over")


async def test_a_missing_name_is_the_one_asked_for_or_an_error(script):
    script.answer = b'{"kind":"pub","code":0,"reason":"","agent_name":null}'
    options = {"expire_in_ms": None, "ver": "1"}
    session, name = await signal_client.open_pub(script.endpoint, agent="mine", **options)
    assert name == "mine"
    await session.close("over")
    with pytest.raises(SignalingError, match="did not say the agent's name"):
        await signal_client.open_pub(script.endpoint, agent=None, **options)


async def test_tokens_are_fresh(script):
    script.answer = b'{"kind":"sub","code":0,"reason":""}'
    for _ in range(2):
        session = await signal_client.open_sub(script.endpoint, agent=None, instance=None)
        await session.close("over")
    first, second = script.requests
    assert verify_token(b"sec", second.token) > verify_token(b"sec", first.token)


@pytest.mark.parametrize(
    ("answer", "error", "sentence"),
    [
        (
            b'{"kind":"sub","code":-1,"reason":"unauthorized: invalid token"}',
            Unauthorized,
            "refuses the secret",
        ),
        (
            b'{"kind":"sub","code":-1,"reason":"not found agent [x]"}',
            SignalingError,
            r"refuses: not found agent \[x\]$",
        ),
        (b'{"kind":"sub","code":7,"reason":""}', SignalingError, "refuses: code 7$"),
        (b'{"kind":"pub","code":0,"reason":"","agent_name":"x"}', SignalingError, "another request"),
        (b"HTTP/1.1 400", SignalingError, "answers something else"),
    ],
)
async def test_refusals(script, answer, error, sentence):
    script.answer = answer
    with pytest.raises(error, match=sentence):
        await signal_client.open_sub(script.endpoint, agent="x", instance=None)


async def test_no_answer(script):
    with pytest.raises(SignalingError, match=r"no answer from quic://"):
        await signal_client.open_sub(script.endpoint, agent="x", instance=None, timeout=0.5)


async def test_a_server_that_goes_away(script):
    waiting = asyncio.get_running_loop().create_task(
        signal_client.open_sub(script.endpoint, agent="x", instance=None)
    )
    await asyncio.wait_for(script.asked.wait(), 5)
    script.acceptor.close()
    with pytest.raises(SignalingError, match="server stops"):
        await waiting
