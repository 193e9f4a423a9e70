import json

import msgspec
import yarl

from rtun_core.model import AgentState, FlowState, RuleState, TunnelState
from rtun_core.rtunnel import view as view_module
from rtun_core.rtunnel.config import ConnectConfig
from rtun_core.rtunnel.connect import ConnectService
from tests.lazy import encode_lazy
from tests.rtunnel.stage import LOOPBACK, until


async def talk(stage, data=b"hello"):
    reader, writer = await stage.app()
    writer.write(data)
    assert await reader.readexactly(len(data)) == data
    return reader, writer


async def test_client_side(stage):
    await stage.pair()
    _, writer = await talk(stage)
    client = stage.client
    await until(lambda: client.snapshot().tunnels[0].rtt_ms)
    picture = client.snapshot()
    (rule,), (agent,), (tunnel,), (flow,) = (
        picture.rules,
        picture.agents,
        picture.tunnels,
        list(picture.flows),
    )
    assert (rule.family, rule.listen, rule.state) == ("rtunnel", str(client.address), RuleState.ACTIVE)
    assert rule.target == f"ws://{stage.server.address}/"
    assert (rule.tunnels_up, rule.flows, rule.agent) == (1, 1, agent.id)
    assert (agent.id, agent.state, agent.tunnels) == (rule.target, AgentState.IN_USE, 1)
    assert (tunnel.id, tunnel.kind, tunnel.state) == ("t1", "websocket", TunnelState.UP)
    assert (tunnel.codec, tunnel.remote) == ("half-close", str(stage.server.address))
    assert tunnel.reason.startswith("window ")
    assert (flow.id, flow.rule, flow.tunnel) == ("00000001", "r1", "t1")
    assert flow.source == "{}:{}".format(*writer.get_extra_info("sockname"))
    assert (flow.up_bytes, flow.down_bytes, flow.moves, flow.state) == (5, 5, 0, FlowState.ACTIVE)
    assert (picture.traffic.up_bytes, picture.traffic.down_bytes) == (5, 5)


async def test_server_side(stage):
    target = await stage.target()
    await stage.serve({"": target, "/other": target})
    await stage.connect()
    await talk(stage)
    picture = stage.server.snapshot()
    (rule,), (agent,), (tunnel,), (flow,) = (
        picture.rules,
        picture.agents,
        picture.tunnels,
        list(picture.flows),
    )
    assert (rule.listen, rule.target) == (str(stage.server.address), f"{target}, /other {target}")
    assert (agent.id, agent.state) == ("127.0.0.1", AgentState.IN_USE)
    assert flow.source == tunnel.remote
    assert flow.target == str(target)
    assert (flow.up_bytes, flow.down_bytes) == (5, 5)
    assert stage.server.snapshot(flows=False).flows == ()
    assert picture.signal[0].state == "listening"


async def test_counters_stay_when_flows_are_gone(stage):
    await stage.pair()
    _, writer = await talk(stage)
    writer.close()
    await until(lambda: not (stage.client.book.live or stage.server.book.live))
    for service in (stage.client, stage.server):
        picture = service.snapshot()
        assert (picture.traffic.up_bytes, picture.traffic.down_bytes) == (5, 5)
        assert (len(picture.flows), picture.tunnels) == (0, ())
    assert stage.client.snapshot().agents[0].state is AgentState.READY


async def test_rates(stage, monkeypatch):
    monkeypatch.setattr(view_module, "RATE_SPAN", 0.0)
    await stage.pair()
    await talk(stage)
    (flow,) = stage.client.snapshot().flows
    assert flow.up_rate > 0
    assert flow.down_rate > 0
    (flow,) = stage.client.snapshot().flows
    assert flow.up_rate == 0


async def test_without_a_websocket_the_flow_waits(stage):
    proxy = await stage.proxied()
    await talk(stage)
    proxy.target = 1
    proxy.cut()
    await until(lambda: stage.server.snapshot().tunnels[0].state is TunnelState.DEGRADED)
    (flow,) = stage.server.snapshot().flows
    assert flow.state is FlowState.WAITING
    assert stage.server.snapshot().tunnels[0].remote == ""


async def test_agent_that_cannot_be_reached(stage):
    client = await stage.connect(1)
    assert client.snapshot().agents[0].state is AgentState.PROBING
    await until(lambda: client.snapshot().agents[0].state is AgentState.LOST)
    assert "refused" in client.snapshot().agents[0].reason


async def test_picture_is_json(stage):
    await stage.pair()
    await talk(stage)
    for service in (stage.client, stage.server):
        fields = json.loads(msgspec.json.encode(service.snapshot(), enc_hook=encode_lazy))
        assert fields["flows"][0]["up_bytes"] == 5


async def test_secrets_of_the_url_are_not_shown(stage):
    url = yarl.URL("ws://user:pass@127.0.0.1:1/path?key=secret")
    service = ConnectService(ConnectConfig(url=url, listen=LOOPBACK), stage.bus)
    assert service.snapshot().service == "ws-connect"
    assert service.peer.id == "ws://127.0.0.1:1/path"
    assert "pass" not in service.peer.address
