"""One rule from local datagrams to a target and back, with channels that come, go, drain and are swapped."""

import time

import pytest

from rtun_core.events import FlowClosed, FlowMoved, RuleChanged, TunnelOpening
from rtun_core.model import RuleState
from rtun_core.net.endpoint import SignalEndpoint
from rtun_core.net.tasks import TaskOwner
from rtun_core.relay import pool
from rtun_core.relay.channel import Stage
from rtun_core.relay.channel_pool import LINGER
from rtun_core.relay.config import RelayConfig
from rtun_core.relay.flow_table import NO_CHANNEL
from rtun_core.relay.rule_relay import MOVE_INTERVAL, RuleRelay
from rtun_core.wire.relay_rule import RelayRule
from rtun_core.wire.signal_url import parse_signal_url
from tests.relay.world import ICE, LOCAL, until


class Bench:
    """A bound rule towards a target that is a plain socket."""

    def __init__(self, bus, make_peer, *, minimum=1, maximum=1, **options):
        self.tasks = TaskOwner("rule")
        self.make_peer = make_peer
        self.target = make_peer()
        config = RelayConfig(
            endpoint=SignalEndpoint(url=parse_signal_url("http://127.0.0.1:1"), secret=b"x"),
            rules=(RelayRule(LOCAL, self.target.address),),
            ice=ICE,
            min_channels=minimum,
            max_channels=maximum,
            open_retry_min_interval=0.0,
            **options,
        )
        self._numbers = 0
        self.rule = RuleRelay(
            "r1",
            config.rules[0],
            config,
            bus,
            session_id=b"s" * 16,
            next_tunnel_id=self._next,
            spawn=self.tasks.spawn,
        )
        self.rule.bind()

    def _next(self):
        self._numbers += 1
        return f"t{self._numbers}"

    @property
    def port(self):
        return self.rule.port

    async def up(self, number=1):
        """Step until so many channels are in use; returns them, oldest first."""

        def enough():
            self.rule.step(time.monotonic())
            usable = [each for each in self.rule.pool.usable() if not each.draining]
            for channel in usable:
                channel.health.rtt = 0.001  # alike, however busy the machine is
            return len(usable) >= number and usable

        return await until(enough)

    def client(self):
        return self.make_peer(to=self.port.local)

    async def pass_up(self, client, data):
        """Send a datagram through; returns who the target sees."""
        client.send(data)
        received, source = await self.target.recv()
        assert received == data
        return source

    async def round_trip(self, client, data=b"ping"):
        source = await self.pass_up(client, data)
        self.target.send(b"re: " + data, source)
        assert (await client.recv())[0] == b"re: " + data
        return source

    def loads(self):
        """Flows per channel id, as the table has them."""
        table = self.rule.table
        names = {number: channel.id for number, channel in self.port.channels.items()}
        counts = {}
        for row in table.rows().tolist():
            name = names.get(int(table.channel[row]), "-")
            counts[name] = counts.get(name, 0) + 1
        return counts

    def ids(self):
        return sorted(self.rule.table.ids[self.rule.table.rows()].tolist())

    async def close(self):
        await self.tasks.close()
        self.rule.close()


@pytest.fixture
async def make(bus, make_peer):
    benches = []

    def build(**options):
        benches.append(Bench(bus, make_peer, **options))
        return benches[-1]

    yield build
    for bench in benches:
        await bench.close()


@pytest.fixture
async def bench(make):
    return make()


# ---- life of a rule -------------------------------------------------------------------------------------


async def test_states(make, make_link):
    bench = make()
    rule = bench.rule
    assert rule.state is RuleState.WAITING
    rule.use(make_link())
    assert rule.state is RuleState.WAITING
    await bench.up()
    assert rule.state is RuleState.ACTIVE
    rule.pause(paused=True)
    assert rule.state is RuleState.PAUSED
    rule.close()
    assert rule.state is RuleState.STOPPED


async def test_a_rule_on_demand_is_active_while_it_could_open(make, make_link):
    bench, link = make(minimum=0), make_link()
    assert bench.rule.state is RuleState.WAITING
    bench.rule.use(link)
    assert bench.rule.state is RuleState.ACTIVE
    link.connected = False
    assert bench.rule.state is RuleState.WAITING


async def test_datagrams_pass_both_ways(bench, make_link):
    bench.rule.use(make_link())
    await bench.up()
    one, two = bench.client(), bench.client()
    assert await bench.round_trip(one) != await bench.round_trip(two)
    assert await bench.round_trip(one) == await bench.round_trip(one, b"more")
    assert bench.loads() == {"t1": 2}


async def test_what_came_before_the_first_channel_is_not_lost(bench, make_link):
    client = bench.client()
    for number in range(3):
        client.send(b"%d" % number)
    bench.rule.use(make_link())
    await bench.up()
    assert [(await bench.target.recv())[0] for _ in range(3)] == [b"0", b"1", b"2"]
    assert bench.port.all_drops() == {}


async def test_a_datagram_is_the_demand_that_opens_a_channel(make, make_link, events):
    bench = make(minimum=0)
    bench.rule.use(make_link())
    bench.rule.tick(time.monotonic())
    assert events.of(TunnelOpening) == []
    await bench.round_trip(bench.client())
    assert [event.source for event in events.of(TunnelOpening)] == ["demand-open"]


async def test_demand_outlasts_a_failed_attempt(make, make_link):
    bench, link = make(minimum=0), make_link()
    link.agent.refusal = "not yet"
    bench.rule.use(link)
    client = bench.client()
    client.send(b"patience")
    await until(lambda: bench.rule.pool.failures)
    link.agent.refusal = None
    await bench.up()
    assert (await bench.target.recv())[0] == b"patience"


async def test_a_pause_is_told(bench, events):
    bench.rule.pause(paused=True)
    bench.rule.pause(paused=False)
    assert [event.state for event in events.of(RuleChanged)] == ["paused", "resumed"]


async def test_the_smallest_payload_of_all_channels_counts(make, make_link):
    bench = make(minimum=2, maximum=2)
    bench.rule.use(make_link())
    one, two = await bench.up(2)
    two.frames.max_payload = 500
    bench.rule.use(bench.rule.pool.link)  # looks at the channels anew
    assert bench.port.max_payload == 500
    bench.rule.pool.remove(two, "gone")
    assert bench.port.max_payload == one.max_payload


# ---- flows move -----------------------------------------------------------------------------------------


def lose(channel):
    """The peer is gone."""
    channel.frames.close()
    channel.on_lost("the peer's port is closed")


def end_draining(bench):
    """Let the time pass in which a channel without flows still takes answers."""
    now = time.monotonic()
    bench.rule.step(now)
    bench.rule.step(now + pool.LINGER)


async def flows_on(bench, count):
    """Clients with a flow each; every flow has its source at the target."""
    clients = [bench.client() for _ in range(count)]
    return {client: await bench.round_trip(client, b"first") for client in clients}


async def stays_the_same(bench, sources):
    """Every client's flow reaches the target from the source it had."""
    for client, source in sources.items():
        assert await bench.round_trip(client, b"again") == source


async def test_flows_of_a_lost_channel_move_with_their_ids(make, make_link, events):
    bench = make(minimum=2, maximum=2)
    bench.rule.use(make_link())
    lost, other = await bench.up(2)
    sources = await flows_on(bench, 4)
    assert bench.loads() == {"t1": 2, "t2": 2}
    ids = bench.ids()
    lose(lost)
    assert bench.loads() == {"t2": 4}
    assert bench.ids() == ids
    (moved,) = events.of(FlowMoved)
    assert (moved.count, moved.old, moved.new, moved.reason) == (2, "t1", "t2", "tunnel lost")
    assert (moved.flow, other.flows) == (None, 4)
    await stays_the_same(bench, sources)


async def test_a_single_flow_is_told_by_name(make, make_link, events):
    bench = make(minimum=2, maximum=2)
    bench.rule.use(make_link())
    lost, _ = await bench.up(2)
    await flows_on(bench, 1)
    lose(lost)
    (moved,) = events.of(FlowMoved)
    assert moved.flow == f"{bench.ids()[0]:08x}"


async def test_flows_without_a_channel_wait_and_go_on(bench, make_link, events):
    link = make_link()
    bench.rule.use(link)
    (lost,) = await bench.up()
    sources = await flows_on(bench, 2)
    link.agent.gate.clear()
    lose(lost)
    assert bench.rule.state is RuleState.WAITING
    assert bench.loads() == {"-": 2}
    assert (bench.rule.table.channel[bench.rule.table.rows()] == NO_CHANNEL).all()
    assert events.of(FlowMoved) == []
    for client in sources:
        client.send(b"held")
    link.agent.gate.set()
    await bench.up()
    arrived = [await bench.target.recv() for _ in sources]
    assert sorted(source for _, source in arrived) == sorted(sources.values())
    (moved,) = events.of(FlowMoved)
    assert (moved.count, moved.old, moved.new, moved.reason) == (2, None, "t2", "tunnel up")
    assert bench.port.all_drops() == {}


async def test_draining_moves_flows_and_ends_the_channel(make, make_link, events):
    bench = make(minimum=2, maximum=2)
    bench.rule.use(make_link())
    leaving, _ = await bench.up(2)
    sources = await flows_on(bench, 4)
    bench.rule.pool.perform(bench.rule.pool.policy.drain(leaving.id, "requested"))
    assert bench.loads() == {"t2": 4}
    assert [event.reason for event in events.of(FlowMoved)] == ["draining"]
    end_draining(bench)
    assert leaving.closed
    await stays_the_same(bench, sources)


async def test_draining_the_only_channel_lets_flows_stay_until_there_is_another(bench, make_link):
    bench.rule.use(make_link())
    (leaving,) = await bench.up()
    sources = await flows_on(bench, 2)
    bench.rule.pool.perform(bench.rule.pool.policy.drain(leaving.id, "requested"))
    assert bench.loads() == {"t1": 2}
    await stays_the_same(bench, sources)
    await bench.up()
    bench.rule.tick(time.monotonic())
    assert bench.loads() == {"t2": 2}
    end_draining(bench)
    assert leaving.closed
    await stays_the_same(bench, sources)


async def test_answers_on_their_way_arrive_on_a_channel_that_has_drained(make, make_link):
    bench = make(minimum=2, maximum=2)
    bench.rule.use(make_link())
    leaving, other = await bench.up(2)
    bench.rule.prefer(leaving)
    client = bench.client()
    source = await bench.pass_up(client, b"question")
    assert bench.loads() == {leaving.id: 1}
    bench.rule.pool.perform(bench.rule.pool.policy.drain(leaving.id, "requested"))
    assert bench.loads() == {other.id: 1}
    now = time.monotonic()
    bench.rule.step(now)
    bench.rule.step(now + pool.LINGER * 0.9)
    received = leaving.traffic.down_packets
    bench.target.send(b"late answer", source)
    assert (await client.recv())[0] == b"late answer"
    assert leaving.traffic.down_packets == received + 1
    bench.rule.step(now + pool.LINGER)
    assert leaving.closed
    assert await bench.round_trip(client, b"next question") == source


async def test_a_tick_evens_out_the_load(make, make_link, events):
    bench = make(minimum=2, maximum=2)
    bench.rule.use(make_link())
    one, _ = await bench.up(2)
    bench.rule.prefer(one)
    sources = await flows_on(bench, 4)
    assert bench.loads() == {"t1": 4}
    bench.rule.table.moved_at -= MOVE_INTERVAL
    bench.rule.tick(time.monotonic())
    assert bench.loads() == {"t1": 4}
    bench.rule.prefer(None)
    bench.rule.table.moved_at += MOVE_INTERVAL
    bench.rule.tick(time.monotonic())
    assert bench.loads() == {"t1": 4}, "flows that are this new stay"
    bench.rule.table.moved_at -= MOVE_INTERVAL
    bench.rule.tick(time.monotonic())
    assert bench.loads() == {"t1": 2, "t2": 2}
    assert [event.reason for event in events.of(FlowMoved)] == ["balance"]
    await stays_the_same(bench, sources)


async def test_idle_flows_are_closed(make, make_link, events):
    bench = make(idle_timeout=30.0)
    bench.rule.use(make_link())
    (channel,) = await bench.up()
    await flows_on(bench, 2)
    bench.rule.tick(time.monotonic() + 29)
    assert len(bench.rule.table) == 2
    bench.rule.tick(time.monotonic() + 31)
    assert len(bench.rule.table) == 0
    (closed,) = events.of(FlowClosed)
    assert (closed.count, closed.flow, closed.reason) == (2, None, "idle for 30 s")
    bench.rule.tick(time.monotonic())
    assert channel.flows == 0


async def test_a_closed_flow_comes_back_as_a_new_one(bench, make_link, events):
    bench.rule.use(make_link())
    await bench.up()
    client = bench.client()
    first = await bench.round_trip(client)
    (old,) = bench.ids()
    bench.rule.close_flows(bench.rule.table.rows(), "closed on request")
    assert [event.flow for event in events.of(FlowClosed)] == [f"{old:08x}"]
    assert await bench.round_trip(client) != first
    assert bench.ids() != [old]


async def test_nothing_to_move_or_close_is_not_told(bench, make_link, events):
    bench.rule.use(make_link())
    (channel,) = await bench.up()
    bench.rule.move_flows(bench.rule.table.rows(), channel, "requested")
    bench.rule.close_flows(bench.rule.table.rows(), "requested")
    assert events.of(FlowMoved, FlowClosed) == []


async def test_flows_are_found_by_id(bench, make_link):
    bench.rule.use(make_link())
    await bench.up()
    await flows_on(bench, 3)
    one, two, _ = (f"{each:08x}" for each in bench.ids())
    assert len(bench.rule.find_flows(None)) == 3
    assert len(bench.rule.find_flows((one, two, two, "ffffffffff", "no hex"))) == 2


# ---- another agent --------------------------------------------------------------------------------------


async def test_committing_a_switch_moves_all_flows(make, make_link, events):
    bench = make(minimum=2, maximum=2)
    bench.rule.use(make_link("old"))
    former = await bench.up(2)
    await flows_on(bench, 5)
    new = make_link("new")
    prepared = await bench.rule.pool.open(new, "switch", timeout=5.0)
    assert "t3" not in bench.loads()
    assert bench.rule.commit(new, prepared) == 5
    assert bench.loads() == {"t3": 5}
    assert {event.reason for event in events.of(FlowMoved)} == {"agent switch"}
    assert {channel.stage for channel in former} == {Stage.RETIRING}
    assert prepared.flows == 5
    for client in [bench.client() for _ in range(2)]:
        await bench.round_trip(client)


async def test_a_former_agent_still_delivers_answers(bench, make_link):
    bench.rule.use(make_link("old"))
    await bench.up()
    client = bench.client()
    source = await bench.pass_up(client, b"question")
    new = make_link("new")
    bench.rule.commit(new, await bench.rule.pool.open(new, "switch", timeout=5.0))
    bench.target.send(b"late answer", source)
    assert (await client.recv())[0] == b"late answer"


async def test_committing_without_a_channel_lets_flows_wait(bench, make_link):
    bench.rule.use(make_link("old"))
    await bench.up()
    client = bench.client()
    await bench.round_trip(client)
    new = make_link("new")
    new.agent.gate.clear()
    assert bench.rule.commit(new, None) == 0
    assert bench.rule.state is RuleState.WAITING
    client.send(b"held")
    bench.rule.tick(time.monotonic() + LINGER + 1)
    assert bench.loads() == {"-": 1}
    new.agent.gate.set()
    await bench.up()
    assert (await bench.target.recv())[0] == b"held"


async def test_committing_a_channel_that_was_lost_meanwhile(bench, make_link):
    bench.rule.use(make_link("old"))
    await bench.up()
    new = make_link("new")
    prepared = await bench.rule.pool.open(new, "switch", timeout=5.0)
    lose(prepared)
    assert bench.rule.commit(new, prepared) == 0
    await bench.up()
    await bench.round_trip(bench.client())


async def test_waiting_flows_take_part_in_a_switch(bench, make_link):
    link = make_link("old")
    bench.rule.use(link)
    (lost,) = await bench.up()
    client = bench.client()
    await bench.round_trip(client)
    link.agent.gate.clear()
    lose(lost)
    new = make_link("new")
    prepared = await bench.rule.pool.open(new, "switch", timeout=5.0)
    bench.rule.commit(new, prepared)
    assert bench.loads() == {prepared.id: 1}
    await bench.round_trip(client)


async def test_a_prepared_channel_gets_no_flows(bench, make_link):
    bench.rule.use(make_link("old"))
    await bench.up()
    prepared = await bench.rule.pool.open(make_link("new"), "switch", timeout=5.0)
    await flows_on(bench, 3)
    bench.rule.table.moved_at -= MOVE_INTERVAL
    bench.rule.tick(time.monotonic())
    assert bench.loads() == {"t1": 3}
    bench.rule.pool.remove(prepared, "agent switch failed")
    assert bench.loads() == {"t1": 3}


async def test_no_agent_at_all(bench, make_link):
    bench.rule.use(make_link())
    await bench.up()
    bench.rule.use(None)
    assert bench.rule.state is RuleState.WAITING
    bench.rule.tick(time.monotonic() + LINGER + 1)
    assert bench.rule.pool.channels == {}
