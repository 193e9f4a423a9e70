"""Grading of channels: dialogues on a clock that is just a number."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from rtun_core.relay.health import (
    ERROR_MEMORY,
    LOSS_BAD,
    LOSS_GOOD,
    RECOVERY,
    RTT_FLOOR,
    STALE_WITH_REPORTS,
    STALE_WITHOUT,
    ChannelHealth,
    Grade,
)


class Link:
    """Two ends that exchange reports once a second over a path that loses and reorders."""

    def __init__(self, *, reports=True):
        self.health = ChannelHealth(0.0, reports=reports)
        self.now = 0.0
        self.counts = dict.fromkeys(("sent", "arrived", "peer_sent", "received"), 0)
        self.log = []

    def second(self, *, frames=100, lost_up=0, lost_down=0, rtt=0.05, best=0.05):
        """A second of traffic with its report at the end."""
        self.now += 1.0
        self.carry(frames, lost_up, lost_down)
        self.health.received(self.now)
        self.health.answered(self.now)
        self.health.sample_rtt(rtt)
        self.report()
        return self.judge(best)

    def carry(self, frames, lost_up=0, lost_down=0):
        self.counts["sent"] += frames
        self.counts["arrived"] += frames - lost_up
        self.counts["peer_sent"] += frames
        self.counts["received"] += frames - lost_down

    def report(self, counts=None):
        self.health.sample_counts(**(counts or self.counts))

    def silence(self, seconds, best=0.05):
        self.now += seconds
        return self.judge(best)

    def judge(self, best=0.05):
        changed = self.health.regrade(self.now, best)
        self.log.append((self.now, self.health.grade.name, changed))
        return self.health.grade

    def changes(self):
        return [f"{at:g} {grade}" for at, grade, changed in self.log if changed]


# ---- silence ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reports", "limit"), [(True, STALE_WITH_REPORTS), (False, STALE_WITHOUT)])
def test_a_silent_channel_is_stale_sooner_where_reports_are_expected(reports, limit):
    link = Link(reports=reports)
    assert link.silence(limit) is Grade.GOOD
    assert link.silence(1) is Grade.STALE
    assert link.health.reason == f"silent for {limit + 1:.0f} s"
    assert link.health.quiet(link.now) == limit + 1


def test_a_channel_that_is_heard_but_answers_no_report_is_stale():
    link = Link()
    for _ in range(6):
        link.health.received(link.now)
        link.silence(1)
    assert link.changes() == ["5 STALE"]
    assert link.health.reason == "no answer for 6 s"
    link.second()
    assert link.health.grade is Grade.DEGRADED


def test_heartbeats_alone_keep_a_channel_good_where_no_reports_are_agreed():
    link = Link(reports=False)
    for _ in range(20):
        link.health.received(link.now)
        assert link.silence(3) is Grade.GOOD


def test_a_channel_that_is_heard_again_is_no_longer_stale_and_trusted_after_five_seconds():
    link = Link()
    link.second()
    link.silence(5)
    for _ in range(7):
        link.second()
    assert link.changes() == ["6 STALE", "7 DEGRADED", "13 GOOD"], link.log
    assert link.health.reason == ""


def test_silence_is_told_once_though_its_length_is_kept_up_to_date():
    link = Link()
    for _ in range(9):
        link.silence(1)
    assert link.changes() == ["5 STALE"]
    assert link.health.reason == "silent for 9 s"


# ---- loss ---------------------------------------------------------------------------------------------


def test_without_loss_every_channel_stays_good():
    link = Link()
    for _ in range(60):
        assert link.second() is Grade.GOOD
    assert (link.health.loss_up, link.health.loss_down, link.health.loss) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("way", ["lost_up", "lost_down"])
def test_loss_in_either_direction_degrades_and_heals_with_hysteresis(way):
    link = Link()
    for _ in range(10):
        link.second(**{way: 10})
    assert link.changes() == ["5 DEGRADED"], link.log
    assert link.health.reason.startswith("loss ")
    worst = link.health.loss
    while link.health.loss > LOSS_GOOD:
        assert link.second() is Grade.DEGRADED
    assert worst > LOSS_BAD
    since = link.now
    while link.second() is not Grade.GOOD:
        assert link.now - since < RECOVERY
    assert link.now - since == RECOVERY


def test_loss_between_the_two_limits_changes_nothing():
    link = Link()
    for _ in range(60):
        assert link.second(lost_up=4) is Grade.GOOD
    for _ in range(10):
        link.second(lost_up=30)
    for _ in range(60):
        assert link.second(lost_up=4) is Grade.DEGRADED
    assert LOSS_GOOD < link.health.loss < LOSS_BAD


def test_one_lost_frame_of_an_idle_channel_means_nothing():
    link = Link()
    for second in range(120):
        grade = link.second(frames=2, lost_up=second % 30 == 9, lost_down=second % 30 == 17)
        assert grade is Grade.GOOD, link.log


def test_an_idle_channel_that_loses_half_of_its_frames_is_degraded_within_seconds():
    link = Link()
    for _ in range(6):
        link.second(frames=2, lost_up=1)
    assert link.health.grade is Grade.DEGRADED


def test_frames_that_were_overtaken_are_made_up_for():
    link = Link()
    for _ in range(20):
        late = dict(link.counts)
        link.carry(100)
        late |= {name: link.counts[name] for name in ("sent", "peer_sent")}
        late["arrived"] = link.counts["arrived"] - 3
        late["received"] = link.counts["received"] - 2
        link.now += 1.0
        link.health.received(link.now)
        link.health.answered(link.now)
        link.report(late)
        assert link.judge() is Grade.GOOD
    assert link.health.loss < LOSS_GOOD


def test_a_report_that_was_overtaken_counts_for_nothing():
    link = Link()
    link.second()
    old = dict(link.counts)
    link.carry(100)
    link.carry(100)
    link.report()
    link.report(old | {"received": link.counts["received"]})
    link.second()
    assert (link.health.loss_up, link.health.loss_down) == (0.0, 0.0)


def test_more_arrivals_than_were_sent_are_no_loss():
    link = Link()
    link.second()
    link.second(lost_up=-5, lost_down=-5)
    assert link.health.loss == 0.0


@pytest.mark.parametrize("restarted", [("arrived",), ("peer_sent",), ("arrived", "peer_sent")])
def test_counters_that_start_anew_are_no_loss(restarted):
    link = Link()
    for _ in range(5):
        link.second()
    for name in restarted:
        link.counts[name] = 0
    for _ in range(5):
        assert link.second() is Grade.GOOD
    assert link.health.loss == 0.0
    link.second(lost_up=50, lost_down=50)
    assert link.health.loss == pytest.approx(0.1)


def test_the_first_report_is_only_a_beginning():
    health = ChannelHealth(0.0)
    health.sample_counts(sent=1000, arrived=1, peer_sent=1000, received=1)
    assert (health.loss_up, health.loss_down, health.loss) == (None, None, 0.0)
    health.sample_counts(sent=1000, arrived=1, peer_sent=1000, received=1)
    assert (health.loss_up, health.loss_down) == (None, None)


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 2**64 - 1) | st.integers(0, 500)] * 4), max_size=20))
def test_loss_is_a_share_whatever_the_peer_reports(reports):
    health = ChannelHealth(0.0)
    for sent, arrived, peer_sent, received in reports:
        health.sample_counts(sent=sent, arrived=arrived, peer_sent=peer_sent, received=received)
        assert 0.0 <= health.loss <= 1.0
        assert health.cost >= RTT_FLOOR


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=80, max_size=80), st.floats(0.0, 0.6))
def test_smoothed_loss_follows_a_steady_loss(frames, share):
    link, carried, lost = Link(), 0, 0
    for count in frames:
        carried += count
        missing = round(carried * share) - lost
        lost += missing
        link.second(frames=count, lost_up=missing)
    if carried > 400:
        assert link.health.loss == pytest.approx(share, abs=0.15)


# ---- round-trip time ----------------------------------------------------------------------------------


def test_the_first_round_trip_counts_in_full_and_later_ones_by_a_quarter():
    health = ChannelHealth(0.0)
    assert health.rtt is None
    health.sample_rtt(0.100)
    assert health.rtt == 0.100
    health.sample_rtt(0.200)
    assert health.rtt == pytest.approx(0.125)


def test_a_much_slower_channel_is_degraded_and_comes_back_with_hysteresis():
    link = Link()
    for _ in range(20):
        link.second(rtt=0.250)
    assert link.health.grade is Grade.DEGRADED
    assert link.health.reason.startswith("rtt ")
    for _ in range(60):
        assert link.second(rtt=0.150) is Grade.DEGRADED
    for _ in range(20):
        link.second(rtt=0.100)
    assert link.health.grade is Grade.GOOD
    for _ in range(60):
        assert link.second(rtt=0.150) is Grade.GOOD


def test_small_round_trips_do_not_differ():
    link = Link()
    for _ in range(20):
        assert link.second(rtt=0.040, best=0.0004) is Grade.GOOD


def test_a_round_trip_that_is_not_known_does_not_count_against_a_channel():
    unknown, alone = ChannelHealth(0.0), ChannelHealth(0.0)
    assert not unknown.regrade(1.0, 0.001)
    alone.sample_rtt(2.0)
    assert not alone.regrade(1.0, None)
    assert unknown.cost == RTT_FLOOR


def test_cost_grows_with_round_trip_and_loss():
    near, far, lossy = ChannelHealth(0.0), ChannelHealth(0.0), ChannelHealth(0.0)
    near.sample_rtt(0.02)
    far.sample_rtt(0.04)
    lossy.sample_rtt(0.02)
    lossy.loss_down = 0.1
    assert near.cost == pytest.approx(0.02)
    assert far.cost == pytest.approx(0.04)
    assert lossy.cost == pytest.approx(0.06)


# ---- send errors --------------------------------------------------------------------------------------


def test_one_send_error_is_forgiven_two_degrade():
    link = Link()
    link.second()
    link.health.send_failed(link.now)
    assert link.second() is Grade.GOOD
    link.health.send_failed(link.now)
    assert link.second() is Grade.DEGRADED
    assert link.health.reason == "2 send errors"


def test_send_errors_are_forgotten_after_five_seconds_and_then_five_good_ones_follow():
    link = Link()
    link.second()
    for _ in range(50):
        link.health.send_failed(link.now)
    while link.second() is not Grade.GOOD:
        assert link.now < 60
    assert link.changes() == ["2 DEGRADED", f"{1 + ERROR_MEMORY + RECOVERY:g} GOOD"]


# ---- any history --------------------------------------------------------------------------------------

EVENTS = st.lists(
    st.tuples(
        st.sampled_from([0.2, 1.0, 3.0, 6.0]),
        st.sampled_from(["nothing", "heard", "error", "slow", "fast", "lossy", "clean"]),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(EVENTS, st.booleans())
def test_a_channel_that_got_a_worse_grade_keeps_it_for_five_seconds(events, reports):
    link, trouble, before = Link(reports=reports), None, Grade.GOOD
    for seconds, event in events:
        link.now += seconds
        match event:
            case "heard":
                link.health.received(link.now)
                link.health.answered(link.now)
            case "error":
                link.health.send_failed(link.now)
            case "slow" | "fast":
                link.health.sample_rtt(0.5 if event == "slow" else 0.05)
            case "lossy" | "clean":
                link.carry(50, 20 if event == "lossy" else 0)
                link.report()
        grade = link.judge()
        silent = link.health.quiet(link.now) > (STALE_WITH_REPORTS if reports else STALE_WITHOUT)
        assert (grade is Grade.STALE) == silent, link.log
        assert (grade is Grade.GOOD) == (link.health.reason == ""), link.log
        if grade is Grade.GOOD and before is not Grade.GOOD:
            assert link.now - trouble >= RECOVERY, link.log
        if grade is not Grade.GOOD and before is Grade.GOOD:
            trouble = link.now
        before = grade
