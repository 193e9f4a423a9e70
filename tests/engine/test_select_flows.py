import pytest

from rtun_core.commands import ALL, CloseFlow, MoveFlow, PinAgent
from rtun_core.engine.select_flows import with_flows
from rtun_core.errors import CommandRefused
from rtun_core.model import Snapshot
from rtun_core.view.filter_text import FilterError


@pytest.fixture
def picture(flow):
    flows = tuple(flow(number, up=number * 1000) for number in range(1, 6))
    return Snapshot(seq=0, ts=0.0, uptime_s=0.0, pid=1, version="", services=(), flows=flows)


def ids(*numbers):
    return tuple(f"{number:08x}" for number in numbers)


def never():
    raise AssertionError("no picture is needed")


@pytest.mark.parametrize(
    "command",
    [
        PinAgent(),
        CloseFlow(flows=("00a1f3c2", "a1")),
        CloseFlow(flows=(ALL,)),
        MoveFlow(flows=("ABC",), to="t2"),
    ],
)
def test_ids_and_all_are_left_to_the_service(command):
    assert with_flows(command, never) is command


def test_a_filter_becomes_the_flows_that_pass(picture):
    command = with_flows(CloseFlow(flows=("src:127.0.0.1:3", "up_total>=5kB")), lambda: picture)
    assert command == CloseFlow(flows=ids(3, 5))


def test_ids_and_filters_together_name_each_flow_once(picture):
    command = with_flows(MoveFlow(flows=("00000002", "tunnel=t1"), to="t2"), lambda: picture)
    assert command.to == "t2"
    assert sorted(command.flows) == list(ids(1, 2, 3, 4, 5))
    assert command.flows[0] == "00000002"


def test_a_filter_that_selects_nothing_is_refused(picture):
    with pytest.raises(CommandRefused, match=r"no flow passes the filter 'idle>1h'"):
        with_flows(CloseFlow(flows=("00000001", "idle>1h")), lambda: picture)


def test_a_filter_that_cannot_be_read(picture):
    with pytest.raises(FilterError):
        with_flows(CloseFlow(flows=("colour=red",)), lambda: picture)


def test_nine_digits_are_no_id(picture):
    with pytest.raises(CommandRefused, match="no flow passes"):
        with_flows(CloseFlow(flows=("000000001",)), lambda: picture)
