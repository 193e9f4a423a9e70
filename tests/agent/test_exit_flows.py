"""The shared flow table: who shares a target socket, which way answers go, and when flows end."""

import errno
import resource
import time
import tracemalloc

import pytest

from rtun_core.agent.exit_flows import MAX_CLOSES
from rtun_core.events import FlowClosed, FlowOpened
from rtun_core.wire.address import Address

pytestmark = pytest.mark.usefixtures("both_ways")


def closed(exit_):
    return [(event.count, event.reason) for event in exit_.events if isinstance(event, FlowClosed)]


async def ask(relay, target, flow=1, payload=b"?"):
    """One uplink datagram; the source address that the target sees."""
    relay.uplink(flow, payload)
    data, source = await target.recv()
    assert data == payload
    return source


async def test_tunnels_of_one_session_share_the_targets_source_port(exit_):
    target = exit_.target()
    _, first = exit_.tunnel(target)
    _, second = exit_.tunnel(target)
    assert await ask(first, target) == await ask(second, target)
    assert len(exit_.flows) == 1


async def test_answers_follow_the_last_uplink(exit_):
    target = exit_.target()
    _, first = exit_.tunnel(target)
    _, second = exit_.tunnel(target)
    source = await ask(first, target)
    target.send(b"one", source)
    assert await first.downlink() == (1, b"one")
    await ask(second, target)
    target.send(b"two", source)
    assert await second.downlink() == (1, b"two")
    await ask(first, target)
    target.send(b"three", source)
    assert await first.downlink() == (1, b"three")
    assert exit_.flows.columns.moves[exit_.flows.columns.slots()].tolist() == [2]


async def test_sessions_with_the_same_flow_and_target_have_their_own_sockets(exit_):
    target = exit_.target()
    _, first = exit_.tunnel(target, session="one")
    _, second = exit_.tunnel(target, session="two")
    sources = [await ask(first, target), await ask(second, target)]
    assert sources[0] != sources[1]
    for source, relay in zip(sources, (first, second), strict=True):
        target.send(b"yours", source)
        assert await relay.downlink() == (1, b"yours")


async def test_another_target_of_the_same_session_is_another_flow(exit_):
    one, two = exit_.target(), exit_.target()
    _, first = exit_.tunnel(one)
    _, second = exit_.tunnel(two)
    await ask(first, one)
    await ask(second, two)
    assert len(exit_.flows) == 2


async def test_a_flow_outlives_its_tunnel_and_finds_back(exit_, until):
    target = exit_.target()
    tunnel, relay = exit_.tunnel(target)
    source = await ask(relay, target)
    tunnel.close()
    target.send(b"lost", source)
    await until(lambda: exit_.drops() == {"no tunnel": 1})
    _, other = exit_.tunnel(target)
    assert await ask(other, target) == source
    target.send(b"found", source)
    assert await other.downlink() == (1, b"found")


async def test_answers_for_several_tunnels_in_one_batch_go_their_ways(exit_):
    target = exit_.target()
    relays = [exit_.tunnel(target, session=str(number))[1] for number in range(3)]
    sources = [await ask(relay, target) for relay in relays]
    for turn in range(10):
        for number, source in enumerate(sources):
            target.send(b"%d %d" % (number, turn), source)
    for number, relay in enumerate(relays):
        assert [await relay.downlink() for _ in range(10)] == [(1, b"%d %d" % (number, t)) for t in range(10)]


async def test_idle_flows_end_by_the_time_out_of_their_own_tunnel(exit_):
    target = exit_.target()
    _, quick = exit_.tunnel(target, session="quick", idle=2)
    _, slow = exit_.tunnel(target, session="slow", idle=20)
    await ask(quick, target)
    await ask(slow, target)
    exit_.tick(2)
    assert len(exit_.flows) == 2
    exit_.tick(0.1)
    assert len(exit_.flows) == 1
    exit_.tick(18)
    assert len(exit_.flows) == 0
    assert closed(exit_) == [(1, "idle"), (1, "idle")]


async def test_traffic_in_either_direction_keeps_a_flow(exit_):
    target = exit_.target()
    _, relay = exit_.tunnel(target, idle=5)
    source = await ask(relay, target)
    for _ in range(3):
        exit_.tick(4)
        target.send(b"still here", source)
        await relay.downlink()
        exit_.tick(4)
        await ask(relay, target)
    assert len(exit_.flows) == 1


async def test_flows_idle_out_when_no_tunnel_is_left(exit_):
    target = exit_.target()
    tunnel, relay = exit_.tunnel(target)
    await ask(relay, target)
    tunnel.close()
    exit_.tick(10.1)
    assert len(exit_.flows) == 0
    assert exit_.flows._scopes == {}


async def test_the_idle_time_out_is_that_of_the_tunnel_last_used(exit_):
    target = exit_.target()
    _, short = exit_.tunnel(target, idle=2)
    _, long = exit_.tunnel(target, idle=20)
    await ask(short, target)
    await ask(long, target)
    exit_.tick(15)
    assert len(exit_.flows) == 1


async def test_a_closed_flow_opens_again_with_the_next_datagram(exit_):
    target = exit_.target()
    _, relay = exit_.tunnel(target)
    await ask(relay, target)
    exit_.tick(11)
    relay.uplink(0)
    source = await ask(relay, target)
    target.send(b"again", source)
    assert await relay.downlink() == (1, b"again")


async def test_beyond_the_limit_new_flows_are_dropped_and_old_ones_live(make_exit, until):
    exit_ = make_exit(max_flows=2)
    target = exit_.target()
    _, relay = exit_.tunnel(target)
    await ask(relay, target, 1)
    await ask(relay, target, 2)
    relay.uplink(3, b"one")
    relay.uplink(3, b"two")
    await until(lambda: exit_.drops() == {"flow limit": 2})
    await ask(relay, target, 1)
    assert len(exit_.flows) == 2


async def test_a_refusing_target_is_counted_and_the_flow_lives(exit_, until):
    target = exit_.target()
    _, relay = exit_.tunnel(target)
    await ask(relay, target)
    target.close()
    relay.uplink(1, b"to nobody")
    await until(lambda: exit_.faults().get("target refused"))
    assert len(exit_.flows) == 1
    assert closed(exit_) == []


async def test_any_other_error_closes_the_flow_and_the_next_datagram_opens_it(exit_):
    target = exit_.target()
    _, relay = exit_.tunnel(target)
    before = await ask(relay, target)
    (handle,) = exit_.flows._slot_of
    exit_.flows._on_error(handle, OSError(errno.EHOSTUNREACH, "No route to host"))
    assert closed(exit_) == [(1, "target: No route to host")]
    assert exit_.faults() == {"target error": 1}
    after = await ask(relay, target)
    assert after != before
    target.send(b"both ways", after)
    assert await relay.downlink() == (1, b"both ways")


@pytest.mark.parametrize(
    ("error", "reason"),
    [(errno.EMFILE, "no descriptors"), (errno.ENETUNREACH, "target unreachable")],
)
async def test_a_socket_that_cannot_be_opened_costs_only_its_datagrams(
    exit_, until, monkeypatch, error, reason
):
    target = exit_.target()
    _, relay = exit_.tunnel(target)

    def fail(_remote):
        raise OSError(error, "no")

    with monkeypatch.context() as patch:
        patch.setattr(exit_.flows._sockets, "open", fail)
        relay.uplink(1, b"lost")
        await until(lambda: exit_.drops() == {reason: 1})
    await ask(relay, target)


async def test_flows_are_closed_by_id_or_all_at_once(exit_):
    target = exit_.target()
    _, relay = exit_.tunnel(target)
    for flow in (1, 2, 3):
        await ask(relay, target, flow)
    assert exit_.flows.close_flows(frozenset({"00000002", "000000ff"})) == 1
    assert exit_.flows.close_flows(None) == 2
    assert exit_.flows.close_flows(None) == 0
    assert closed(exit_) == [(1, "command"), (2, "command")]


async def test_events_tell_of_each_new_flow(exit_):
    target = exit_.target()
    tunnel, relay = exit_.tunnel(target)
    await ask(relay, target, 0xA1)
    assert exit_.events == [
        FlowOpened(
            flow="000000a1", rule=None, source=str(tunnel.remote), target=str(target.address), tunnel="t1"
        )
    ]


async def test_path_places_and_scopes_are_used_again(exit_):
    target = exit_.target()
    for _ in range(5):
        tunnel, relay = exit_.tunnel(target)
        await ask(relay, target)
        tunnel.close()
    assert len(exit_.flows.paths) == 1
    assert len(exit_.flows._scopes) == 1
    assert len(exit_.flows) == 1


async def test_a_new_tunnel_in_an_old_place_gets_no_foreign_answers(exit_, until):
    target = exit_.target()
    tunnel, relay = exit_.tunnel(target, session="one")
    source = await ask(relay, target)
    tunnel.close()
    exit_.tunnel(target, session="two")
    target.send(b"for one", source)
    await until(lambda: exit_.drops() == {"no tunnel": 1})


def descriptors(wanted):
    """Raise the soft limit of open files; whether there are enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted <= hard


@pytest.mark.slow
@pytest.mark.alone
async def test_ten_thousand_flows(make_exit):
    """Bounds on the memory of a flow and on the work of a tick, some ten times what was measured.

    Measured: 0.5 kB a flow, 0.03 ms for a tick that finds nothing, 12 ms for one that closes 2048 flows.
    """
    count = 10_000
    if not descriptors(count + 500):
        pytest.skip("not enough file descriptors")
    exit_ = make_exit(max_flows=count)
    exit_.events = Discard()
    tunnel, _ = exit_.tunnel(Address("127.0.0.1", 9))
    exit_.flows._emit = exit_.events.append
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for flow in range(count):
        exit_.flows._slot(tunnel._at, flow + 1, exit_.clock())
    per_flow = (tracemalloc.get_traced_memory()[0] - before) / count
    tracemalloc.stop()
    assert len(exit_.flows) == count
    assert per_flow < 4096

    started = time.perf_counter()
    for _ in range(10):
        exit_.flows.tick()
    quiet = (time.perf_counter() - started) / 10
    exit_.clock.now += 11
    started = time.perf_counter()
    exit_.flows.tick()
    closing = time.perf_counter() - started
    assert len(exit_.flows) == count - MAX_CLOSES
    assert quiet < 0.01
    assert closing < 0.2
    while len(exit_.flows):
        exit_.flows.tick()


class Discard:
    def append(self, _event):
        pass
