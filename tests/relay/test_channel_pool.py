"""The pool's shell: channels to an agent in this process are opened, used, retired, lost and closed."""

import asyncio
import time
from itertools import count

import psutil
import pytest

from rtun_core.errors import CommandRefused, SignalingError
from rtun_core.events import (
    PoolScaled,
    TunnelClosed,
    TunnelDegraded,
    TunnelDraining,
    TunnelOpening,
    TunnelReplaced,
    TunnelUp,
)
from rtun_core.net.tasks import TaskOwner
from rtun_core.relay import channel_open, channel_pool, pool
from rtun_core.relay.channel import Stage
from rtun_core.relay.channel_open import ChannelWish
from rtun_core.relay.channel_pool import LINGER, ChannelPool, PoolHooks
from rtun_core.relay.pool import OPEN_TIMEOUT, PoolPolicy
from rtun_core.wire.address import Address
from tests.relay.world import ICE, until


class Bench:
    """A pool and what it told its owner."""

    def __init__(self, bus, *, minimum=1, maximum=1, retry=0.0):
        self.tasks = TaskOwner("pool")
        self.left = []
        self.changes = 0
        numbers = count(1)
        self.policy = PoolPolicy(minimum=minimum, maximum=maximum, lifetime=100.0, retry_interval=retry)
        self.pool = ChannelPool(
            "r1",
            ChannelWish(target=Address("127.0.0.1", 9), ice=ICE, idle_timeout=30.0, session_id=b"s" * 16),
            self.policy,
            PoolHooks(
                receiver=None,
                leave=lambda channel, reason: self.left.append((channel.id, reason)),
                changed=self._changed,
                spawn=self.tasks.spawn,
                next_id=lambda: f"t{next(numbers)}",
            ),
            bus,
        )

    def _changed(self):
        self.changes += 1

    def step(self, flows=0, *, demand=False, now=None):
        now = time.monotonic() if now is None else now
        self.pool.step(now, total_flows=flows, demand=demand)

    async def up(self, number=1):
        """Step until so many channels are in use; returns them."""

        def enough():
            self.step()
            return len(self.pool.usable()) >= number and self.pool.usable()

        return await until(enough)

    async def idle(self):
        """Wait until no attempt runs."""
        await until(lambda: not len(self.tasks))

    async def close(self):
        await self.tasks.close()
        self.pool.close("the test is over")


@pytest.fixture
async def make(bus):
    benches = []

    def build(**options):
        benches.append(Bench(bus, **options))
        return benches[-1]

    yield build
    for bench in benches:
        await bench.close()


@pytest.fixture
async def bench(make):
    return make()


def closed(events):
    return [(event.tunnel, event.reason, event.opened) for event in events.of(TunnelClosed)]


# ---- opening --------------------------------------------------------------------------------------------


async def test_without_an_agent_nothing_is_opened(bench, events):
    bench.step(demand=True)
    assert events.of(TunnelOpening) == []
    assert bench.pool.reason == "no agent yet"


async def test_it_says_when_it_wants_another_number_of_tunnels(make, events):
    bench = make(minimum=1, maximum=3)
    for flows in (0, 0, 2, 5, 0):
        bench.step(flows)
    told = [(event.wanted, event.reason) for event in events.of(PoolScaled)]
    assert told == [(3, "there are flows"), (1, "there are no flows")]


async def test_the_first_channel_comes_up(bench, make_link, events):
    link = make_link()
    bench.pool.use(link)
    assert bench.pool.reason == "no tunnel to agent alpha/1 yet"
    bench.step()
    (channel,) = await bench.up()
    (opening,) = events.of(TunnelOpening)
    assert (opening.tunnel, opening.rule, opening.agent, opening.source) == ("t1", "r1", link.id, "bootstrap")
    (up,) = events.of(TunnelUp)
    assert (up.tunnel, up.source, up.codec, up.agent) == ("t1", "bootstrap", "obfs-v2", link.id)
    assert up.remote == str(channel.frames.remote)
    assert up.rtt_ms == channel.health.rtt * 1e3
    assert (channel.stage, channel.number) == (Stage.ACTIVE, 0)
    assert (bench.pool.reason, bench.pool.failures, bench.changes) == ("", 0, 1)
    assert list(bench.policy.members) == ["t1"]
    assert bench.pool.by_number() == {0: channel}


async def test_the_second_is_a_scale_up_with_the_next_number(make, make_link, events):
    bench = make(minimum=2, maximum=2)
    bench.pool.use(make_link())
    channels = await bench.up(2)
    assert [channel.number for channel in channels] == [0, 1]
    assert [event.source for event in events.of(TunnelOpening)] == ["bootstrap", "scale-up"]
    bench.pool.remove(channels[0], "gone")
    assert [channel.number for channel in await bench.up(2)] == [1, 0]


async def test_a_lost_session_opens_nothing(bench, make_link, events):
    link = make_link()
    link.connected = False
    bench.pool.use(link)
    bench.step()
    assert events.of(TunnelOpening) == []
    link.connected = True
    await bench.up()


async def test_a_failed_attempt_is_counted_and_told(bench, make_link, events):
    link = make_link()
    link.agent.refusal = "no room"
    bench.pool.use(link)
    for failures in (1, 2):
        bench.step()
        await bench.idle()
        assert bench.pool.failures == failures
    assert "no room" in bench.pool.reason
    assert closed(events) == [
        ("t1", bench.pool.reason, False),
        ("t2", bench.pool.reason, False),
    ]
    link.agent.refusal = None
    await bench.up()
    assert (bench.pool.failures, bench.pool.reason) == (0, "")


async def test_an_attempt_for_a_former_agent_is_discarded(bench, make_link, events):
    old, new = make_link("old"), make_link("new")
    old.agent.gate.clear()
    bench.pool.use(old)
    bench.step()
    await until(lambda: old.agent.asked)
    bench.pool.use(new)
    (channel,) = await bench.up()
    assert channel.agent == "new/1"
    old.agent.gate.set()
    await bench.idle()
    assert list(bench.pool.channels.values()) == [channel]
    assert closed(events) == [("t1", "another agent is in use", True)]
    assert list(bench.policy.members) == [channel.id]


async def test_a_failure_of_a_former_agent_is_not_counted(bench, make_link):
    old, new = make_link("old"), make_link("new")
    old.agent.gate.clear()
    old.agent.refusal = "too late"
    bench.pool.use(old)
    bench.step()
    await until(lambda: old.agent.asked)
    bench.pool.use(new)
    old.agent.gate.set()
    await bench.idle()
    assert bench.pool.failures == 0
    assert bench.pool.reason == "no tunnel to agent new/1 yet"


async def test_another_agent_is_not_waited_for_as_long_as_the_former_one(make, make_link):
    bench = make(minimum=2, maximum=2, retry=60.0)
    old, new = make_link("old"), make_link("new")
    bench.pool.use(old)
    (channel,) = await bench.up()
    old.agent.refusal = "no more"
    bench.step()
    await bench.idle()
    bench.step()
    assert bench.policy.attempt is None
    bench.pool.use(new)
    bench.step()
    assert bench.policy.attempt is not None
    assert bench.policy.attempt.timeout == OPEN_TIMEOUT
    bench.pool.use(new)
    assert bench.policy.attempt is not None
    assert channel.stage is Stage.RETIRING


# ---- an agent whose frame form is not agreed ------------------------------------------------------------


async def test_an_original_agent_is_used_when_it_has_spoken(bench, make_link, events):
    link = make_link()
    link.agent.foreign = True
    bench.pool.use(link)
    (channel,) = await bench.up()
    assert channel.frames.codec_name
    assert [event.codec for event in events.of(TunnelUp)] == [channel.frames.codec_name]


async def test_an_agent_that_says_nothing_is_spoken_to_in_the_end(bench, make_link, monkeypatch):
    monkeypatch.setattr(channel_open, "DETECT_TIMEOUT", 0.05)
    link = make_link()
    link.agent.mute = True
    bench.pool.use(link)
    bench.step()
    channel = await until(lambda: list(bench.pool.channels.values()))
    assert bench.pool.usable() == []

    def up():
        bench.pool.tick(time.monotonic())
        return bench.pool.usable()

    assert await until(up) == channel
    assert channel[0].frames.codec_name == "obfs-v2"


async def test_a_form_that_never_becomes_known_fails_the_attempt_once(bench, make_link, events, monkeypatch):
    monkeypatch.setattr(channel_pool, "DETECT_TIMEOUT", -1.95)
    link = make_link()
    link.agent.mute = True
    bench.pool.use(link)
    bench.step()
    await bench.idle()
    assert closed(events) == [("t1", "no frame came from agent alpha/1", False)]
    assert (bench.pool.failures, bench.pool.channels) == (1, {})


async def test_a_path_lost_while_it_waits_fails_the_attempt_at_once(bench, make_link, events):
    link = make_link()
    link.agent.mute = True
    bench.pool.use(link)
    bench.step()
    (channel,) = await until(lambda: list(bench.pool.channels.values()))
    channel.on_lost("the peer's port is closed")
    await bench.idle()
    assert closed(events) == [("t1", "the path to agent alpha/1 was lost at once", False)]
    assert bench.policy.attempt is None
    assert bench.pool.failures == 1


async def test_an_attempt_that_is_cancelled_leaves_nothing(bench, make_link, events):
    descriptors = psutil.Process().num_fds()
    link = make_link()
    link.agent.mute = True
    bench.pool.use(link)
    bench.step()
    await until(lambda: bench.pool.channels)
    await bench.tasks.close()
    assert bench.pool.channels == {}
    assert closed(events) == [("t1", "no longer wanted", False)]
    await link.agent.close()
    assert psutil.Process().num_fds() == descriptors


# ---- prepared channels ----------------------------------------------------------------------------------


async def test_a_prepared_channel_is_not_in_use(bench, make_link, events):
    link = make_link()
    channel = await bench.pool.open(link, "switch", timeout=5.0)
    assert channel.stage is Stage.PREPARED
    assert bench.pool.usable() == []
    assert bench.pool.loads() == []
    assert bench.policy.members == {}
    with pytest.raises(CommandRefused, match="not in use"):
        bench.pool.find(channel.id)
    bench.pool.tick(time.monotonic())
    bench.pool.use(link)
    bench.pool.adopt(channel)
    assert bench.pool.usable() == [channel]
    assert bench.pool.find(channel.id) is channel
    assert list(bench.policy.members) == [channel.id]
    assert [event.source for event in events.of(TunnelUp)] == ["switch"]


async def test_a_failed_preparation_is_not_a_failure_of_the_agent_in_use(bench, make_link):
    bench.pool.use(make_link())
    await bench.up()
    other = make_link("other")
    other.agent.refusal = "no"
    with pytest.raises(SignalingError, match="no"):
        await bench.pool.open(other, "switch", timeout=5.0)
    assert (bench.pool.failures, bench.pool.reason) == (0, "")


async def test_a_closed_pool_opens_nothing(bench, make_link):
    link = make_link()
    descriptors = psutil.Process().num_fds()
    link.agent.gate.clear()
    attempt = asyncio.get_running_loop().create_task(bench.pool.open(link, "probe", timeout=5.0))
    await until(lambda: link.agent.asked)
    bench.pool.close("relay stopped")
    link.agent.gate.set()
    with pytest.raises(SignalingError, match="the relay stops"):
        await attempt
    assert bench.pool.channels == {}
    await link.agent.close()
    assert psutil.Process().num_fds() == descriptors


# ---- the end of channels --------------------------------------------------------------------------------


async def test_removing_lets_flows_leave_first_and_tells_once(bench, make_link, events):
    bench.pool.use(make_link())
    (channel,) = await bench.up()
    channel.frames.drop("oversize", 3)
    channel.frames.faults["unsolicited"] += 1
    changes = bench.changes
    for _ in range(2):
        bench.pool.remove(channel, "closed on request")
    assert bench.left == [(channel.id, "tunnel closed")]
    assert closed(events) == [(channel.id, "closed on request", True)]
    assert bench.changes == changes + 1
    assert channel.closed
    assert (bench.pool.lost_drops, bench.pool.lost_faults) == ({"oversize": 3}, {"unsolicited": 1})
    assert bench.policy.members == {}


async def test_a_lost_channel_is_removed_and_replaced(bench, make_link, events):
    link = make_link()
    bench.pool.use(link)
    (channel,) = await bench.up()
    link.agent.close_tunnels()

    def lost():
        channel.send_one(1, b"anybody?")
        return closed(events)

    assert await until(lost) == [(channel.id, "the peer's port is closed", True)]
    assert bench.left == [(channel.id, "tunnel lost")]
    (successor,) = await bench.up()
    assert successor.id == "t2"
    assert [event.source for event in events.of(TunnelOpening)] == ["bootstrap", "bootstrap"]


async def test_channels_of_a_former_agent_linger_and_end(bench, make_link, events):
    bench.pool.use(make_link("old"))
    (old,) = await bench.up()
    bench.pool.use(make_link("new"))
    assert old.stage is Stage.RETIRING
    assert bench.pool.usable() == []
    assert bench.policy.members == {}
    (new,) = await bench.up()
    now = time.monotonic()
    bench.pool.tick(now)
    assert not old.closed
    assert [load.id for load in bench.pool.loads() if load.draining] == [old.id]
    bench.pool.tick(now + LINGER)
    bench.pool.tick(now + LINGER + 1)
    assert closed(events) == [(old.id, "another agent is in use", True)]
    assert bench.pool.usable() == [new]


async def test_a_lingering_channel_that_is_lost_ends_only_once(bench, make_link, events):
    bench.pool.use(make_link("old"))
    (old,) = await bench.up()
    bench.pool.use(None)
    old.on_lost("the peer's port is closed")
    bench.pool.tick(time.monotonic() + LINGER + 1)
    assert closed(events) == [(old.id, "the peer's port is closed", True)]


async def test_closing_the_pool_closes_everything(make, make_link, events):
    bench = make(minimum=2, maximum=2)
    bench.pool.use(make_link())
    channels = await bench.up(2)
    bench.pool.close("relay stopped")
    bench.pool.close("relay stopped")
    assert all(channel.closed for channel in channels)
    assert closed(events) == [(channel.id, "relay stopped", True) for channel in channels]


async def test_a_channel_past_its_lifetime_is_replaced_before_it_leaves(bench, make_link, events):
    bench.pool.use(make_link())
    (old,) = await bench.up()
    old.flows = 1
    bench.step(1, now=time.monotonic() + 101)
    await bench.idle()
    new = bench.pool.channels["t2"]
    assert [(event.tunnel, event.by) for event in events.of(TunnelReplaced)] == [("t1", "t2")]
    (draining,) = events.of(TunnelDraining)
    assert (draining.tunnel, draining.flows, draining.reason) == ("t1", 1, "replaced by t2")
    assert (old.stage, new.stage) == (Stage.DRAINING, Stage.ACTIVE)
    assert bench.left == [("t1", "draining")]
    assert bench.pool.find("t1") is old
    old.flows = 0
    now = time.monotonic()
    bench.step(1, now=now)
    assert (closed(events), old.closed) == ([], False)
    bench.step(1, now=now + pool.LINGER)
    assert closed(events) == [("t1", "drained", True)]


async def test_a_change_of_health_is_told(bench, make_link, events):
    bench.pool.use(make_link())
    (channel,) = await bench.up()
    for _ in range(2):
        channel.health.send_failed(time.monotonic())
    now = time.monotonic()
    bench.pool.tick(now)
    for later in (6, 7, 13):
        channel.health.received(now + later)
        channel.health.answered(now + later)
        channel.tick = lambda now: None
        bench.pool.tick(now + later)
    told = [(event.reason, event.recovered) for event in events.of(TunnelDegraded)]
    assert told == [("2 send errors", False), ("healthy again", True)]


async def test_a_silent_channel_counts_as_missing(bench, make_link, events):
    bench.pool.use(make_link())
    (channel,) = await bench.up()
    channel.tick = lambda now: None
    later = time.monotonic() + 60
    bench.pool.tick(later)
    assert channel.health.grade.name == "STALE"
    bench.step(1, now=later)
    await until(lambda: len(bench.pool.usable()) == 2)


async def test_only_what_is_in_use_can_be_found(bench):
    with pytest.raises(CommandRefused, match="tunnel t9 is not in use"):
        bench.pool.find("t9")
