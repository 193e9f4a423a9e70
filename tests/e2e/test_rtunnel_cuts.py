"""Tunnels of real processes whose WebSockets are cut, and whose ends are killed or restarted."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.cutting_proxy import CuttingProxy, How
from tests.e2e.processes import Fleet, Process
from tests.e2e.tcp import (
    TcpTarget,
    dial,
    digest,
    echo,
    is_over,
    is_reset,
    noise,
    port_of,
    read_all,
    read_exactly,
    source,
    summary,
    swap,
)
from tests.e2e.tunnel import connect, echoes, serve

SLOW = pytest.mark.slow
MIB = 1024 * 1024
CUTS: list[How] = ["rst", "fin", "close frame"]


@pytest.fixture
def echo_target() -> Iterator[TcpTarget]:
    """A target that answers with what it gets."""
    target = TcpTarget(echo)
    yield target
    target.close()


@pytest.fixture
def through(fleet: Fleet) -> Iterator[Callable[..., tuple[CuttingProxy, Process, Process]]]:
    """Make a tunnel to a target whose WebSockets run through a proxy: the proxy, the server, the client."""
    made: list[CuttingProxy] = []

    def make(
        target: TcpTarget,
        *,
        limit: Callable[[], int | None] = lambda: None,
        lifetime: float | None = None,
    ) -> tuple[CuttingProxy, Process, Process]:
        server = serve(fleet, target.address)
        proxy = CuttingProxy(port_of(server), limit=limit, lifetime=lifetime)
        made.append(proxy)
        return proxy, server, connect(fleet, proxy.port)

    yield make
    fleet.close()
    for proxy in made:
        proxy.close()


Through = Callable[..., tuple[CuttingProxy, Process, Process]]


def reconnected(client: Process, times: int = 1) -> None:
    """Wait until the client's only session came back so many times."""

    def enough() -> bool:
        recovered = [e for e in client.events if e["type"] == "tunnel.degraded" and e.get("recovered")]
        return len(recovered) >= times

    client.wait_until(enough, what=f"{times} reconnects")


# ---- 5: cuts in every state ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["rst", "fin", pytest.param("close frame", marks=SLOW)])
def test_cut_while_idle(echo_target: TcpTarget, through: Through, how: How) -> None:
    proxy, _, client = through(echo_target)
    with dial(client) as connection:
        assert swap(connection, b"before") == b"before"
        assert proxy.cut(how) == 1
        if how == "close frame":
            # it waits for the end of a frame, so it needs one
            assert swap(connection, b"one more") == b"one more"
        reconnected(client)
        assert swap(connection, b"after") == b"after"
    assert echo_target.accepted == 1


@pytest.mark.parametrize("how", ["rst", "dark"])
def test_cut_with_one_request_under_way(through: Through, how: How) -> None:
    """The request is lost with the WebSocket, and nothing follows it."""
    asked = threading.Event()
    proxies: list[CuttingProxy] = []

    def answer_late(connection: socket.socket) -> None:
        connection.recv(100)
        proxies[0].cut("dark")
        connection.sendall(b"answer")
        asked.set()
        connection.recv(100)

    target = TcpTarget(answer_late)
    proxy, _, client = through(target)
    proxies.append(proxy)
    with dial(client) as connection:
        connection.sendall(b"request")
        assert asked.wait(20)
        if how == "rst":
            proxy.finish(proxy.links[-1])
        else:
            assert client.command("tunnel recycle t1")["ok"]
        assert read_exactly(connection, 6) == b"answer"
    target.close()


@SLOW
@pytest.mark.parametrize("how", CUTS)
def test_cuts_in_the_middle_of_bulk(echo_target: TcpTarget, through: Through, how: How) -> None:
    proxy, server, client = through(echo_target)
    proxy.limit, proxy.how = (lambda: 5 * MIB), how
    data = noise(16 * MIB)
    with dial(client) as connection:
        assert summary(swap(connection, data)) == summary(data)
    assert sum(link.dark for link in proxy.links) >= 5
    assert echo_target.accepted == 1
    assert server.status is client.status is None


@SLOW
@pytest.mark.timeout(240)
def test_a_hundred_cuts_at_any_byte(echo_target: TcpTarget, through: Through) -> None:
    """Sixteen sessions, each cut again and again after up to 200 kB: in handshakes, headers and payload."""
    rng = random.Random(5)
    proxy, _, client = through(echo_target)
    proxy.limit = lambda: rng.randrange(600, 200_000)
    data = [noise(400_000, seed) for seed in range(16)]
    answers: dict[int, bytes] = {}

    def exchange(number: int) -> None:
        with dial(client, timeout=200) as connection:
            answers[number] = swap(connection, data[number])

    workers = [threading.Thread(target=exchange, args=(number,), daemon=True) for number in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(200)
    assert [summary(answers[number]) for number in range(16)] == [summary(one) for one in data]
    assert sum(link.dark for link in proxy.links) >= 100
    assert echo_target.accepted == 16


@SLOW
@pytest.mark.alone
def test_a_gateway_that_ends_every_connection_after_two_seconds(
    echo_target: TcpTarget, through: Through
) -> None:
    """Typing and bulk both ways, for as long as it takes to see five such ends of each."""
    proxy, _, client = through(echo_target, lifetime=2.0)
    begin = time.monotonic()
    sent, slowest = 0, 0.0
    with dial(client) as typing, dial(client) as bulk:
        block = noise(MIB)
        while time.monotonic() - begin < 11:
            assert swap(bulk, block) == block
            sent += 1
            pressed = time.monotonic()
            assert swap(typing, b"key %d" % sent) == b"key %d" % sent
            slowest = max(slowest, time.monotonic() - pressed)
    assert sum(link.dark for link in proxy.links) >= 8
    assert echo_target.accepted == 2
    assert slowest < 4
    assert sent > 20


@SLOW
@pytest.mark.parametrize("order", ["client first", "target first"])
def test_the_end_of_a_stream_survives_cuts(through: Through, order: str) -> None:
    rng = random.Random(7)
    data = noise(2 * MIB)
    target = TcpTarget(digest if order == "client first" else source(data))
    proxy, _, client = through(target)
    proxy.limit = lambda: rng.randrange(1000, MIB)
    with dial(client) as connection:
        if order == "client first":
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            assert read_all(connection) == summary(data)
        else:
            assert read_all(connection) == data
    assert any(link.dark for link in proxy.links)
    target.close()


@pytest.mark.parametrize("how", ["rst", "fin"])
def test_cuts_inside_tls(fleet: Fleet, echo_target: TcpTarget, how: How) -> None:
    cert, key = fleet.certificate()
    server = serve(fleet, echo_target.address, "--cert", cert, "--key", key)
    limits = iter((300_000, 500_000))
    proxy = CuttingProxy(port_of(server))
    client = connect(fleet, f"wss://localhost:{proxy.port}/", "--ca", cert)
    proxy.limit, proxy.how = (lambda: next(limits, None)), how
    data = noise(MIB)
    with dial(client) as connection:
        assert summary(swap(connection, data)) == summary(data)
    assert sum(link.dark for link in proxy.links) == 2
    assert echo_target.accepted == 1
    proxy.close()


# ---- 6: cuts that only one side sees -------------------------------------------------------------------


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_cut_that_one_side_sees(echo_target: TcpTarget, through: Through, side: str) -> None:
    proxy, _, client = through(echo_target)
    with dial(client) as connection:
        assert swap(connection, b"before") == b"before"
        (old,) = [link for link in proxy.links if link.alive]
        proxy.cut("rst", side)  # type: ignore[arg-type]
        if side == "server":
            # Only pings tell the client, far too late for a test; the user can help.
            assert client.command("tunnel recycle t1")["ok"]
        reconnected(client)
        assert swap(connection, b"between") == b"between"
        proxy.finish(old)
        for number in range(20):
            assert swap(connection, b"after %d" % number) == b"after %d" % number
    assert echo_target.accepted == 1


# ---- 7 and 12: ends that are killed or restarted -------------------------------------------------------


def test_a_restarted_server_ends_the_sessions_of_its_former_life(
    fleet: Fleet, echo_target: TcpTarget
) -> None:
    server = serve(fleet, echo_target.address)
    port = port_of(server)
    proxy = CuttingProxy(port)
    client = connect(fleet, proxy.port)
    with dial(client) as connection:
        assert swap(connection, b"before") == b"before"
        server.kill()
        again = serve(fleet, echo_target.address, port=port)
        assert is_reset(connection)
    assert echoes(client)
    assert echo_target.accepted == 2
    assert again.status is client.status is None
    proxy.close()


def test_a_killed_server_is_told_to_the_application(fleet: Fleet, echo_target: TcpTarget) -> None:
    server = serve(fleet, echo_target.address)
    port = port_of(server)
    client = connect(fleet, server)
    with dial(client) as connection:
        assert swap(connection, b"before") == b"before"
        server.kill()
        assert is_reset(connection)
    echo_target.wait_until(lambda: echo_target.open == 0)
    serve(fleet, echo_target.address, port=port)
    assert echoes(client)


def test_a_killed_client_leaves_nothing_at_the_server(fleet: Fleet, echo_target: TcpTarget) -> None:
    server = serve(fleet, echo_target.address, "--idle-timeout", "2")
    client = connect(fleet, server)
    with dial(client) as connection:
        assert swap(connection, b"before") == b"before"
        client.kill()
        assert is_over(connection)
    assert echoes(connect(fleet, server))
    echo_target.wait_until(lambda: echo_target.open == 0)
    server.wait_until(lambda: server.snapshot()["tunnels"] == [], what="no session")
