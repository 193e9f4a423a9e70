"""Property tests: streams through WebSockets that are cut at random, against our own end and the original."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtun_core.wire.rtunnel_terms import Role, SessionConfig, State
from tests.wire.rtunnel_world import GoSide, OurSide, World

SEEDS = st.integers(0, 2**32)
SIZES = st.sampled_from([0, 1, 100, 16_384, 16_385, 200_000, 3_000_000])
STEPS = st.sampled_from([0, 100, 600, 2_000])


def content(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, up=SIZES, down=SIZES, steps=STEPS)
def test_own_ends_carry_both_streams_through_any_cuts(seed: int, up: int, down: int, steps: int) -> None:
    left = OurSide(Role.CLIENT, content(up, 1), half_close=True)
    right = OurSide(Role.SERVER, content(down, 2), half_close=True)
    world = World(left, right, seed)
    world.disturbed(steps)
    world.quiet()
    assert (right.got == content(up, 1), left.got == content(down, 2)) == (True, True)
    assert (left.saw_eof, right.saw_eof) == (True, True)
    assert left.closed == right.closed == ("done", False)
    assert left.session.counters.duplicates == right.session.counters.duplicates == 0


@settings(max_examples=80, deadline=None)
@given(seed=SEEDS, up=SIZES, down=SIZES, steps=STEPS, role=st.sampled_from(Role))
def test_the_original_gets_and_gives_its_stream(
    seed: int, up: int, down: int, steps: int, role: Role
) -> None:
    ours = OurSide(role, content(up, 1), half_close=False, end=False)
    theirs = GoSide(content(down, 2), random.Random(seed + 1))
    world = World(ours, theirs, seed)
    world.disturbed(steps)
    world.quiet()
    assert not theirs.peer.frozen
    assert (content(up, 1).startswith(theirs.got), content(down, 2).startswith(ours.got)) == (True, True)
    if ours.session.end is not None:  # cut before the two had exchanged a first packet
        assert ours.session.end == ("stale" if role is Role.SERVER else "lost", True)
        return
    assert (len(theirs.got), len(ours.got)) == (up, down)
    assert ours.session.state is State.OPEN
    assert ours.session.unacknowledged == 0
    assert not theirs.peer.window
    assert theirs.peer.duplicates == 0


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, up=SIZES, down=SIZES)
def test_after_the_first_round_trip_no_cut_ends_a_session_with_the_original(
    seed: int, up: int, down: int
) -> None:
    for role in Role:
        ours = OurSide(role, content(up, 1), half_close=False, end=False)
        theirs = GoSide(content(down, 2), random.Random(seed + 1))
        world = World(ours, theirs, seed)
        world.quiet(2)
        while up and not theirs.got:  # the original reads nothing while its TCP is stalled
            world.quiet(1)
        world.quiet(1)
        world.disturbed(1_000)
        world.quiet()
        assert (len(theirs.got), len(ours.got)) == (up, down)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, up=SIZES, down=SIZES)
def test_own_ends_that_agreed_on_nothing_keep_the_streams_whole(seed: int, up: int, down: int) -> None:
    config = SessionConfig(probe_timeout=5.0)
    left = OurSide(Role.CLIENT, content(up, 1), half_close=False, end=False, config=config)
    right = OurSide(Role.SERVER, content(down, 2), half_close=False, end=False, config=config)
    world = World(left, right, seed)
    world.quiet(2)
    world.disturbed(600)
    world.quiet(800)
    assert (right.got == content(up, 1), left.got == content(down, 2)) == (True, True)


@pytest.mark.parametrize("role", list(Role))
def test_a_consumer_that_pauses_costs_the_wire_nothing(role: Role) -> None:
    size = 6_000_000
    ours = OurSide(role, content(size, 1), half_close=False, end=False)
    theirs = GoSide(b"", random.Random(1))
    world = World(ours, theirs, 1)
    world.quiet(4)
    theirs.peer.stalled = True
    for _ in range(100):
        ours.application(world.now, world.rng)
        world.pump(0)
        world.deliver(0, 1_000)
        world.now += 0.1
    assert ours.session.room == 0
    world.quiet()
    assert len(theirs.got) == size
    assert theirs.peer.duplicates == 0
    assert world.wire_bytes[0] < 1.01 * size


@pytest.mark.parametrize("half_close", [True, False])
def test_a_slow_local_tcp_stops_the_peer_after_one_window(half_close: bool) -> None:
    left = OurSide(Role.CLIENT, content(20_000_000, 1), half_close=half_close)
    right = OurSide(Role.SERVER, b"", half_close=half_close)
    world = World(left, right, 1)
    world.connect()
    for _ in range(500):
        left.application(world.now, world.rng)
        for index in (0, 1):
            world.pump(index)
            world.deliver(index, 1_000)
        world.now += 0.05
    limit = 4 * 1024 * 1024 if half_close else 128 * 16_384
    assert limit * 0.8 < right.session.unread <= limit
    assert left.session.room == 0
    assert left.session.unacknowledged <= limit + 262_144
    world.quiet(800)
    assert right.got == content(20_000_000, 1)
