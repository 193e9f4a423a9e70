"""The agent's answers to servers and relays, with real ICE and real tunnels on loopback."""

import asyncio
import ipaddress

import pytest

from rtun_core.agent import control as control_module
from rtun_core.agent.config import ExitConfig
from rtun_core.agent.control import AgentControl
from rtun_core.agent.egress import EgressPolicy, parse_egress_rule
from rtun_core.agent.exit_commands import carry_out, is_known
from rtun_core.bus import EventBus
from rtun_core.commands import CloseFlow, CloseTunnel, DrainTunnel, Quit
from rtun_core.errors import CommandRefused, RtunError
from rtun_core.events import Notice, TunnelClosed, TunnelDraining, TunnelOpening, TunnelUp
from rtun_core.model import TunnelState
from rtun_core.net.ice import IceConfig, IceSession
from rtun_core.wire.ice_params import ice_params_from_pb, ice_params_to_pb
from rtun_core.wire.pb import rtun_pb2 as pb
from rtun_core.wire.relay_frame import CodecKind, RelayCodec

SEED = 7
LOOPBACK = IceConfig(stun_servers=(), candidate_cidrs=(ipaddress.ip_network("127.0.0.1/32"),))
EXT = pb.RelayExtension(session_id=b"relay-01", features=3)


class Relay:
    """One tunnel from the relay's side."""

    def __init__(self, path, answer):
        self.path = path
        self.answer = answer
        self.codec = RelayCodec(CodecKind.OBFS_V2 if answer.obfs_seed else CodecKind.LEGACY, answer.obfs_seed)
        self.received = asyncio.Queue()
        for datagram in path.early:
            self.received.put_nowait(datagram)
        path.socket.start(self._on_batch, lambda _error: None)

    def _on_batch(self, batch):
        for row in range(batch.count):
            self.received.put_nowait(batch.payload(row))

    def uplink(self, flow, payload):
        self.path.socket.send(self.codec.encode(flow, payload, 1))

    async def downlink(self):
        async with asyncio.timeout(5):
            while True:
                frame = self.codec.decode(await self.received.get())
                if frame.payload:
                    return frame.flow, frame.payload


class Agent:
    """A control with its events, and relays that dial it."""

    def __init__(self, **config):
        self.bus = EventBus()
        self.events = self.bus.subscribe()
        self.seen = []
        self.control = AgentControl(ExitConfig(ice=LOOPBACK, **config), self.bus)
        self.ice = []

    async def ask(self, **fields):
        """Send `open_p2p`; the answer, and our ICE session for it."""
        ice = await IceSession.gather(LOOPBACK, controlling=True)
        self.ice.append(ice)
        defaults = {"ice": ice_params_to_pb(ice.local), "target_addr": "127.0.0.1:9", "obfs_seed": SEED}
        request = pb.C2ARequest(open_p2p=pb.P2PArgs(udp_relay=pb.UdpRelayArgs(**(defaults | fields))))
        return await self.control.handle(request), ice

    async def refused(self, **fields):
        answer, _ = await self.ask(**fields)
        assert answer.status.code == -1
        return answer.status.reason

    async def dial(self, target, **fields):
        answer, ice = await self.ask(**({"target_addr": str(target.address), "ext": EXT} | fields))
        assert answer.WhichOneof("open_p2p_rsp") == "args", answer
        relay = answer.args.udp_relay
        path = await ice.connect(ice_params_from_pb(relay.ice), timeout=5)
        return Relay(path, relay)

    def told(self, kind):
        self.seen += [stamped.event for stamped in self.events.drain()]
        return [event for event in self.seen if isinstance(event, kind)]

    async def close(self):
        await self.control.close()
        for ice in self.ice:
            ice.close()
            if ice._path is not None:
                ice._path.socket.close()


@pytest.fixture
async def make_agent():
    made = []

    def make(**config):
        made.append(Agent(**config))
        return made[-1]

    yield make
    for agent in made:
        await agent.close()


@pytest.fixture
async def agent(make_agent):
    return make_agent()


@pytest.fixture
async def target(exit_):
    return exit_.target()


async def test_a_tunnel_carries_data_from_the_first_request_on(agent, target, until):
    relay = await agent.dial(target)
    relay.uplink(5, b"question")
    data, source = await target.recv()
    assert data == b"question"
    target.send(b"answer", source)
    assert await relay.downlink() == (5, b"answer")
    (up,) = agent.told(TunnelUp)
    assert (up.tunnel, up.codec, up.source) == ("t1", "obfs-v2", "request")
    assert up.remote == str(relay.path.socket.local)
    assert agent.told(TunnelOpening)[0].tunnel == "t1"


async def test_the_answer_echoes_the_request_and_the_known_features(agent, target):
    answer, _ = await agent.ask(
        target_addr=str(target.address), idle_timeout_secs=33, max_payload=1200, ext=EXT
    )
    relay = answer.args.udp_relay
    assert relay.target_addr == str(target.address)
    assert (relay.idle_timeout_secs, relay.max_payload, relay.obfs_seed) == (33, 1200, SEED)
    assert relay.ext == pb.RelayExtension(session_id=b"relay-01", features=1)
    assert relay.ice.ufrag
    assert relay.ice.pwd
    assert relay.ice.candidates


async def test_a_foreign_relay_gets_no_extension(agent):
    answer, _ = await agent.ask()
    assert not answer.args.udp_relay.HasField("ext")


async def test_two_tunnels_of_one_session_share_the_source_port(agent, target):
    first, second = await agent.dial(target), await agent.dial(target)
    first.uplink(5, b"a")
    _, source = await target.recv()
    second.uplink(5, b"b")
    assert (await target.recv())[1] == source
    target.send(b"to the last", source)
    assert await second.downlink() == (5, b"to the last")


async def test_two_sessions_do_not(agent, target):
    first = await agent.dial(target)
    second = await agent.dial(target, ext=pb.RelayExtension(session_id=b"relay-02"))
    first.uplink(5, b"a")
    _, source = await target.recv()
    second.uplink(5, b"b")
    assert (await target.recv())[1] != source


async def test_foreign_relays_are_told_apart_by_address(agent, target):
    first, second = await agent.dial(target, ext=None), await agent.dial(target, ext=None)
    first.uplink(5, b"a")
    _, source = await target.recv()
    second.uplink(5, b"b")
    assert (await target.recv())[1] == source  # the same host, as far as the agent can see


async def test_seed_0_gives_a_legacy_tunnel(agent, target):
    relay = await agent.dial(target, obfs_seed=0, ext=None)
    relay.uplink(5, b"question")
    assert (await target.recv())[0] == b"question"
    assert agent.control.tunnels()[0].codec == "legacy"


async def test_a_host_name_is_a_target(agent, target):
    relay = await agent.dial(target, target_addr=f"localhost:{target.address.port}")
    relay.uplink(5, b"by name")
    assert (await target.recv())[0] == b"by name"


async def test_bad_requests_get_their_reason(agent):
    assert "please set <= 1442" in await agent.refused(max_payload=1500)
    assert "has no port" in await agent.refused(target_addr="127.0.0.1")
    assert "ufrag" in await agent.refused(ice=pb.P2PIceArgs(pwd="x"))
    assert agent.control.counters()[1] == {"ice": 1}


async def test_denied_targets_get_their_reason(make_agent):
    agent = make_agent(egress=EgressPolicy(deny=(parse_egress_rule("127.0.0.0/8"),)))
    assert "denied by the egress rule 127.0.0.0/8" in await agent.refused()


async def test_the_number_of_tunnels_is_bounded(make_agent, target, until):
    agent = make_agent(max_tunnels=1)
    await agent.dial(target)
    await until(agent.control.tunnels)
    assert await agent.refused() == "this agent has its 1 tunnels already"


async def test_tunnels_that_are_being_set_up_count_too(make_agent):
    agent = make_agent(max_tunnels=1)
    await agent.ask()
    assert "1 tunnels already" in await agent.refused()


async def test_the_number_of_handshakes_is_bounded(agent, monkeypatch):
    monkeypatch.setattr(control_module, "MAX_PENDING", 2)
    for _ in range(2):
        await agent.ask()
    assert "setting up 2 tunnels already" in await agent.refused()


async def test_a_relay_that_never_dials_is_given_up(agent, monkeypatch, until):
    monkeypatch.setattr(control_module, "ICE_TIMEOUT", 0.05)
    await agent.ask()
    await until(lambda: agent.told(TunnelClosed))
    (closed,) = agent.told(TunnelClosed)
    assert (closed.tunnel, closed.opened) == ("t1", False)
    assert "ICE found no path" in closed.reason


async def test_gathering_that_fails_or_hangs_is_answered(agent, monkeypatch):
    async def fail(_config, *, controlling):
        raise RtunError("no local IPv4 address")

    async def hang(_config, *, controlling):
        await asyncio.Event().wait()

    ice = pb.P2PIceArgs(ufrag="u", pwd="p")
    request = pb.C2ARequest(
        open_p2p=pb.P2PArgs(udp_relay=pb.UdpRelayArgs(ice=ice, target_addr="127.0.0.1:9"))
    )
    monkeypatch.setattr(IceSession, "gather", fail)
    assert (await agent.control.handle(request)).status.reason == "no local IPv4 address"
    monkeypatch.setattr(IceSession, "gather", hang)
    monkeypatch.setattr(control_module, "GATHER_TIMEOUT", 0.01)
    assert "could not be gathered in 0.01 s" in (await agent.control.handle(request)).status.reason


async def test_hard_nat_is_accepted_and_told_once(agent):
    for _ in range(2):
        answer, _ = await agent.ask(hard_nat=pb.P2PHardNatArgs(mode=3))
        assert answer.WhichOneof("open_p2p_rsp") == "args"
    assert [notice.topic for notice in agent.told(Notice)] == ["hard-nat"]
    assert agent.control.counters()[1] == {"hard-nat": 2}


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (pb.C2ARequest(open_sell=pb.OpenShellArgs()), "shells are not supported by this agent"),
        (pb.C2ARequest(open_socks=pb.OpenSocksArgs()), "socks channels are not supported by this agent"),
    ],
)
async def test_channels_are_refused(agent, request_, says):
    answer = await agent.control.handle(request_)
    assert (answer.status.code, answer.status.reason) == (-1, says)


async def test_scripts_are_refused(agent):
    answer = await agent.control.handle(pb.C2ARequest(exec_agent_script=pb.ExecAgentScriptArgs(name="x")))
    assert (answer.status_code, answer.reason) == (-1, "scripts are not supported by this agent")
    assert agent.control.counters()[1] == {"unsupported exec_agent_script": 1}


async def test_closing_a_channel_succeeds(agent):
    answer = await agent.control.handle(pb.C2ARequest(close_channel=pb.CloseChannelArgs(ch_id=4)))
    assert (answer.code, answer.reason) == (0, "ok")


@pytest.mark.parametrize(
    "args",
    [
        pb.P2PArgs(quic_socks=pb.QuicSocksArgs()),
        pb.P2PArgs(quic_thrput=pb.QuicThroughputArgs()),
        pb.P2PArgs(),
    ],
)
async def test_other_kinds_of_p2p_are_refused(agent, args):
    answer = await agent.control.handle(pb.C2ARequest(open_p2p=args))
    assert answer.status.code == -1
    assert answer.status.reason.endswith("is not supported by this agent, only udp_relay is")


async def test_rows_and_counters_show_what_goes_on(agent, target):
    relay = await agent.dial(target)
    agent.control.agent = "me"
    relay.uplink(5, b"12345")
    _, source = await target.recv()
    target.send(b"123", source)
    await relay.downlink()
    (row,) = agent.control.tunnels()
    assert (row.id, row.agent, row.state, row.kind, row.flows) == ("t1", "me", TunnelState.UP, "p2p", 1)
    assert (row.traffic.up_bytes, row.traffic.down_bytes) == (5, 3)
    assert row.rtt_ms is not None
    assert [flow.id for flow in agent.control.flows()] == ["00000005"]
    assert agent.control.close_tunnel("t1") == "tunnel t1 closed"
    assert agent.control.tunnels() == ()
    assert agent.control.traffic().up_bytes == 5
    assert len(agent.control.flows()) == 1


async def test_drops_of_closed_tunnels_stay_counted(agent, target, until):
    relay = await agent.dial(target, max_payload=10)
    relay.uplink(1, bytes(11))
    await until(lambda: agent.control.counters()[0] == {"oversize": 1})
    agent.control.close_tunnel("t1")
    assert agent.control.counters()[0] == {"oversize": 1}


async def test_commands_close_tunnels_and_flows(agent, target):
    relay = await agent.dial(target)
    relay.uplink(0x1F, b"x")
    await target.recv()
    assert carry_out(agent.control, CloseFlow(flows=("1F",))).text == "1 flow closed"
    assert carry_out(agent.control, CloseFlow(flows=("@all",))).text == "0 flows closed"
    assert carry_out(agent.control, CloseTunnel(tunnel="t1")).text == "tunnel t1 closed"
    assert agent.told(TunnelClosed)[0].reason == "command"


async def test_a_drained_tunnel_closes_when_its_flows_are_gone(agent, target):
    relay = await agent.dial(target)
    relay.uplink(1, b"x")
    await target.recv()
    assert carry_out(agent.control, DrainTunnel(tunnel="t1")).text == (
        "tunnel t1 closes when no flow uses it, now 1"
    )
    assert agent.told(TunnelDraining)[0].flows == 1
    agent.control.tick()
    assert agent.control.tunnels()[0].state is TunnelState.DRAINING
    agent.control.close_flows(None)
    agent.control.tick()
    assert agent.told(TunnelClosed)[0].reason == "drained"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (CloseTunnel(tunnel="t9"), "there is no tunnel t9"),
        (DrainTunnel(tunnel="t9"), "there is no tunnel t9"),
        (CloseFlow(flows=("1",)), "no flow has the id 00000001"),
        (CloseFlow(flows=("xyz",)), "not a flow id"),
        (Quit(), "an agent cannot carry out quit"),
    ],
)
async def test_commands_that_cannot_be_carried_out_are_refused(agent, command, says):
    assert is_known(command) == (not isinstance(command, Quit))
    with pytest.raises(CommandRefused, match=says):
        carry_out(agent.control, command)


async def test_closing_ends_handshakes_and_tunnels(agent, target, until):
    await agent.dial(target)
    await until(agent.control.tunnels)
    await agent.ask()
    await agent.control.close()
    assert agent.control.tunnels() == ()
    assert [event.reason for event in agent.told(TunnelClosed)] == ["the agent stops"]


async def test_it_ticks_by_itself_from_the_first_request_on(agent, target, monkeypatch, until):
    monkeypatch.setattr(control_module, "TICK", 0.01)
    ticks = []
    monkeypatch.setattr(agent.control, "tick", lambda: ticks.append(1))
    await agent.ask()
    agent.control.start()
    await until(lambda: len(ticks) > 2)
