import pytest

from rtun_core.model import FlowState, FlowView
from rtun_core.view.biggest import biggest


def flow(number, rate=0.0, total=0):
    return FlowView(
        id=f"{number:08x}",
        rule="r1",
        source=f"127.0.0.1:{number}",
        target="192.0.2.1:53",
        tunnel="t1",
        state=FlowState.ACTIVE,
        opened_at=0.0,
        idle_s=0.0,
        up_bytes=total,
        up_rate=rate / 2,
        down_rate=rate / 2,
    )


def numbers(rows):
    return [int(row.id, 16) for row in rows]


FLOWS = [flow(1), flow(2, total=5), flow(3, rate=2.0), flow(4, total=7), flow(5, rate=9.0), flow(6)]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, []), (1, [5]), (3, [5, 3, 4]), (6, [5, 3, 4, 2, 1, 6]), (9, [5, 3, 4, 2, 1, 6])],
)
def test_by_what_they_carry_now_then_by_what_they_carried(count, expected):
    assert numbers(biggest(FLOWS, count)) == expected


def test_of_nothing():
    assert list(biggest((), 20)) == []


def test_of_many():
    rows = [flow(number, rate=number % 997) for number in range(5000)]
    rates = [row.up_rate + row.down_rate for row in biggest(rows, 20)]
    assert rates == sorted((row.up_rate + row.down_rate for row in rows), reverse=True)[:20]
