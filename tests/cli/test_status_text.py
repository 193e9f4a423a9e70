import msgspec
import pytest

from rtun_core.cli.status_text import TOP_FLOWS, WIDTH, biggest, bytes_text, status_text, table, time_text
from rtun_core.model import (
    AgentState,
    AgentView,
    FlowState,
    FlowView,
    RuleState,
    RuleView,
    SignalView,
    Snapshot,
    Traffic,
    TunnelState,
    TunnelView,
)


def flow(number, count=0, source="127.0.0.1:5000", rate=0.0):
    return FlowView(
        id=f"{number:08x}",
        rule="r1",
        source=source,
        target="192.0.2.1:53",
        tunnel="t5",
        state=FlowState.ACTIVE,
        opened_at=0.0,
        idle_s=0.4,
        down_bytes=count,
        down_rate=rate,
        moves=2,
    )


def snapshot(flows=(), wide=""):
    return Snapshot(
        seq=1,
        ts=1000.0,
        uptime_s=11520.0,
        pid=17,
        version="0.1.0",
        services=("relay",),
        signal=(SignalView(url="quic://a.example:8888" + wide, state="connected", since=0.0),),
        rules=(
            RuleView(
                id="r1",
                family="rtun",
                listen="127.0.0.1:5353" + wide,
                target="192.0.2.1:53",
                state=RuleState.ACTIVE,
                tunnels_up=2,
                tunnels_max=4,
                flows=7,
                drops={"oversize": 1, "kernel": 2},
            ),
        ),
        agents=(
            AgentView(
                id="beta/7f3c" + wide,
                name="beta",
                instance="7f3c",
                state=AgentState.IN_USE,
                address="203.0.113.9:41822",
                expires_at=3462.0,
                rtt_ms=18.44,
                tunnels=4,
            ),
        ),
        tunnels=(
            TunnelView(
                id="t5",
                rule="r1",
                agent="beta/7f3c",
                state=TunnelState.DEGRADED,
                kind="p2p",
                opened_at=0.0,
                remote="203.0.113.9:41822" + wide,
                rtt_ms=96.3,
                loss_up=0.01,
                loss_down=0.042,
                flows=7,
                traffic=Traffic(1, 1500, 1, 2_000_000),
            ),
            TunnelView(id="t7", rule="r1", agent=None, state=TunnelState.OPENING, kind="p2p", opened_at=0.0),
        ),
        flows=flows,
        traffic=Traffic(1, 10, 2, 20_000),
        drops={"oversize": 3, "never": 0},
        faults={f"reason-{number}": number for number in range(20)} if wide else {},
    )


def test_the_whole_page():
    assert status_text(snapshot([flow(0xA1F3C2, 1_440_000_000)])) == "\n".join(
        [
            "rtun 0.1.0 (relay), pid 17, up 3h12m, 1 flow, sent 10 B, received 20.0 kB",
            "",
            "SIGNALLING                                       STATE       REASON",
            "quic://a.example:8888                            connected",
            "",
            "RULE LISTEN                TARGET                STATE        TUN  FLOWS  DROPS",
            "r1   127.0.0.1:5353        192.0.2.1:53          active       2/4      7      3",
            "",
            "AGENT                  ADDRESS               STATE    EXPIRES      RTT  TUN",
            "beta/7f3c              203.0.113.9:41822     in use    41m02s  18.4 ms    4",
            "",
            "TUN   REMOTE                STATE         RTT   LOSS       UP     DOWN  FLOWS",
            "t5    203.0.113.9:41822     degraded  96.3 ms   4.2%  1.50 kB  2.00 MB      7",
            "t7    -                     opening         -      -      0 B      0 B      0",
            "",
            "FLOW     SOURCE                TUN   STATE         UP     DOWN   IDLE MOVES",
            "00a1f3c2 127.0.0.1:5000        t5    active       0 B  1.44 GB     0s     2",
            "",
            "drops: oversize 3",
        ]
    )


def test_the_reasons_of_what_waits_or_is_degraded():
    before = snapshot()
    rule = msgspec.structs.replace(before.rules[0], state=RuleState.WAITING, reason="no\x1bagent " * 12)
    tunnel = msgspec.structs.replace(before.tunnels[0], reason="loss 4.2%")
    text = status_text(msgspec.structs.replace(before, rules=(rule,), tunnels=(tunnel,)))
    assert "\n\nrule r1 is waiting: no?agent no?agent" in text
    assert "\ntunnel t5 is degraded: loss 4.2%\n" in text
    assert max(map(len, text.splitlines())) <= WIDTH


def test_no_line_is_wider_than_a_terminal():
    flows = [
        flow(number, number, source="[2001:db8:1111:2222:3333:4444:5555:6666]:65535") for number in range(99)
    ]
    lines = status_text(snapshot(flows, wide="x" * 200)).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert f"{TOP_FLOWS} of 99 flows" in lines


def test_an_empty_engine_is_one_line():
    empty = Snapshot(seq=0, ts=0.0, uptime_s=0.0, pid=1, version="1", services=("relay",))
    assert status_text(empty) == "rtun 1 (relay), pid 1, up 0s, 0 flows, sent 0 B, received 0 B"


def test_a_name_cannot_write_to_the_terminal():
    assert table((("A", 8, False),), [["a\x1b[2J\n\u202e"]]) == "A\na?[2J??"


def test_biggest_flows_first():
    assert [one.down_bytes for one in biggest([flow(n, n % 7) for n in range(100)])] == [6] * 14 + [5] * 6


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9994, "9.99 kB"),
        (9999, "10.0 kB"),
        (99_999, "100 kB"),
        (999_499, "999 kB"),
        (999_999, "1.00 MB"),
        (1_440_000_000, "1.44 GB"),
        (10**24, "1000000 EB"),
    ],
)
def test_bytes(count, text):
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0.4, "0s"),
        (59, "59s"),
        (60, "1m00s"),
        (2462, "41m02s"),
        (11520, "3h12m"),
        (187200, "2d04h"),
    ],
)
def test_times(seconds, text):
    assert time_text(seconds) == text


def test_flows_that_carry_now_come_first():
    some = [flow(1, 500), flow(2, 10, rate=3.0), flow(3, 900), flow(4, 10, rate=7.0)]
    assert [each.id for each in biggest(some)] == ["00000004", "00000002", "00000003", "00000001"]


def test_a_snapshot_with_some_of_the_flows():
    some = msgspec.structs.replace(snapshot(flows=[flow(1)] * 20), flows_total=1284)
    text = status_text(some)
    assert "1284 flows" in text
    assert "20 of 1284 flows" in text
