"""The channel pool as dialogues: what happens at which second, and what the pool answers to it."""

from rtun_core.relay.pool import (
    LINGER,
    OPEN_TIMEOUT,
    Close,
    Drain,
    Open,
    PoolPolicy,
    PoolView,
)


def pool(minimum=1, maximum=1, *, lifetime=120.0, retry=2.0):
    return PoolPolicy(minimum=minimum, maximum=maximum, lifetime=lifetime, retry_interval=retry)


def play(policy, script):
    """Run `time event -> actions` lines and compare the whole dialogue, so that a failure shows it.

    Events: `step` with `T1=3` (flows of a channel), `~T1` (silent), `demand`, `offline`; and the methods
    of the policy by name.
    """
    lines = [" ".join(line.split()) for line in script.strip().splitlines()]
    heard = []
    for line in lines:
        event = line.split(" -> ")[0]
        at, verb, *words = event.split()
        heard.append(f"{event} -> {told(happen(policy, float(at), verb, words))}")
    assert "\n".join(heard) == "\n".join(lines)


def happen(policy, now, verb, words):
    match verb:
        case "step":
            return policy.step(now, view(words))
        case "opened":
            return policy.opened(words[0], now)
        case "failed":
            return policy.open_failed(now)
        case "adopt":
            return policy.adopt(words[0], now)
        case "drain":
            return policy.drain(words[0], "requested")
        case "extra":
            policy.extra = int(words[0])
        case "limits":
            policy.min, policy.max = map(int, words)
        case _:
            return getattr(policy, verb)(*words)
    return None


def view(words):
    flows = {name: int(count) for name, _, count in (word.partition("=") for word in words) if count}
    return PoolView(
        flows=flows,
        total_flows=sum(flows.values()),
        silent=frozenset(word[1:] for word in words if word[0] == "~"),
        demand="demand" in words,
        can_open="offline" not in words,
    )


def told(actions):
    return "; ".join(one(action) for action in actions or ()) or "nothing"


def one(action):
    match action:
        case Open(source, timeout, None):
            return f"open {source} in {timeout:.0f} s"
        case Open(source, timeout, replaces):
            return f"open {source} of {replaces} in {timeout:.0f} s"
        case Drain(channel, reason):
            return f"drain {channel}: {reason}"
        case Close(channel, reason):
            return f"close {channel}: {reason}"


# ---- opening ------------------------------------------------------------------------------------------


def test_the_minimum_is_opened_one_after_the_other():
    play(
        pool(2, 4),
        """
        0 step -> open scale-up in 10 s
        1 step -> nothing
        1 opened T1 -> nothing
        1 step -> open scale-up in 10 s
        2 opened T2 -> nothing
        9 step -> nothing
        """,
    )


def test_the_first_flow_asks_for_the_maximum():
    play(
        pool(1, 3),
        """
        0 step -> open scale-up in 10 s
        0 opened T1 -> nothing
        1 step T1=1 -> open scale-up in 10 s
        2 opened T2 -> nothing
        2 step T1=1 -> open scale-up in 10 s
        3 opened T3 -> nothing
        3 step T1=1 -> nothing
        """,
    )


def test_a_failed_attempt_waits_for_the_retry_interval_counted_from_its_start():
    play(
        pool(retry=2.0),
        """
        0 step -> open scale-up in 10 s
        0.5 failed -> nothing
        1.9 step -> nothing
        2 step -> open scale-up in 10 s
        12 failed -> nothing
        12 step -> open scale-up in 10 s
        """,
    )


def test_the_time_limit_doubles_only_while_another_channel_carries_on():
    play(
        pool(2, 2),
        """
        0 step -> open scale-up in 10 s
        1 failed -> nothing
        2 step -> open scale-up in 10 s
        2 opened T1 -> nothing
        3 step -> open scale-up in 10 s
        4 failed -> nothing
        5 step -> open scale-up in 20 s
        6 failed -> nothing
        7 step -> open scale-up in 30 s
        8 failed -> nothing
        9 step -> open scale-up in 30 s
        9 lost T1 -> nothing
        10 failed -> nothing
        11 step -> open scale-up in 10 s
        """,
    )


def test_success_forgets_the_long_limit_and_the_hold_off():
    policy = pool(3, 3)
    play(
        policy,
        """
        0 step -> open scale-up in 10 s
        0 opened T1 -> nothing
        0 step -> open scale-up in 10 s
        0 failed -> nothing
        2 step -> open scale-up in 20 s
        2 opened T2 -> nothing
        2 step -> open scale-up in 10 s
        """,
    )
    assert policy.attempt == Open("scale-up", OPEN_TIMEOUT)


def test_without_a_signalling_session_nothing_is_opened_but_draining_goes_on():
    play(
        pool(1, 2),
        """
        0 step offline -> nothing
        0 adopt T1 -> nothing
        0 adopt T2 -> nothing
        9 step offline -> drain T2: scale-down
        10 step offline -> nothing
        11 step offline -> close T2: drained
        500 step offline -> nothing
        500 step -> open rotate of T1 in 10 s
        """,
    )


def test_a_lost_channel_is_replaced_at_once():
    play(
        pool(),
        """
        0 adopt T1 -> nothing
        1 step T1=5 -> nothing
        2 lost T1 -> nothing
        2 lost T1 -> nothing
        2 step -> open scale-up in 10 s
        """,
    )


# ---- rotation -----------------------------------------------------------------------------------------


def test_a_channel_past_its_lifetime_is_drained_when_its_successor_is_up():
    play(
        pool(lifetime=60.0),
        """
        0 adopt T1 -> nothing
        59 step T1=2 -> nothing
        60 step T1=2 -> open rotate of T1 in 10 s
        61 step T1=2 -> nothing
        62 opened T2 -> drain T1: replaced by T2
        62 step T1=2 -> nothing
        63 step T2=2 -> nothing
        64 step T2=2 -> close T1: drained
        121 step T2=2 -> nothing
        122 step T2=2 -> open rotate of T2 in 10 s
        """,
    )


def test_a_failed_rotation_leaves_the_old_channel_in_use():
    policy = pool(lifetime=60.0)
    play(
        policy,
        """
        0 adopt T1 -> nothing
        60 step T1=2 -> open rotate of T1 in 10 s
        70 failed -> nothing
        70 step T1=2 -> open rotate of T1 in 20 s
        71 failed -> nothing
        71 step T1=2 -> nothing
        """,
    )
    assert [member.id for member in policy.active()] == ["T1"]


def test_rotation_goes_one_channel_at_a_time_oldest_first():
    play(
        pool(2, 2, lifetime=60.0),
        """
        0 adopt T1 -> nothing
        0 adopt T2 -> nothing
        60 step T1=1 T2=1 -> open rotate of T1 in 10 s
        61 opened T3 -> drain T1: replaced by T3
        61 step T2=1 T3=1 -> open rotate of T2 in 10 s
        62 opened T4 -> drain T2: replaced by T4
        62 step T3=1 T4=1 -> close T1: drained
        63 step T3=1 T4=1 -> close T2: drained
        """,
    )


def test_a_missing_channel_comes_before_a_rotation():
    play(
        pool(2, 2, lifetime=60.0),
        """
        0 adopt T1 -> nothing
        70 step -> open scale-up in 10 s
        71 opened T2 -> nothing
        71 step -> open rotate of T1 in 10 s
        """,
    )


def test_a_channel_that_was_lost_during_its_rotation_is_not_drained():
    play(
        pool(lifetime=60.0),
        """
        0 adopt T1 -> nothing
        60 step -> open rotate of T1 in 10 s
        61 lost T1 -> nothing
        61 step -> nothing
        62 opened T2 -> nothing
        62 step -> nothing
        """,
    )


def test_rotation_waits_while_drained_channels_still_carry_flows():
    play(
        pool(lifetime=1.0),
        """
        0 adopt T1 -> nothing
        1 step T1=1 -> open rotate of T1 in 10 s
        1 opened T2 -> drain T1: replaced by T2
        3 step T1=1 -> nothing
        4 step T2=1 -> nothing
        5 step T2=1 -> close T1: drained; open rotate of T2 in 10 s
        """,
    )


def test_recycling_is_a_rotation_before_its_time_and_is_tried_again():
    play(
        pool(),
        """
        0 adopt T1 -> nothing
        1 recycle T1 -> nothing
        1 step T1=1 -> open rotate of T1 in 10 s
        2 failed -> nothing
        3 step T1=1 -> open rotate of T1 in 20 s
        4 opened T2 -> drain T1: replaced by T2
        4 step T2=1 -> nothing
        5 step T2=1 -> close T1: drained
        """,
    )


# ---- draining -----------------------------------------------------------------------------------------


def test_without_flows_the_newest_channels_go_first():
    play(
        pool(1, 3),
        """
        0 adopt T1 -> nothing
        1 adopt T2 -> nothing
        2 adopt T3 -> nothing
        9 step T2=1 -> nothing
        10 step -> drain T3: scale-down; drain T2: scale-down
        11 step -> nothing
        12 step -> close T2: drained; close T3: drained
        13 step -> nothing
        """,
    )


def test_a_channel_in_its_grace_time_stays():
    play(
        pool(1, 3),
        """
        0 adopt T1 -> nothing
        10 adopt T2 -> nothing
        12 adopt T3 -> nothing
        14.9 step -> nothing
        15 step -> drain T2: scale-down
        16 step -> nothing
        17 step -> close T2: drained; drain T3: scale-down
        """,
    )


def test_flows_that_come_back_take_no_draining_channel_into_account():
    play(
        pool(1, 2),
        """
        0 adopt T1 -> nothing
        0 adopt T2 -> nothing
        9 step -> drain T2: scale-down
        10 step T1=1 T2=1 -> open scale-up in 10 s
        11 step T1=2 -> nothing
        12 step T1=2 -> close T2: drained
        """,
    )


def test_a_drained_channel_closes_when_it_has_been_without_flows_for_a_moment():
    play(
        pool(),
        f"""
        0 adopt T1 -> nothing
        0 adopt T2 -> nothing
        10 drain T1 -> drain T1: requested
        20 step T2=1 -> nothing
        {20 + LINGER - 0.001:.3f} step T2=1 -> nothing
        {20 + LINGER} step T2=1 -> close T1: drained
        """,
    )


def test_a_drained_channel_that_gets_flows_again_waits_anew_when_they_are_gone():
    play(
        pool(),
        f"""
        0 adopt T1 -> nothing
        0 adopt T2 -> nothing
        10 drain T1 -> drain T1: requested
        10 step T2=1 -> nothing
        {10 + LINGER - 0.25} step T1=1 -> nothing
        {10 + LINGER} step T1=1 -> nothing
        20 step T2=1 -> nothing
        {20 + LINGER - 0.25} step T2=1 -> nothing
        {20 + LINGER} step T2=1 -> close T1: drained
        """,
    )


def test_each_drained_channel_has_its_own_moment():
    play(
        pool(1, 3),
        f"""
        0 adopt T1 -> nothing
        0 adopt T2 -> nothing
        0 adopt T3 -> nothing
        9 step -> drain T3: scale-down; drain T2: scale-down
        10 step T3=1 offline -> nothing
        {10 + LINGER / 2} step offline -> nothing
        {10 + LINGER} step offline -> close T2: drained
        {10 + LINGER * 1.5} step offline -> close T3: drained
        """,
    )


def test_draining_on_request_opens_a_successor():
    play(
        pool(),
        """
        0 adopt T1 -> nothing
        1 drain T1 -> drain T1: requested
        1 drain T1 -> nothing
        1 drain T9 -> nothing
        1 step T1=4 -> open scale-up in 10 s
        2 opened T2 -> nothing
        2 step T2=4 -> nothing
        3 step T2=4 -> close T1: drained
        """,
    )


def test_a_successor_is_opened_even_when_all_there_is_drains():
    play(
        pool(),
        """
        0 adopt T1 -> nothing
        0 drain T1 -> drain T1: requested
        0 step T1=1 -> open scale-up in 10 s
        1 opened T2 -> nothing
        1 drain T2 -> drain T2: requested
        1 step T1=1 T2=1 -> open scale-up in 10 s
        2 opened T3 -> nothing
        2 step T3=2 -> nothing
        3 step T3=2 -> close T1: drained; close T2: drained
        """,
    )


def test_smaller_limits_drain_the_surplus_with_its_flows():
    play(
        pool(1, 3),
        """
        0 adopt T1 -> nothing
        1 adopt T2 -> nothing
        2 adopt T3 -> nothing
        9 limits 1 2 -> nothing
        9 step T1=1 T3=1 -> drain T3: surplus
        10 step T1=1 T2=1 -> nothing
        11 step T1=1 T2=1 -> close T3: drained
        """,
    )


def test_an_extra_channel_is_kept_without_flows_but_never_above_the_maximum():
    policy = pool(1, 2)
    play(
        policy,
        """
        0 adopt T1 -> nothing
        1 extra 1 -> nothing
        1 step -> open scale-up in 10 s
        2 opened T2 -> nothing
        60 step -> nothing
        """,
    )
    policy.extra = 7
    assert (policy.wanted(0), policy.wanted(9)) == (2, 2)


# ---- min = 0 ------------------------------------------------------------------------------------------


def test_with_a_minimum_of_zero_a_waiting_datagram_opens_a_channel():
    play(
        pool(0, 1),
        """
        0 step -> nothing
        5 step demand -> open demand-open in 10 s
        5 step demand -> nothing
        6 opened T1 -> nothing
        6 step -> nothing
        7 step T1=1 -> nothing
        100 step -> drain T1: scale-down
        101 step -> nothing
        102 step -> close T1: drained
        103 step -> nothing
        """,
    )


def test_a_channel_opened_on_demand_waits_for_its_first_flow():
    play(
        pool(0, 1),
        """
        0 step demand -> open demand-open in 10 s
        1 opened T1 -> nothing
        1 step demand -> nothing
        1 step -> nothing
        5.9 step -> nothing
        6 step -> drain T1: scale-down
        """,
    )


def test_demand_does_not_spin_in_the_hold_off():
    policy = pool(0, 1, retry=2.0)
    assert told(policy.step(0.0, view(["demand"]))) == "open demand-open in 10 s"
    policy.open_failed(0.1)
    answers = [told(policy.step(0.1 + tick / 1000, view(["demand"]))) for tick in range(1900)]
    assert set(answers) == {"nothing"}
    assert told(policy.step(2.0, view(["demand"]))) == "open demand-open in 10 s"


# ---- silence ------------------------------------------------------------------------------------------


def test_a_silent_channel_is_replaced_and_then_drained():
    play(
        pool(),
        """
        0 adopt T1 -> nothing
        20 step T1=3 ~T1 -> open scale-up in 10 s
        21 step T1=3 ~T1 -> nothing
        22 opened T2 -> nothing
        22 step T1=3 ~T1 -> drain T1: surplus
        23 step T2=3 ~T1 -> nothing
        24 step T2=3 ~T1 -> close T1: drained
        """,
    )


def test_when_silent_channels_come_back_the_surplus_drains_after_its_grace_time():
    play(
        pool(),
        """
        0 adopt T1 -> nothing
        20 step T1=3 ~T1 -> open scale-up in 10 s
        22 opened T2 -> nothing
        22 step T1=3 -> nothing
        27 step T1=3 T2=1 -> drain T2: surplus
        28 step T1=4 -> nothing
        29 step T1=4 -> close T2: drained
        30 step T1=4 -> nothing
        """,
    )


def test_a_dead_path_does_not_grow_the_pool_beyond_twice_what_is_wanted():
    play(
        pool(),
        """
        0 adopt T1 -> nothing
        20 step T1=3 ~T1 -> open scale-up in 10 s
        22 opened T2 -> nothing
        40 step T1=3 ~T1 ~T2 -> nothing
        50 lost T1 -> nothing
        50 step T2=3 ~T2 -> open scale-up in 10 s
        """,
    )


def test_a_young_silent_channel_does_not_cost_an_old_healthy_one_its_place():
    play(
        pool(1, 2),
        """
        0 adopt T1 -> nothing
        20 adopt T2 -> nothing
        24.5 step ~T2 -> nothing
        25 step ~T2 -> drain T2: scale-down
        """,
    )


# ---- on request ---------------------------------------------------------------------------------------


def test_a_channel_that_was_asked_for_is_kept_without_flows_until_it_is_taken_back():
    play(
        pool(1, 3),
        """
        0 adopt T1 -> nothing
        0 ask_for_one -> nothing
        0 step -> open scale-up in 10 s
        1 opened T2 -> nothing
        9 step -> nothing
        9 take_one_back -> nothing
        9 drain T2 -> drain T2: requested
        9 step -> nothing
        10 step -> close T2: drained
        11 step -> nothing
        """,
    )


def test_every_request_is_one_channel_up_to_the_maximum():
    policy = pool(1, 3)
    for wanted in (2, 3, 3):
        policy.ask_for_one()
        assert policy.wanted(0) == wanted
    for wanted in (2, 1, 1):
        policy.take_one_back()
        assert policy.wanted(0) == wanted


def test_channels_that_are_there_for_flows_count_when_one_more_is_asked_for():
    policy = pool(1, 4)
    for channel in ("T1", "T2"):
        policy.adopt(channel, 0.0)
    policy.ask_for_one()
    assert policy.wanted(0) == 3


def test_new_limits_forget_requests():
    policy = pool(1, 4)
    policy.ask_for_one()
    policy.set_limits(2, 5)
    assert (policy.wanted(0), policy.wanted(1)) == (2, 5)


def test_another_agent_starts_without_the_failures_of_the_former_one():
    play(
        pool(2, 2, retry=60.0),
        """
        0 adopt T1 -> nothing
        0 step -> open scale-up in 10 s
        1 failed -> nothing
        2 step -> nothing
        2 start_over -> nothing
        2 step -> open scale-up in 10 s
        3 start_over -> nothing
        3 step -> open scale-up in 10 s
        """,
    )
