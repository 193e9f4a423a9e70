"""What holds for a channel pool in any state, and whatever happens to it in whatever order."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rtun_core.relay.pool import (
    IDLE_GRACE,
    LINGER,
    OPEN_TIMEOUT,
    OPEN_TIMEOUT_MAX,
    Close,
    Drain,
    Open,
    PoolPolicy,
    PoolView,
)


def pool(minimum, maximum, *, lifetime, retry=2.0):
    return PoolPolicy(minimum=minimum, maximum=maximum, lifetime=lifetime, retry_interval=retry)


# ---- any state ----------------------------------------------------------------------------------------


@st.composite
def channels(draw):
    """Channels as (age, silent, draining, flows), oldest first; what drains without flows always had none."""
    one_channel = st.tuples(st.floats(0, 40), st.booleans(), st.booleans(), st.integers(0, 2))
    return sorted(draw(st.lists(one_channel, max_size=6)), key=lambda each: -each[0])


@settings(deadline=None)
@given(channels(), st.integers(0, 3), st.integers(1, 4), st.booleans(), st.booleans())
def test_one_step_from_any_state_is_sound(states, minimum, maximum, demand, online):
    policy, now = pool(min(minimum, maximum), maximum, lifetime=30.0), 1000.0
    seen = PoolView({}, sum(state[3] for state in states), demand=demand and not states, can_open=online)
    for index, (age, silent, draining, count) in enumerate(states):
        policy.adopt(f"T{index}", now - age)
        policy.members[f"T{index}"].draining = draining
        policy.members[f"T{index}"].empty_since = now - age if draining and not count else None
        seen = seen._replace(
            flows=seen.flows | {f"T{index}": count},
            silent=seen.silent | ({f"T{index}"} if silent else set()),
        )
    before, wanted = {member.id for member in policy.active()}, policy.wanted(seen.total_flows)
    empty = {m.id: now - m.empty_since for m in policy.members.values() if m.empty_since is not None}
    actions = policy.step(now, seen)
    drained = {action.id for action in actions if isinstance(action, Drain)}
    opens = [action for action in actions if isinstance(action, Open)]
    healthy = before - seen.silent
    if drained:
        assert len(healthy - drained) >= wanted, "what is needed drains"
    assert all(now - policy.members[each].opened_at >= IDLE_GRACE for each in drained)
    closed = {action.id for action in actions if isinstance(action, Close)}
    assert closed == {channel for channel, seconds in empty.items() if seconds >= LINGER}
    assert len(opens) <= online
    left = {member.id for member in policy.active()}
    assert left == before - drained
    if opens:
        assert not left or len(policy.members) < 2 * max(wanted, 1), "unbounded"
    elif online and len(policy.members) < 2 * max(wanted, 1):
        assert len(left - seen.silent) >= wanted, "too few and nothing done"
    elif online and wanted:
        assert left, "nothing in use and nothing done"


# ---- any order of events ------------------------------------------------------------------------------


class PoolMachine(RuleBasedStateMachine):
    """A pool and its world: attempts end somehow, channels fall silent and die, flows come and go."""

    @initialize(limits=st.tuples(st.integers(0, 3), st.integers(1, 4)).map(sorted), retry=st.floats(0, 5))
    def begin(self, limits, retry):
        minimum, maximum = limits[0], max(1, limits[1])
        self.pool = pool(minimum, maximum, lifetime=30.0, retry=retry)
        self.now, self.number, self.asked_drains, self.largest = 0.0, 0, 0, maximum
        self.flows, self.silent, self.draining = {}, set(), set()
        self.empty_since = {}  # of draining channels, as the pool could see it at its steps
        self.attempt, self.attempt_at, self.failed_at = None, 0.0, None
        self.settle()

    def perform(self, actions):
        for action in actions:
            match action:
                case Open():
                    assert self.attempt is None, "two attempts at a time"
                    assert action.replaces is None or action.replaces in self.flows
                    assert OPEN_TIMEOUT <= action.timeout <= OPEN_TIMEOUT_MAX
                    if self.failed_at is not None:
                        assert self.now >= self.failed_at + self.pool.retry_interval, "hold-off ignored"
                    self.attempt, self.attempt_at = action, self.now
                case Drain(channel, _):
                    assert channel not in self.draining, "drained twice"
                    self.draining.add(channel)
                case Close(channel, _):
                    assert channel in self.draining
                    assert not self.flows.pop(channel), "closed with flows"
                    assert self.now - self.empty_since.pop(channel) >= LINGER, "closed too early"
                    self.draining.discard(channel)

    @rule(seconds=st.sampled_from([0.0, 1.0, 2.5, 6.0]), demand=st.booleans(), offline=st.integers(0, 9))
    def step(self, seconds, demand, offline):
        online = offline < 9
        self.now += seconds
        self.leave_draining()
        self.look(demand=demand and not self.flows, online=online)

    def look(self, *, demand, online=True):
        total = sum(self.flows.values())
        before, healthy = self.in_use(), [each for each in self.in_use() if each not in self.silent]
        young = {m.id for m in self.pool.members.values() if self.now - m.opened_at < IDLE_GRACE}
        seen = PoolView(dict(self.flows), total, frozenset(self.silent), demand=demand, can_open=online)
        self.watch_draining()
        actions = self.pool.step(self.now, seen)
        self.perform(actions)
        assert all(self.now - since < LINGER for since in self.empty_since.values()), "closed too late"
        drained = {action.id for action in actions if isinstance(action, Drain)}
        assert not drained & young, "drained in the grace time"
        wanted = self.pool.wanted(total)
        if drained:
            assert sum(each not in drained for each in healthy) >= wanted, "drained what is needed"
            assert len(before) > wanted
        opened = any(isinstance(action, Open) for action in actions)
        assert online or not opened

    def watch_draining(self):
        """Note since when each draining channel is without flows."""
        empty = [channel for channel in self.draining if not self.flows[channel]]
        self.empty_since = {channel: self.empty_since.get(channel, self.now) for channel in empty}

    def leave_draining(self):
        """What the router does: flows leave a draining channel when another one exists."""
        targets = self.in_use()
        for channel in sorted(self.draining):
            if targets and self.flows[channel]:
                self.flows[targets[0]] += self.flows[channel]
                self.flows[channel] = 0

    def in_use(self):
        return [channel for channel in self.flows if channel not in self.draining]

    @precondition(lambda self: self.attempt is not None)
    @rule()
    def opened(self):
        self.number += 1
        name = f"T{self.number}"
        self.flows[name], self.attempt, self.failed_at = 0, None, None
        self.perform(self.pool.opened(name, self.now))
        assert name in [member.id for member in self.pool.active()]

    @precondition(lambda self: self.attempt is not None)
    @rule()
    def failed(self):
        self.attempt, self.failed_at = None, self.attempt_at
        self.pool.open_failed(self.now)

    @precondition(lambda self: self.flows)
    @rule(data=st.data(), count=st.integers(0, 5))
    def traffic(self, data, count):
        self.flows[data.draw(st.sampled_from(self.in_use() or sorted(self.flows)))] = count

    @precondition(lambda self: self.flows)
    @rule(data=st.data())
    def hush(self, data):
        self.silent ^= {data.draw(st.sampled_from(sorted(self.flows)))}

    @precondition(lambda self: self.flows)
    @rule(data=st.data())
    def lost(self, data):
        channel = data.draw(st.sampled_from(sorted(self.flows)))
        del self.flows[channel]
        self.draining.discard(channel)
        self.pool.lost(channel)

    @precondition(lambda self: self.flows)
    @rule(data=st.data(), how=st.sampled_from(["drain", "recycle"]))
    def command(self, data, how):
        channel = data.draw(st.sampled_from(sorted(self.flows)))
        if how == "recycle":
            self.pool.recycle(channel)
            return
        actions = self.pool.drain(channel, "requested")
        self.asked_drains += len(actions)
        self.perform(actions)

    @rule()
    def quiet(self):
        self.flows = dict.fromkeys(self.flows, 0)

    def teardown(self):
        if hasattr(self, "pool"):
            self.settle()

    def settle(self):
        """Everything works from now on: the pool reaches the wanted number and rests."""
        self.silent.clear()
        for _ in range(60):
            self.now += 1.0
            self.leave_draining()
            self.look(demand=False)
            if self.attempt is not None:
                had = len(self.in_use())
                self.opened()
                assert self.in_use(), "a rotation left nothing"
                assert len(self.in_use()) >= had
        assert len(self.pool.active()) >= self.pool.wanted(sum(self.flows.values()))
        # drained ones that linger are about to close, while rotation goes on
        members = sum(member.empty_since is None for member in self.pool.members.values())
        assert members <= self.pool.wanted(sum(self.flows.values())) + 1, "a surplus stays"

    @invariant()
    def bounded(self):
        assert set(self.pool.members) == set(self.flows)
        assert len(self.flows) <= 2 * self.largest + self.asked_drains
        assert (self.pool.attempt is None) == (self.attempt is None)


PoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestAnyOrderOfEvents = PoolMachine.TestCase


@pytest.mark.parametrize(("minimum", "maximum"), [(0, 1), (1, 1), (2, 4)])
def test_rotating_for_an_hour_never_leaves_the_rule_without_a_channel(minimum, maximum):
    policy, number, up = pool(minimum, maximum, lifetime=20.0), 0, {}
    for second in range(3600):
        targets = [channel for channel in up if not policy.members[channel].draining]
        up = {channel: 5 if channel in targets[:1] else 0 for channel in up}
        for action in policy.step(float(second), PoolView(dict(up), 5)):
            if isinstance(action, Open):
                number += 1
                up[f"T{number}"] = 0
                policy.opened(f"T{number}", float(second))
            elif isinstance(action, Close):
                del up[action.id]
        assert policy.active(), f"nothing in use at second {second}"
        assert len(up) <= 2 * maximum
    assert number >= 3600 // 20
