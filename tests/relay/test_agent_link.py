"""The signalling session with one agent, through a real server."""

import asyncio

import pytest

from rtun_core.errors import SignalingError
from rtun_core.net.signal_client import list_agents
from rtun_core.relay.agent_link import AgentLink
from rtun_core.wire.pb import rtun_pb2 as pb
from tests.relay.world import until

REQUEST = pb.C2ARequest(open_p2p=pb.P2PArgs(udp_relay=pb.UdpRelayArgs(target_addr="127.0.0.1:9")))


@pytest.fixture
async def link(stage):
    await stage.agent("alpha")
    (entry,) = await list_agents(stage.endpoint)
    link = AgentLink(stage.endpoint, entry)
    yield link
    await link.close()


async def test_before_it_is_connected(link):
    assert link.id == f"alpha/{link.entry.instance_id}"
    assert not link.connected
    assert link.why_lost == "not connected yet"
    await link.wait_lost()
    with pytest.raises(SignalingError, match=f"no signalling session with agent {link.id}"):
        await link.request(REQUEST, timeout=1.0)


async def test_requests_reach_the_agent(link, stage):
    assert await link.connect() > 0
    assert link.connected
    stage.published["alpha"].agent.refusal = "no"
    answer = await link.request(REQUEST, timeout=5.0)
    assert answer.status.reason == "no"


async def test_connecting_again_replaces_the_session(link):
    await link.connect()
    lost = asyncio.get_running_loop().create_task(link.wait_lost())
    await asyncio.sleep(0)
    await link.connect()
    await asyncio.wait_for(lost, 5)
    assert link.connected


async def test_the_end_of_the_server_is_noticed(link, stage):
    await link.connect()
    await stage.server.stop(drain=False)
    await asyncio.wait_for(link.wait_lost(), 5)
    assert not link.connected
    assert link.why_lost
    with pytest.raises(SignalingError):
        await link.request(REQUEST, timeout=1.0)


async def test_another_instance_is_not_taken_for_this_one(link, stage):
    old = link.id
    await stage.agent("alpha")
    with pytest.raises(SignalingError, match="instance"):
        await link.connect()
    (link.entry,) = await until_listed(stage)
    assert link.id != old
    await link.connect()


async def until_listed(stage):
    return await list_agents(stage.endpoint)


async def test_closing_twice(link):
    await link.connect()
    await link.close()
    await link.close()
    assert not link.connected
    await until(lambda: link.why_lost == "not connected yet")
