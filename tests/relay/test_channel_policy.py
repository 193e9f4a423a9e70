"""When a channel speaks, in which codec, and when it is lost: dialogues in seconds."""

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given, settings

from rtun_core.relay.channel_policy import (
    DETECT_TIMEOUT,
    HEARTBEAT_INTERVAL,
    RECEIVE_TIMEOUT,
    REFUSAL_MEMORY,
    ChannelPolicy,
)
from rtun_core.wire.relay_frame import CodecKind, RelayCodec

SEED = 0x12345678
T0 = 1000.0


def channel(*, seed=SEED, agreed=CodecKind.OBFS_V2):
    return ChannelPolicy(seed=seed, agreed=agreed, now=T0)


def beats(policy, ticks):
    return [at for at in ticks if policy.heartbeat_due(T0 + at)]


def play(policy, script):
    """Run `time event -> answer` lines: `tick`, `frame`, `refused`; compare the whole dialogue."""
    lines = [" ".join(line.split()) for line in script.strip().splitlines()]
    heard = []
    for line in lines:
        event = line.split(" -> ")[0]
        at, verb = event.split()
        heard.append(f"{event} -> {happen(policy, T0 + float(at), verb)}")
    assert "\n".join(heard) == "\n".join(lines)


def happen(policy, now, verb):
    match verb:
        case "frame":
            policy.received(now)
            return "nothing"
        case "refused":
            return "gone" if policy.refused(now) else "nothing"
        case "tick":
            if reason := policy.lost(now):
                return reason
            return "heartbeat" if policy.heartbeat_due(now) else "nothing"
    raise AssertionError(verb)


# ---- codec --------------------------------------------------------------------------------------------


def frame(kind, *, data, seed=SEED, nonce=0x5A):
    codec = RelayCodec(kind, seed)
    return codec.encode(7, b"hello", nonce) if data else codec.heartbeat(nonce)


@pytest.mark.parametrize("kind", list(CodecKind))
@pytest.mark.parametrize("nonce", [0, 0x5A, 0xFF])
def test_the_first_heartbeat_tells_the_generation(kind, nonce):
    policy = channel(agreed=None)
    assert policy.codec is None
    codec = policy.first_frame(frame(kind, data=False, nonce=nonce))
    assert codec.kind is kind
    assert policy.codec is codec
    assert codec.seed == SEED


@pytest.mark.parametrize("kind", [CodecKind.OBFS_V1, CodecKind.TAGGED_9, CodecKind.OBFS_V2])
def test_data_tells_the_generation_too(kind):
    assert channel(agreed=None).first_frame(frame(kind, data=True)).kind is kind


@settings(deadline=None)
@given(st.integers(1, 2**32 - 1), st.integers(0, 255), st.sampled_from(CodecKind))
def test_every_seed_and_nonce_is_told_apart(seed, nonce, kind):
    heartbeat = frame(kind, data=False, seed=seed, nonce=nonce)
    assume(
        kind is CodecKind.OBFS_V1 or heartbeat != frame(CodecKind.OBFS_V1, data=False, seed=seed, nonce=nonce)
    )
    assert channel(seed=seed, agreed=None).first_frame(heartbeat).kind is kind


@pytest.mark.parametrize("garbage", [b"", b"x", bytes(9), b"garbage that is no frame", bytes(7)])
def test_garbage_tells_nothing(garbage):
    policy = channel(agreed=None)
    assert policy.first_frame(garbage) is None
    assert policy.codec is None
    assert policy.first_frame(frame(CodecKind.TAGGED_9, data=False)).kind is CodecKind.TAGGED_9


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_no_datagram_breaks_detection(datagram):
    policy = channel(agreed=None)
    codec = policy.first_frame(datagram)
    assert codec is policy.codec


def test_what_was_told_or_agreed_stays():
    agreed, told = channel(), channel(agreed=None)
    told.first_frame(frame(CodecKind.OBFS_V1, data=False))
    for policy, kind in ((agreed, CodecKind.OBFS_V2), (told, CodecKind.OBFS_V1)):
        assert policy.first_frame(frame(CodecKind.TAGGED_9, data=False)).kind is kind
        assert policy.assume_codec().kind is kind


def test_a_silent_peer_is_taken_for_the_newest_generation():
    assert channel(agreed=None).assume_codec().kind is CodecKind.OBFS_V2
    assert DETECT_TIMEOUT > HEARTBEAT_INTERVAL  # a lost first heartbeat leaves time for the next


@pytest.mark.parametrize("agreed", [None, *CodecKind])
def test_seed_0_is_legacy_whatever_was_agreed(agreed):
    policy = channel(seed=0, agreed=agreed)
    assert policy.codec.kind is CodecKind.LEGACY
    assert policy.assume_codec().kind is CodecKind.LEGACY


# ---- heartbeats ---------------------------------------------------------------------------------------


def test_the_first_heartbeat_is_due_at_once_and_then_every_three_seconds():
    assert beats(channel(), [at / 10 for at in range(100)]) == [0.0, 3.0, 6.0, 9.0]


def test_asking_again_at_the_same_moment_gives_no_second_heartbeat():
    policy = channel()
    assert beats(policy, [0.0, 0.0, 3.0, 3.0, 40.0, 40.0, 40.0]) == [0.0, 3.0, 40.0]


def test_late_ticks_keep_the_rhythm():
    assert beats(channel(), [0.0, 1.04, 2.09, 3.1, 4.2, 5.3, 6.02, 7.0, 8.0, 9.5]) == [0.0, 3.1, 6.02, 9.5]


def test_after_a_long_pause_there_is_one_heartbeat_and_no_burst():
    ticks = [0.0, 61.5, 62.5, 63.5, 64.5, 65.5]
    assert beats(channel(), ticks) == [0.0, 61.5, 64.5]


def test_nothing_is_sent_before_the_codec_is_known():
    policy = channel(agreed=None)
    assert beats(policy, [0.0, 1.0, 2.0]) == []
    policy.first_frame(frame(CodecKind.OBFS_V1, data=False))
    assert beats(policy, [2.1, 3.1, 4.1, 5.1, 6.1]) == [2.1, 3.1, 6.1]


def test_a_codec_that_had_to_be_assumed_starts_a_rhythm_of_its_own():
    policy = channel(agreed=None)
    policy.assume_codec()
    assert beats(policy, [4.0, 5.0, 6.0, 7.0, 8.0]) == [4.0, 7.0]


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=60))
def test_heartbeats_come_often_enough_and_never_in_bursts(pauses):
    policy, now, sent = channel(), T0, []
    for pause in pauses:
        now += pause
        since = now - sent[-1] if sent else HEARTBEAT_INTERVAL
        due = policy.heartbeat_due(now)
        assert due or since < HEARTBEAT_INTERVAL + 1e-6
        if due:
            sent.append(now)
    # A late heartbeat may be followed early by the next one of the rhythm, but only by one.
    assert len(sent) <= (now - T0) / HEARTBEAT_INTERVAL + 1 + 1e-6
    for first, third in zip(sent, sent[2:], strict=False):
        assert third - first >= HEARTBEAT_INTERVAL - 1e-6


# ---- the end ------------------------------------------------------------------------------------------


def test_thirty_seconds_of_silence_end_a_channel():
    policy = channel()
    policy.received(T0 + 5)
    assert policy.lost(T0 + 5 + RECEIVE_TIMEOUT - 0.01) is None
    assert policy.lost(T0 + 35) == "nothing received for 30 s"
    assert policy.lost(T0 + 36.2) == "nothing received for 31 s"


def test_a_channel_that_never_heard_anything_ends_too():
    policy = channel(agreed=None)
    assert policy.lost(T0 + 29.9) is None
    assert policy.lost(T0 + 30) == "nothing received for 30 s"


def test_one_late_refusal_of_the_connecting_phase_is_forgiven():
    play(
        channel(),
        """
        0 tick -> heartbeat
        0.05 refused -> nothing
        0.1 frame -> nothing
        0.2 refused -> nothing
        1 tick -> heartbeat
        1.1 frame -> nothing
        2 tick -> nothing
        4 tick -> heartbeat
        """,
    )


def test_an_idle_channel_whose_peer_is_gone_ends_within_seconds():
    play(
        channel(),
        """
        0 tick -> heartbeat
        0.1 frame -> nothing
        3 tick -> heartbeat
        3.001 refused -> nothing
        4 tick -> heartbeat
        4.001 refused -> gone
        """,
    )


def test_refusals_of_data_end_a_channel_at_once():
    policy = channel()
    assert not policy.refused(T0 + 1)
    assert policy.refused(T0 + 1.001)


def test_refusals_far_apart_do_not_add_up():
    policy = channel()
    assert not policy.refused(T0)
    assert not policy.refused(T0 + REFUSAL_MEMORY)
    assert policy.refused(T0 + REFUSAL_MEMORY + 1)


def test_a_peer_that_is_gone_is_noticed_by_the_watchdog_when_nothing_refuses():
    policy = channel()
    answers = [happen(policy, T0 + at, "tick") for at in range(31)]
    assert answers == ["heartbeat", "nothing", "nothing"] * 10 + ["nothing received for 30 s"]
