"""Which agent carries the relay: dialogues in seconds, on a clock that is just a number."""

import re

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from rtun_core.relay.agent_choice import (
    BLOCK_FIRST_MS,
    BLOCK_MAX_MS,
    REPLACEMENT_WINDOW_MS,
    WORTHWHILE_MS,
    AgentPolicy,
    entry_id,
    rank,
)
from rtun_core.wire.signal_json import NEVER, AgentEntry

NEW, OLD = "22222222", "11111111"


def agent(name, expires=None, *, instance=NEW, addr="192.0.2.1:5"):
    """A registry entry; `expires` in seconds, None for never."""
    return AgentEntry(name, addr, NEVER if expires is None else int(expires * 1000), instance)


def policy(*entries, using=None, pattern=".*"):
    choice = AgentPolicy(re.compile(pattern))
    choice.listed(entries)
    choice.current = using
    return choice


class Dialogue:
    """Asks a policy at given seconds and remembers every word."""

    def __init__(self, choice):
        self.choice, self.lines = choice, []

    def at(self, seconds, question, *args, **kwargs):
        """Ask and compare the name of the agent that is the answer."""
        expected = kwargs.pop("expect", None)
        answer = getattr(self.choice, question)(*args, int(seconds * 1000))
        heard = answer.name if isinstance(answer, AgentEntry) else answer
        self.lines.append(f"{seconds:>6} {question} {[entry_id(arg) for arg in args]} -> {heard}")
        assert heard == expected, "\n".join(["expected " + str(expected), *self.lines])


# ---- order --------------------------------------------------------------------------------------------


def test_the_order_is_expiry_then_instance_then_name_then_address():
    ordered = [
        agent("z"),
        agent("b", 9, instance=NEW),
        agent("a", 9, instance=OLD),
        agent("a", 9, instance=None, addr="192.0.2.1:5"),
        agent("a", 9, instance=None, addr="192.0.2.2:5"),
        agent("b", 9, instance=None, addr="192.0.2.1:5"),
        agent("c", 8, instance=NEW),
    ]
    assert rank(reversed(ordered)) == ordered
    assert rank(ordered) == ordered


@settings(deadline=None)
@given(st.data())
def test_the_order_does_not_depend_on_the_order_of_the_listing(data):
    field = st.sampled_from(["a", "b", "c"])
    entry = st.builds(agent, field, st.integers(1, 3), instance=st.none() | field, addr=field)
    entries = data.draw(st.lists(entry, unique_by=str))
    shuffled = data.draw(st.permutations(entries))
    assert rank(entries) == rank(shuffled)
    best = policy(*shuffled).choose(0)
    assert best == (rank(entries)[0] if entries else None)
    assert all(best.expire_at >= each.expire_at for each in entries)


def test_an_identity_is_the_instance_or_else_the_address():
    assert entry_id(agent("a")) == f"a/{NEW}"
    assert entry_id(agent("a", instance=None)) == "a/192.0.2.1:5"


# ---- listing ------------------------------------------------------------------------------------------


def test_a_listing_tells_what_appeared_and_vanished():
    choice = policy(agent("a"), agent("b"))
    appeared, vanished = choice.listed([agent("b"), agent("c")])
    assert [[each.name for each in group] for group in (appeared, vanished)] == [["c"], ["a"]]
    assert choice.listed([agent("c"), agent("b")]) == ([], [])


def test_a_restarted_agent_appears_and_vanishes():
    choice = policy(agent("a", instance=OLD))
    appeared, vanished = choice.listed([agent("a", instance=NEW)])
    assert (appeared, vanished) == ([agent("a", instance=NEW)], [agent("a", instance=OLD)])
    assert choice.is_listed(agent("a", instance=NEW))
    assert not choice.is_listed(agent("a", instance=OLD))


def test_only_agents_whose_name_matches_count():
    choice = policy(agent("vpn-1"), agent("other"), pattern="^vpn-")
    assert [each.name for each in choice.known] == ["vpn-1"]
    assert choice.find("other") is None


def test_the_agent_in_use_follows_its_entry_and_outlives_it():
    using = agent("a", 700)
    choice = policy(using, using=using)
    choice.listed([agent("a", 900)])
    assert choice.current == agent("a", 900)
    choice.listed([])
    assert choice.current == agent("a", 900)
    assert not choice.is_listed(choice.current)


def test_finding_by_name_takes_the_best_and_by_instance_the_very_one():
    old, new = agent("a", 500, instance=OLD), agent("a", 900, instance=NEW)
    choice = policy(old, new)
    assert choice.find("a") == new
    assert choice.find("a", OLD) == old
    assert choice.find("a", "33333333") is None


# ---- choice and blocks --------------------------------------------------------------------------------


def test_expired_agents_are_not_chosen():
    choice = Dialogue(policy(agent("a", 100), agent("b", 50)))
    choice.at(49, "choose", expect="a")
    choice.at(99.9, "choose", expect="a")
    choice.at(100, "choose", expect=None)


def test_no_agents_no_choice():
    Dialogue(policy()).at(0, "choose", expect=None)


def test_an_agent_that_failed_is_left_out_for_longer_each_time():
    a, b = agent("a", 9000), agent("b", 8000)
    choice, now = Dialogue(policy(a, b)), 0.0
    for seconds in (10, 20, 40, 80, 160, 160):
        choice.at(now, "failed", a)
        choice.at(now, "choose", expect="b")
        choice.at(now + seconds - 0.1, "choose", expect="b")
        choice.at(now + seconds, "choose", expect="a")
        now += seconds
    assert (BLOCK_FIRST_MS, BLOCK_MAX_MS) == (10_000, 160_000)


def test_success_forgets_the_failures():
    a, b = agent("a", 9000), agent("b", 8000)
    choice = Dialogue(policy(a, b))
    choice.at(0, "failed", a)
    choice.at(0, "failed", a)
    choice.choice.works(a)
    choice.at(0, "choose", expect="a")
    choice.at(0, "failed", a)
    choice.at(10, "choose", expect="a")


def test_when_all_are_blocked_the_best_is_tried_again_and_then_the_others():
    a, b = agent("a", 9000), agent("b", 8000)
    choice = Dialogue(policy(a, b))
    choice.at(0, "failed", a)
    choice.at(1, "choose", expect="b")
    choice.at(1, "failed", b)
    choice.at(2, "choose", expect="a")
    choice.at(2, "failed", a)
    choice.at(3, "choose", expect="b")
    choice.at(3, "failed", b)
    choice.at(4, "choose", expect="a")


def test_a_lone_agent_is_never_blocked_for_good():
    choice = Dialogue(policy(agent("a")))
    for second in range(20):
        choice.at(second, "choose", expect="a")
        choice.at(second, "failed", agent("a"))


def test_a_new_instance_of_a_blocked_agent_is_welcome():
    choice = Dialogue(policy(agent("a", 900, instance=OLD), agent("b", 500)))
    choice.at(0, "failed", agent("a", 900, instance=OLD))
    choice.at(0, "choose", expect="b")
    choice.choice.listed([agent("a", 900, instance=NEW), agent("b", 500)])
    choice.at(0, "choose", expect="a")


def test_blocks_of_agents_long_gone_are_bounded_and_the_newest_is_kept():
    choice = policy(agent("a"), agent("b", 9000))
    for number in range(5000):
        choice.failed(agent("ghost", instance=str(number)), 0)
    choice.failed(agent("a"), 0)
    assert choice.choose(0).name == "b"
    assert len(choice._blocked) <= 1024


# ---- replacement --------------------------------------------------------------------------------------


def test_ten_minutes_before_its_end_an_agent_is_replaced_by_one_that_ends_later():
    a, b = agent("a", 1000), agent("b", 5000)
    choice = Dialogue(policy(a, b, using=a))
    choice.at(399.9, "in_replacement_window", expect=False)
    choice.at(399.9, "replacement", expect=None)
    choice.at(400, "in_replacement_window", expect=True)
    choice.at(400, "replacement", expect="b")
    assert REPLACEMENT_WINDOW_MS == 600_000


@pytest.mark.parametrize(
    ("expires", "replaced"), [(1009.9, False), (1010, True), (1000, False), (500, False), (None, True)]
)
def test_a_replacement_must_live_clearly_longer(expires, replaced):
    a = agent("a", 1000)
    Dialogue(policy(a, agent("b", expires), using=a)).at(900, "replacement", expect="b" if replaced else None)


def test_an_agent_that_never_expires_is_never_replaced():
    a = agent("a", None, instance=OLD)
    choice = Dialogue(policy(a, agent("b"), using=a))
    choice.at(1e12, "in_replacement_window", expect=False)
    choice.at(1e12, "replacement", expect=None)


def test_without_an_agent_in_use_there_is_nothing_to_replace():
    choice = Dialogue(policy(agent("a", 10)))
    choice.at(0, "in_replacement_window", expect=False)
    choice.at(0, "replacement", expect=None)


def test_a_pinned_agent_stays():
    a, b = agent("a", 1000), agent("b", 5000)
    choice = Dialogue(policy(a, b, using=a))
    choice.choice.pinned = True
    choice.at(999, "in_replacement_window", expect=True)
    choice.at(999, "replacement", expect=None)
    choice.choice.pinned = False
    choice.at(999, "replacement", expect="b")


def test_a_replacement_that_failed_is_passed_over_for_a_while():
    a, b, c = agent("a", 1000), agent("b", 5000), agent("c", 4000)
    choice = Dialogue(policy(a, b, c, using=a))
    choice.at(500, "failed", b)
    choice.at(500, "replacement", expect="c")
    choice.at(500, "failed", c)
    choice.at(501, "replacement", expect=None)
    choice.at(510, "replacement", expect="b")


def test_a_restart_of_the_same_agent_is_a_replacement():
    old, new = agent("a", 1000, instance=OLD), agent("a", 5000, instance=NEW)
    choice = policy(old, using=old)
    choice.listed([new])
    assert choice.replacement(900_000) == new


def test_two_agents_that_both_end_soon_do_not_bounce():
    a, b = agent("a", 300), agent("b", 500)
    choice = policy(a, b, using=a)
    used = ["a"]
    for second in range(499):
        better = choice.replacement(second * 1000)
        if better is not None:
            choice.current = better
            used.append(better.name)
    assert used == ["a", "b"]


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 2000), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=100),
)
def test_every_replacement_ends_later_than_what_it_replaces(expiries, looks):
    entries = [agent(f"agent{index}", seconds) for index, seconds in enumerate(expiries)]
    choice, now, used = policy(*entries), 0, []
    choice.current = choice.find("agent0")
    for seconds, works in looks:
        now += seconds * 1000
        better = choice.replacement(now)
        if better is None:
            continue
        assert better.expire_at >= choice.current.expire_at + WORTHWHILE_MS
        assert better.expire_at > now
        if works:
            choice.current = better
            choice.works(better)
            used.append(better.name)
        else:
            choice.failed(better, now)
    assert len(used) == len(set(used)), "bounced"
