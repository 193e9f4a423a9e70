"""The console of an RTunnel: what keys do to its tunnels and flows happens to real TCP connections."""

from __future__ import annotations

import socket

import pytest

from tests.e2e.consoles import Stage
from tests.e2e.processes import Fleet
from tests.e2e.tcp import TcpTarget, echo, is_reset, port_of, swap
from tests.e2e.tunnel import serve


@pytest.mark.parametrize("size", [(120, 36), (80, 24)], ids=["120x36", "80x24"])
def test_reconnect_drain_and_close_by_keys(stage: Stage, fleet: Fleet, size: tuple[int, int]) -> None:
    target = TcpTarget(echo)
    server = serve(fleet, target.address)
    url = f"ws://127.0.0.1:{port_of(server)}/"
    console = stage.run("ws", "connect", url, "127.0.0.1:0", "--tui", size=size)
    state = console.wait_state(lambda state: state["rules"])
    address = ("127.0.0.1", int(state["rules"][0]["listen"].rpartition(":")[2]))
    with (
        socket.create_connection(address, timeout=20) as first,
        socket.create_connection(address, timeout=20) as second,
    ):
        # The first is accepted first: connections are taken in their order.
        assert (swap(first, b"one"), swap(second, b"two")) == (b"one", b"two")

        console.send("2")
        console.wait_for("> t1")
        console.send("C")
        console.wait_for("nothing is lost")
        console.send("y")
        console.wait_for("t1 recovered")
        assert swap(first, b"after") == b"after"

        console.send("x")
        console.wait_for("half a minute")
        console.send("y")
        console.wait_state(lambda state: "draining" in {each["state"] for each in state["tunnels"]})
        assert swap(first, b"still") == b"still"
        first.close()
        console.wait_state(lambda state: len(state["tunnels"]) == 1)

        console.send("3")
        console.wait_for("> 00000002")
        console.send("X")
        console.wait_for("TCP connections are reset")
        console.send("y")
        assert is_reset(second)
    target.wait_until(lambda: target.open == 0)
    assert target.accepted == 2
    target.close()
