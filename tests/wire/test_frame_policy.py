"""Exit tunnel decisions, as dialogues of what happens and what is done."""

import pytest

from rtun_core.agent.tunnel_policy import CodecTerms, Step, TunnelPolicy
from rtun_core.wire.relay_frame import CodecKind, RelayCodec

SEED = 0x12345678
BEAT = Step(heartbeat=True)
NOTHING = Step()
T0 = 1000.0


def policy(max_payload=0, *, seed=SEED, agreed=False):
    return TunnelPolicy(CodecTerms(seed, max_payload, agreed), T0)


def heartbeat(kind, seed=SEED):
    return RelayCodec(kind, seed).heartbeat(0x5A)


@pytest.mark.parametrize(
    ("terms", "limit"),
    [
        (CodecTerms(0), 1444),
        (CodecTerms(0, agreed=True), 1444),
        (CodecTerms(SEED, agreed=True), 1442),
        (CodecTerms(SEED), 1443),
    ],
)
def test_the_payload_limit_follows_from_the_header(terms, limit):
    assert terms.payload_limit == limit


def test_seed_0_is_legacy_whatever_else_is_said():
    for tunnel in (policy(seed=0), policy(1442, seed=0), policy(seed=0, agreed=True)):
        assert (tunnel.kind, tunnel.settled) == (CodecKind.LEGACY, True)
        assert tunnel.tick(T0) == BEAT


def test_an_agreement_settles_obfs_v2_at_once():
    tunnel = policy(agreed=True)
    assert (tunnel.kind, tunnel.settled) == (CodecKind.OBFS_V2, True)
    assert tunnel.tick(T0) == BEAT


def test_a_payload_of_1442_starts_obfs_v2_at_once():
    tunnel = policy(1442)
    assert (tunnel.kind, tunnel.settled) == (CodecKind.OBFS_V2, False)
    assert tunnel.tick(T0) == BEAT


def test_otherwise_the_first_heartbeat_is_held_for_three_seconds():
    tunnel = policy(1391)
    dialogue = [tunnel.tick(T0 + at) for at in (0, 1, 2, 2.9)]
    assert dialogue == [NOTHING] * 4
    assert tunnel.kind is None
    assert tunnel.tick(T0 + 3) == BEAT
    assert (tunnel.kind, tunnel.settled) == (CodecKind.OBFS_V2, False)


def test_a_payload_that_leaves_nine_bytes_ends_the_hold_with_obfs_v1():
    tunnel = policy(1443)
    assert tunnel.tick(T0 + 3) == BEAT
    assert tunnel.kind is CodecKind.OBFS_V1


@pytest.mark.parametrize("kind", list(CodecKind))
def test_the_first_frame_of_the_relay_ends_the_hold(kind):
    tunnel = policy()
    assert tunnel.tick(T0) == NOTHING
    assert tunnel.detect(heartbeat(kind), T0 + 0.2)
    assert (tunnel.kind, tunnel.settled) == (kind, True)
    assert tunnel.tick(T0 + 0.2) == BEAT
    assert tunnel.tick(T0 + 1.2) == NOTHING


@pytest.mark.parametrize("kind", [CodecKind.OBFS_V1, CodecKind.TAGGED_9, CodecKind.OBFS_V2])
def test_data_tells_the_form_too(kind):
    tunnel = policy()
    assert tunnel.detect(RelayCodec(kind, SEED).encode(7, b"hello", 1), T0)
    assert tunnel.kind is kind


def test_garbage_settles_nothing():
    tunnel = policy()
    assert not tunnel.detect(b"garbage", T0)
    assert not tunnel.detect(b"", T0)
    assert (tunnel.kind, tunnel.settled) == (None, False)


@pytest.mark.parametrize("max_payload", [1442, 0])
def test_a_wrong_assumption_is_corrected_by_the_first_frame(max_payload):
    tunnel = policy(max_payload)
    assert tunnel.tick(T0 + 3) == BEAT
    assert tunnel.kind is CodecKind.OBFS_V2
    assert tunnel.detect(heartbeat(CodecKind.TAGGED_9), T0 + 3.5)
    assert tunnel.kind is CodecKind.TAGGED_9
    assert tunnel.tick(T0 + 3.5) == BEAT


def test_a_right_assumption_keeps_the_rhythm():
    tunnel = policy(1442)
    assert tunnel.tick(T0) == BEAT
    assert tunnel.detect(heartbeat(CodecKind.OBFS_V2), T0 + 0.1)
    assert tunnel.tick(T0 + 0.1) == NOTHING


def test_heartbeats_keep_three_seconds_with_late_and_early_ticks():
    tunnel = policy(agreed=True)
    ticks = [0.0, 1.01, 2.0, 2.98, 4.02, 5.0, 5.97, 7.1, 8.0, 9.0]
    beats = [at for at in ticks if tunnel.tick(T0 + at) == BEAT]
    assert beats == [0.0, 2.98, 5.97, 9.0]


def test_the_watchdog_closes_after_thirty_seconds_of_silence():
    tunnel = policy(agreed=True)
    tunnel.received(T0 + 5)
    assert tunnel.tick(T0 + 34.9) == BEAT
    assert tunnel.quiet(T0 + 34.9) == pytest.approx(29.9)
    assert tunnel.tick(T0 + 35) == Step(close="no valid frame for 30 s")


def test_the_watchdog_also_runs_when_nothing_ever_came():
    tunnel = policy()
    assert tunnel.tick(T0 + 30).close == "no valid frame for 30 s"


def test_one_refusal_is_forgiven_two_in_a_row_are_not():
    tunnel = policy(agreed=True)
    assert not tunnel.refused(T0)
    assert tunnel.refused(T0 + 3)


def test_a_valid_frame_between_two_refusals_saves_the_tunnel():
    tunnel = policy(agreed=True)
    assert not tunnel.refused(T0)
    tunnel.received(T0 + 0.1)
    assert not tunnel.refused(T0 + 0.2)


def test_refusals_far_apart_are_not_in_a_row():
    tunnel = policy(agreed=True)
    assert not tunnel.refused(T0)
    assert not tunnel.refused(T0 + 3.1)
    assert tunnel.refused(T0 + 4)


def test_a_refusal_is_confirmed_by_an_earlier_heartbeat():
    tunnel = policy(agreed=True)
    assert tunnel.tick(T0) == BEAT
    assert not tunnel.refused(T0 + 0.1)
    assert tunnel.tick(T0 + 1) == BEAT
    assert tunnel.refused(T0 + 1.1)
