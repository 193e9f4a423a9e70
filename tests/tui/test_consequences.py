import pytest

from rtun_tui import consequences
from tests.tui.views import FLOW, RULE, SECOND, TUNNEL, but, snapshot

WEBSOCKET = but(TUNNEL, kind="websocket", flows=1)
STREAMS = but(RULE, family="rtunnel")


def test_a_relay_moves_flows():
    assert consequences.of_drain(TUNNEL, snapshot()) == "3 flows, moved to t2"
    assert consequences.of_close(TUNNEL, snapshot()) == "3 flows, moved to t2"
    assert "make before break" in consequences.of_recycle(TUNNEL)
    alone = snapshot(tunnels=(TUNNEL,))
    assert consequences.of_close(TUNNEL, alone) == "3 flows, waiting until another tunnel is up"
    many = snapshot(tunnels=tuple(but(SECOND, id=f"t{number}") for number in range(2, 7)))
    assert consequences.of_drain(TUNNEL, many).endswith("t2, t3, t4, ...")


def test_a_websocket_keeps_its_flow():
    assert consequences.of_drain(WEBSOCKET, snapshot()).startswith("1 flow, given half a minute")
    assert consequences.of_close(WEBSOCKET, snapshot()) == "1 flow, reset at both ends"
    assert "nothing is lost" in consequences.of_recycle(WEBSOCKET)


@pytest.mark.parametrize("tunnel", [TUNNEL, WEBSOCKET])
def test_a_tunnel_without_flows(tunnel):
    idle = but(tunnel, flows=0)
    told = (
        consequences.of_drain(idle, snapshot()),
        consequences.of_close(idle, snapshot()),
        consequences.of_recycle(idle),
    )
    assert set(told) == {"none uses it"}


def test_what_is_closed_is_a_datagram_flow_or_a_connection():
    assert "datagram" in consequences.of_closed_flows(FLOW, snapshot())
    assert "datagram" in consequences.of_closed_flows(None, snapshot(rules=(STREAMS,)))
    assert "TCP" in consequences.of_closed_flows(FLOW, snapshot(rules=(STREAMS,)))


def test_what_is_paused():
    assert "datagrams" in consequences.of_pause(RULE)
    assert "connections" in consequences.of_pause(STREAMS)
