"""The exit inside a signalling server, as a service."""

import asyncio

import pytest

from rtun_core.agent.config import ExitConfig
from rtun_core.agent.control import AgentControl
from rtun_core.agent.exit_service import ExitService
from rtun_core.bus import EventBus
from rtun_core.commands import CloseFlow, CloseTunnel, PinAgent
from rtun_core.errors import CommandRefused
from rtun_core.net.ice import IceConfig
from rtun_core.wire.pb import rtun_pb2 as pb


@pytest.fixture
async def control():
    return AgentControl(ExitConfig(ice=IceConfig(stun_servers=())), EventBus())


async def test_it_shows_and_commands_the_control_it_keeps(control):
    service = ExitService(control)
    await service.start()
    await control.handle(pb.C2ARequest(open_sell=pb.OpenShellArgs()))
    snapshot = service.snapshot()
    assert (snapshot.service, snapshot.tunnels, list(snapshot.flows)) == ("exit", (), [])
    assert snapshot.faults == service.counters()[1] == {"unsupported open_sell": 1}
    assert service.handles(CloseFlow(flows=("@all",)))
    assert not service.handles(PinAgent())
    assert (await service.handle(CloseFlow(flows=("@all",)))).text == "0 flows closed"
    with pytest.raises(CommandRefused):
        await service.handle(CloseTunnel(tunnel="t1"))
    await service.stop(drain=True)


async def test_it_does_not_end_by_itself(control):
    service = ExitService(control)
    await service.start()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(service.wait(), 0.01)
    await service.stop(drain=False)
