"""When an end of a channel beats, in which form, and when it gives up: dialogues in seconds."""

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given

from rtun_core.wire.frame_policy import HEARTBEAT, REFUSED_WINDOW, WATCHDOG, FramePolicy, FrameTerms, Step
from rtun_core.wire.relay_frame import CodecKind, RelayCodec

SEED = 0x12345678
BEAT = Step(heartbeat=True)
NOTHING = Step()
T0 = 1000.0


def policy(settled=None, *, seed=SEED, **terms):
    return FramePolicy(FrameTerms(seed=seed, settled=settled, **terms), T0)


def agreed():
    return policy(CodecKind.OBFS_V2)


def heartbeat(kind, seed=SEED, nonce=0x5A):
    return RelayCodec(kind, seed).heartbeat(nonce)


def play(end, script):
    """Run `time event -> answer` lines: `tick`, `frame`, `refused`; compare the whole dialogue."""
    lines = [" ".join(line.split()) for line in script.strip().splitlines()]
    heard = []
    for line in lines:
        event = line.split(" -> ")[0]
        at, verb = event.split()
        heard.append(f"{event} -> {happen(end, T0 + float(at), verb)}")
    assert "\n".join(heard) == "\n".join(lines)


def happen(end, now, verb):
    match verb:
        case "frame":
            end.received(now)
            return "nothing"
        case "refused":
            return "gone" if end.refused(now) else "nothing"
        case "tick":
            step = end.tick(now)
            return step.close or ("heartbeat" if step.heartbeat else "nothing")
    raise AssertionError(verb)


# ---- form ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(CodecKind))
def test_a_settled_form_is_spoken_at_once(kind):
    end = policy(kind, guess=CodecKind.OBFS_V1)
    assert (end.kind, end.settled) == (kind, True)
    assert end.tick(T0) == BEAT


@pytest.mark.parametrize("kind", list(CodecKind))
def test_a_guess_is_spoken_at_once_and_not_settled(kind):
    end = policy(guess=kind)
    assert (end.kind, end.settled) == (kind, False)
    assert end.tick(T0) == BEAT


def test_otherwise_the_first_heartbeat_is_held_for_three_seconds():
    end = policy()
    dialogue = [end.tick(T0 + at) for at in (0, 1, 2, 2.9)]
    assert dialogue == [NOTHING] * 4
    assert end.kind is None
    assert end.tick(T0 + 3) == BEAT
    assert (end.kind, end.settled) == (CodecKind.OBFS_V2, False)


def test_the_hold_lasts_and_ends_as_the_terms_say():
    end = policy(hold=5.0, fallback=CodecKind.OBFS_V1)
    assert end.tick(T0 + 4.9) == NOTHING
    assert end.tick(T0 + 5) == BEAT
    assert end.kind is CodecKind.OBFS_V1


def test_a_form_that_had_to_be_assumed_starts_a_rhythm_of_its_own():
    play(
        policy(hold=4.0),
        """
        0 tick -> nothing
        3 tick -> nothing
        4 tick -> heartbeat
        5 tick -> nothing
        6 tick -> nothing
        7 tick -> heartbeat
        """,
    )


@pytest.mark.parametrize("kind", list(CodecKind))
@pytest.mark.parametrize("nonce", [0, 0x5A, 0xFF])
def test_the_first_frame_of_the_peer_ends_the_hold(kind, nonce):
    end = policy()
    assert end.tick(T0) == NOTHING
    assert end.detect(heartbeat(kind, nonce=nonce), T0 + 0.2)
    assert (end.kind, end.settled) == (kind, True)
    assert end.tick(T0 + 0.2) == BEAT
    assert end.tick(T0 + 1.2) == NOTHING


@pytest.mark.parametrize("kind", [CodecKind.OBFS_V1, CodecKind.TAGGED_9, CodecKind.OBFS_V2])
def test_data_tells_the_form_too(kind):
    end = policy()
    assert end.detect(RelayCodec(kind, SEED).encode(7, b"hello", 1), T0)
    assert end.kind is kind


@given(st.integers(1, 2**32 - 1), st.integers(0, 255), st.sampled_from(CodecKind))
def test_every_seed_and_nonce_is_told_apart(seed, nonce, kind):
    first = heartbeat(kind, seed, nonce)
    assume(kind is CodecKind.OBFS_V1 or first != heartbeat(CodecKind.OBFS_V1, seed, nonce))
    end = policy(seed=seed)
    assert end.detect(first, T0)
    assert end.kind is kind


@pytest.mark.parametrize("garbage", [b"", b"x", bytes(7), bytes(9), b"garbage that is no frame"])
def test_garbage_settles_nothing(garbage):
    end = policy()
    assert not end.detect(garbage, T0 + 1)
    assert (end.kind, end.settled) == (None, False)
    assert end.quiet(T0 + 1) == 1
    assert end.detect(heartbeat(CodecKind.TAGGED_9), T0 + 1)
    assert end.kind is CodecKind.TAGGED_9


@given(st.integers(0, 2**32 - 1), st.none() | st.sampled_from(CodecKind), st.binary(max_size=64))
def test_no_datagram_breaks_detection(seed, guess, datagram):
    end = policy(seed=seed, guess=guess)
    found = end.detect(datagram, T0)
    assert end.settled == found
    assert found or end.kind is guess


@pytest.mark.parametrize("terms", [{"guess": CodecKind.OBFS_V2}, {}], ids=["guessed", "held"])
def test_a_wrong_assumption_is_corrected_by_the_first_frame(terms):
    end = policy(**terms)
    assert end.tick(T0 + 3) == BEAT
    assert end.kind is CodecKind.OBFS_V2
    assert end.detect(heartbeat(CodecKind.TAGGED_9), T0 + 3.5)
    assert end.kind is CodecKind.TAGGED_9
    assert end.tick(T0 + 3.5) == BEAT


def test_a_right_assumption_keeps_the_rhythm():
    end = policy(guess=CodecKind.OBFS_V2)
    assert end.tick(T0) == BEAT
    assert end.detect(heartbeat(CodecKind.OBFS_V2), T0 + 0.1)
    assert end.settled
    assert end.tick(T0 + 0.1) == NOTHING


# ---- heartbeats ---------------------------------------------------------------------------------------


def test_heartbeats_keep_three_seconds_with_late_and_early_ticks():
    end = agreed()
    ticks = [0.0, 1.01, 2.0, 2.98, 4.02, 5.0, 5.97, 7.1, 8.0, 9.0]
    beats = [at for at in ticks if end.tick(T0 + at) == BEAT]
    assert beats == [0.0, 2.98, 5.97, 9.0]


def test_after_a_long_pause_there_is_one_heartbeat_and_no_burst():
    end = agreed()
    end.received(T0 + 60)
    ticks = [0.0, 61.5, 61.5, 62.5, 63.5, 64.5]
    assert [at for at in ticks if end.tick(T0 + at) == BEAT] == [0.0, 61.5, 64.5]


@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=60))
def test_heartbeats_come_often_enough_and_never_in_bursts(pauses):
    end, now, last = agreed(), T0, None
    for pause in pauses:
        now += pause
        end.received(now)
        beats = end.tick(now) == BEAT
        since = HEARTBEAT if last is None else now - last
        assert beats or since < HEARTBEAT
        assert not beats or since >= HEARTBEAT - 0.5 - 1e-6
        last = now if beats else last


# ---- the end ------------------------------------------------------------------------------------------


def test_the_watchdog_closes_after_thirty_seconds_of_silence():
    end = agreed()
    end.received(T0 + 5)
    assert end.tick(T0 + 34.9) == BEAT
    assert end.quiet(T0 + 34.9) == pytest.approx(29.9)
    assert end.tick(T0 + 35) == Step(close="no valid frame for 30 s")


@pytest.mark.parametrize("settled", [None, CodecKind.OBFS_V2])
def test_the_watchdog_also_runs_when_nothing_ever_came(settled):
    end = policy(settled)
    assert end.tick(T0 + WATCHDOG - 0.1).close is None
    assert end.tick(T0 + WATCHDOG).close == "no valid frame for 30 s"


def test_the_frame_that_tells_the_form_is_a_valid_frame():
    end = policy()
    assert end.detect(heartbeat(CodecKind.OBFS_V1), T0 + 30.5)
    assert end.quiet(T0 + 30.5) == 0
    assert end.tick(T0 + 30.5) == BEAT


def test_one_refusal_is_forgiven_two_in_a_row_are_not():
    end = agreed()
    assert not end.refused(T0)
    assert end.refused(T0 + REFUSED_WINDOW)


def test_refusals_far_apart_are_not_in_a_row():
    end = agreed()
    assert not end.refused(T0)
    assert not end.refused(T0 + REFUSED_WINDOW + 0.1)
    assert end.refused(T0 + 4)


def test_one_late_refusal_of_the_ice_phase_is_forgiven():
    play(
        agreed(),
        """
        0 tick -> heartbeat
        0.05 refused -> nothing
        0.1 frame -> nothing
        0.2 refused -> nothing
        1.1 tick -> heartbeat
        1.2 frame -> nothing
        2 tick -> nothing
        4.1 tick -> heartbeat
        """,
    )


def test_the_frame_that_tells_the_form_pardons_a_refusal():
    end = policy()
    assert not end.refused(T0)
    assert end.detect(heartbeat(CodecKind.OBFS_V2), T0 + 0.1)
    assert not end.refused(T0 + 0.2)


def test_an_idle_channel_whose_peer_is_gone_ends_within_seconds():
    play(
        agreed(),
        """
        0 tick -> heartbeat
        0.1 frame -> nothing
        3 tick -> heartbeat
        3.001 refused -> nothing
        4 tick -> heartbeat
        4.001 refused -> gone
        """,
    )


def test_a_refusal_does_not_delay_a_heartbeat_that_is_due_sooner():
    end = agreed()
    assert end.tick(T0) == BEAT
    assert not end.refused(T0 + 2.9)
    assert end.tick(T0 + 3) == BEAT


def test_a_peer_that_is_gone_is_noticed_by_the_watchdog_when_nothing_refuses():
    end = agreed()
    answers = [happen(end, T0 + at, "tick") for at in range(31)]
    assert answers == ["heartbeat", "nothing", "nothing"] * 10 + ["no valid frame for 30 s"]
