"""Channels joined across the server, and requests forwarded, over real sessions."""

import asyncio

import pytest

from rtun_core.errors import SignalingError
from rtun_core.net.switch import ClientSession, ServiceSession
from rtun_core.signaling.bridge import MAX_SCRIPT_S, Bridge
from rtun_core.wire.control import error_channel
from rtun_core.wire.pb import rtun_pb2 as pb


class Pipe:
    """One end of a transport in memory."""

    peer = "192.0.2.1:1000"

    def __init__(self):
        self.other = None
        self.inbox = asyncio.Queue()

    async def send(self, packet):
        self.other.inbox.put_nowait(packet)

    async def recv(self):
        packet = await self.inbox.get()
        if packet is None:
            raise SignalingError("the pipe ended")
        return packet

    async def close(self):
        self.inbox.put_nowait(None)
        self.other.inbox.put_nowait(None)


def pipe():
    near, far = Pipe(), Pipe()
    near.other, far.other = far, near
    return near, far


class Agent:
    """Opens the channel it is asked for, and greets on it before it answers."""

    def __init__(self):
        self.session = None
        self.channels = asyncio.Queue()
        self.answer = None
        self.hold = asyncio.Event()
        self.hold.set()

    async def handle(self, request):
        await self.hold.wait()
        if request.HasField("exec_agent_script"):
            return pb.ExecAgentScriptResult(stdout=request.exec_agent_script.content)
        variant = request.WhichOneof("c2a_req_args")
        channel = self.session.channel(getattr(request, variant).ch_id)
        self.channels.put_nowait(channel)
        await channel.send(b"greeting")
        return self.answer or pb.OpenChannelResponse(ch_id=channel.id)


class World:
    """client -> server session with a bridge -> agent"""

    def __init__(self, *, channels=True, timeout=5.0):
        loop = asyncio.get_running_loop()
        client_near, client_far = pipe()
        agent_near, agent_far = pipe()
        self.agent = Agent()
        self.agent.session = ServiceSession(agent_far)
        self.hop = ClientSession(agent_near, max_in_flight=8)
        self.server = ServiceSession(client_far)
        self.client = ClientSession(client_near, max_in_flight=8)
        self.bridge = Bridge(self.server, lambda: self.hop, channels=channels, timeout=timeout)
        self.hop.start()
        self.client.start()
        self.running = [
            loop.create_task(self.agent.session.run(self.agent)),
            loop.create_task(self.server.run(self.bridge)),
        ]

    async def open(self, channel_id):
        channel = self.client.channel(channel_id)
        socks = pb.OpenSocksArgs(ch_id=channel_id, peer_addr="127.0.0.1:50000")
        answer = await self.client.request(pb.C2ARequest(open_socks=socks), timeout=5)
        assert answer.ch_id == channel_id
        return channel, await self.agent.channels.get()

    async def close(self):
        await self.bridge.close()
        await self.client.close("over")
        await self.hop.close("over")
        await asyncio.gather(*self.running)


@pytest.fixture
async def build():
    worlds = []

    def make(**options):
        worlds.append(World(**options))
        return worlds[-1]

    yield make
    for world in worlds:
        await world.close()


async def recv(channel):
    return await asyncio.wait_for(channel.recv(), 5)


async def test_ids_are_mapped_and_early_data_is_kept(build):
    world = build()
    client, agent = await world.open(77)
    assert agent.id == 1
    assert await recv(client) == b"greeting"
    await client.send(b"up")
    assert await recv(agent) == b"up"
    await agent.send(b"down")
    assert await recv(client) == b"down"
    assert len(world.bridge) == 1


async def test_the_server_chooses_an_id_if_the_client_does_not(build):
    world = build()
    request = pb.C2ARequest(open_sell=pb.OpenShellArgs(cols=80))
    assert (await world.client.request(request, timeout=5)).ch_id == 1


@pytest.mark.parametrize("first", ["client", "agent"])
async def test_either_side_ends_a_channel(build, first):
    world = build()
    client, agent = await world.open(77)
    await recv(client)
    closer, other = (client, agent) if first == "client" else (agent, client)
    await closer.close()
    assert await recv(other) == b""
    assert len(world.bridge) == 0
    again, _ = await world.open(77)
    assert await recv(again) == b"greeting"


async def test_close_channel_ends_the_agents_side_only(build):
    world = build()
    client, agent = await world.open(77)
    request = pb.C2ARequest(close_channel=pb.CloseChannelArgs(ch_id=77))
    assert (await world.client.request(request, timeout=5)).reason == "ok"
    assert await recv(agent) == b""
    assert await recv(client) == b"greeting"
    assert not client.closed
    assert (await world.client.request(request, timeout=5)).code == 0
    assert len(world.bridge) == 0


async def test_bridged_channels_can_be_disabled(build):
    world = build(channels=False)
    request = pb.C2ARequest(open_socks=pb.OpenSocksArgs(ch_id=1, peer_addr="127.0.0.1:1"))
    assert (await world.client.request(request, timeout=5)).status.reason == "bridge ch disabled"
    script = pb.C2ARequest(exec_agent_script=pb.ExecAgentScriptArgs(content=b"echo"))
    assert (await world.client.request(script, timeout=5)).stdout == b"echo"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (error_channel("no shell here"), "no shell here"),
        (pb.OpenChannelResponse(ch_id=99), "another channel than 1"),
    ],
)
async def test_a_refusal_leaves_nothing_open(build, answer, reason):
    world = build()
    world.agent.answer = answer
    request = pb.C2ARequest(open_socks=pb.OpenSocksArgs(ch_id=5, peer_addr="127.0.0.1:1"))
    assert reason in (await world.client.request(request, timeout=5)).status.reason
    assert await recv(await world.agent.channels.get()) == b""
    assert (len(world.bridge), world.server._channels, world.hop._channels) == (0, {}, {})


async def test_an_agent_that_does_not_answer_leaves_nothing_open(build):
    world = build(timeout=0.05)
    world.agent.hold.clear()
    request = pb.C2ARequest(open_socks=pb.OpenSocksArgs(ch_id=5, peer_addr="127.0.0.1:1"))
    assert "no answer" in (await world.client.request(request, timeout=5)).status.reason
    assert (world.server._channels, world.hop._channels) == ({}, {})
    world.agent.hold.set()


@pytest.mark.parametrize("taken", [0, 77])
async def test_an_id_that_is_not_free_is_refused(build, taken):
    world = build()
    await world.open(77)
    request = pb.C2ARequest(open_socks=pb.OpenSocksArgs(ch_id=taken, peer_addr="127.0.0.1:1"))
    answer = await world.client.request(request, timeout=5)
    assert answer.status.reason == f"channel {taken} is in use"
    assert len(world.bridge) == 1


async def test_the_end_of_the_agent_ends_the_channels(build):
    world = build()
    client, _ = await world.open(77)
    await recv(client)
    await world.hop.close("gone")
    assert await recv(client) == b""
    request = pb.C2ARequest(open_p2p=pb.P2PArgs())
    assert (await world.client.request(request, timeout=5)).status.reason == "gone"


async def test_the_time_of_a_script_comes_on_top_and_is_bounded():
    bridge = Bridge(None, None, channels=True, timeout=5.0)
    for given, seconds in ((30, 35.0), (10**6, 5.0 + MAX_SCRIPT_S)):
        script = pb.ExecAgentScriptArgs(timeout_secs=given)
        assert bridge._patience(pb.C2ARequest(exec_agent_script=script)) == seconds
    assert bridge._patience(pb.C2ARequest(open_p2p=pb.P2PArgs())) == 5.0
