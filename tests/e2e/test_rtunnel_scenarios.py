"""Tunnels of real processes: what they carry, how they start and end, and what they do about bad input."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.cutting_proxy import CuttingProxy
from tests.e2e.processes import Fleet, Process, rtun
from tests.e2e.tcp import (
    Behaviour,
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
    reset,
    source,
    summary,
    swap,
)
from tests.e2e.tunnel import ACK, DATA, connect, echoes, packet, plain_peer, serve

SLOW = pytest.mark.slow
MIB = 1024 * 1024


@pytest.fixture
def target() -> Iterator[Callable[[Behaviour], TcpTarget]]:
    """Make targets that behave in a given way; they end with the test."""
    made: list[TcpTarget] = []

    def make(behave: Behaviour) -> TcpTarget:
        made.append(TcpTarget(behave))
        return made[-1]

    yield make
    for one in made:
        one.close()


Make = Callable[[Behaviour], TcpTarget]


def pair(fleet: Fleet, target: TcpTarget, *args: str) -> tuple[Process, Process]:
    """Server and client of a tunnel to `target`, with the same options."""
    server = serve(fleet, target.address, *args)
    return server, connect(fleet, server, *args)


def wait_for_no_session(process: Process) -> None:
    process.wait_until(lambda: process.snapshot()["tunnels"] == [], what="no session")


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# ---- 1: the start --------------------------------------------------------------------------------------


def test_path_query_and_headers_reach_the_server(fleet: Fleet, target: Make, tmp_path: Path) -> None:
    heads: list[bytes] = []

    def gateway(connection: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(4096)
        heads.append(head)

    (tmp_path / "token").write_text("hunter2\n")
    url = f"ws://{target(gateway).address}/a%2Fb/c?d=%20&e"
    client = connect(
        fleet, url, "--header", "X-A: 1", "--token-file", str(tmp_path / "token"), "-d", up=False
    )
    notice = client.wait_for("notice", lambda event: event["topic"] == "unreachable")
    assert "ended the handshake" in notice["message"]
    lines = heads[0].decode().splitlines()
    assert lines[0] == "GET /a%2Fb/c?d=%20&e HTTP/1.1"
    assert "X-A: 1" in lines
    assert "Upgrade: websocket" in lines
    assert client.stop() == 0
    everything = heads[0].decode() + client.transcript() + " ".join(client.args)
    assert "hunter2" not in everything


def test_no_server_is_told_and_waited_for(fleet: Fleet, target: Make) -> None:
    port = unused_port()
    client = connect(fleet, port, up=False)
    notice = client.wait_for("notice", lambda event: event["topic"] == "unreachable")
    assert notice["message"] == f"cannot connect to ws://127.0.0.1:{port}: Connection refused"
    serve(fleet, target(echo).address, port=port)
    assert echoes(client)
    assert client.status is None


@pytest.mark.parametrize("trust", ["ca", "insecure", "none"])
def test_tls(fleet: Fleet, target: Make, trust: str) -> None:
    cert, key = fleet.certificate()
    server = serve(fleet, target(echo).address, "--cert", cert, "--key", key)
    args = {"ca": ("--ca", cert), "insecure": ("--insecure",), "none": ()}[trust]
    client = connect(fleet, f"wss://localhost:{port_of(server)}/", *args, up=trust != "none")
    assert echoes(client, noise(MIB)) == (trust != "none")
    if trust == "none":
        assert "is not trusted" in client.wait_for("notice")["message"]


def test_several_targets_by_path(fleet: Fleet, target: Make) -> None:
    one, two = (target(source(word)) for word in (b"one", b"two"))
    server = serve(fleet, "none", "--path", f"/one={one.address}", "--path", f"/two={two.address}")
    for path, answer in (("/one", b"one"), ("/two?x=1", b"two")):
        client = connect(fleet, f"ws://127.0.0.1:{port_of(server)}{path}")
        with dial(client) as connection:
            assert read_all(connection) == answer
    stray = connect(fleet, server, "--connect-timeout", "0.5", up=False)
    with dial(stray) as connection:
        assert is_reset(connection)
    assert server.snapshot()["faults"]["path"] >= 1


def test_the_wrong_token_is_refused(fleet: Fleet, target: Make) -> None:
    server = serve(fleet, target(echo).address, "--token", "right")
    assert echoes(connect(fleet, server, "--token", "right"))
    for args in (("--token", "wrong"), ()):
        client = connect(fleet, server, *args, up=False)
        assert "refuses the token" in client.wait_for("notice")["message"]
        with dial(client) as connection:
            assert is_reset(connection)
    assert server.snapshot()["faults"]["token"] >= 2


def test_too_many_sessions(fleet: Fleet, target: Make) -> None:
    server = serve(fleet, target(echo).address, "--max-sessions", "1")
    client = connect(fleet, server, "--connect-timeout", "0.5")
    with dial(client) as first, dial(client) as second:
        assert swap(first, b"first") == b"first"
        assert is_reset(second)
        assert swap(first, b"still there") == b"still there"
    assert server.snapshot()["drops"]["max-sessions"] >= 1


@pytest.mark.parametrize("side", ["serve", "connect"])
def test_a_port_in_use_is_one_sentence_and_status_3(side: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        first = "9" if side == "serve" else "ws://127.0.0.1:1/"
        result = rtun("ws", side, first, address, "--quiet")
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith(f"Error: cannot listen on TCP {address}: Address already in use")
    assert result.stderr.count("\n") == 1


def test_metrics(fleet: Fleet, target: Make) -> None:
    port = unused_port()
    server = serve(fleet, target(echo).address, "--metrics", f":{port}")
    assert echoes(connect(fleet, server), noise(1000))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        text = page.read().decode()
    assert 'rtun_traffic_bytes_total{direction="up"} 1000.0' in text


# ---- the executable of the original --------------------------------------------------------------------


def test_the_executable_carries(fleet: Fleet, target: Make) -> None:
    module = "rtun_core.cli.rtunnel"
    server = fleet.run(target(echo).address, "127.0.0.1:0", "-d", "--json", module=module)
    url = f"http://127.0.0.1:{port_of(server)}"
    client = fleet.run("-debug", url, "-secure=false", "127.0.0.1:0", "--json", module=module)
    assert echoes(client, noise(MIB))
    assert [process.stop() for process in (client, server)] == [0, 0]


def test_the_executable_with_a_port_in_use_has_the_status_of_the_original() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        words = [sys.executable, "-m", "rtun_core.cli.rtunnel", "9", address, "--quiet"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: cannot listen on TCP {address}: Address already in use")


# ---- 2 to 4: what is carried ---------------------------------------------------------------------------


def test_echo_of_every_size(fleet: Fleet, target: Make) -> None:
    _, client = pair(fleet, target(echo))
    for length in (1, 16384, 16385, 10 * MIB):
        with dial(client) as connection:
            data = noise(length)
            assert swap(connection, data) == data


def test_a_hundred_sessions_leave_no_descriptors(fleet: Fleet, target: Make) -> None:
    ends = target(echo)
    processes = pair(fleet, ends)
    server, client = processes

    def descriptors() -> list[int]:
        return [psutil.Process(process.pid).num_fds() for process in processes]

    def settled() -> bool:
        return all(process.snapshot()["tunnels"] == [] for process in processes)

    assert echoes(client)
    server.wait_until(settled, what="end of the first session")
    before = descriptors()
    connections = [dial(client) for _ in range(100)]
    for number, connection in enumerate(connections):
        connection.sendall(noise(3000, number))
    for number, connection in enumerate(connections):
        assert read_exactly(connection, 3000) == noise(3000, number)
    assert ends.open == 100
    for connection in connections:
        connection.close()
    ends.wait_until(lambda: ends.open == 0)
    server.wait_until(
        lambda: settled() and all(now <= old for now, old in zip(descriptors(), before, strict=True)),
        what=f"return to {before} descriptors",
        timeout=15,
    )


def test_a_target_that_sends_and_closes_at_once(fleet: Fleet, target: Make) -> None:
    sent = [noise(length) for length in (1, 200_000, 10 * MIB)]
    turns = iter(sent)
    _, client = pair(fleet, target(lambda connection: connection.sendall(next(turns))))
    for data in sent:
        with dial(client) as connection:
            assert read_all(connection) == data


def test_a_client_that_sends_and_closes_at_once(fleet: Fleet, target: Make) -> None:
    got: list[bytes] = []
    ends = target(lambda connection: got.append(read_all(connection)))
    _, client = pair(fleet, ends)
    data = noise(3 * MIB)
    with dial(client) as connection:
        connection.sendall(data)
    ends.wait_until(lambda: ends.ended)
    assert got == [data]


@SLOW
@pytest.mark.alone
def test_typing_stays_prompt_beside_bulk(fleet: Fleet, target: Make) -> None:
    ends = target(echo)
    _, client = pair(fleet, ends)
    data = noise(48 * MIB)
    answers: list[bytes] = []
    with dial(client) as bulk, dial(client) as typing:
        worker = threading.Thread(target=lambda: answers.append(swap(bulk, data)), daemon=True)
        worker.start()
        slowest, keys = 0.0, 0
        while worker.is_alive():
            begin = time.monotonic()
            assert swap(typing, b"k%d" % keys) == b"k%d" % keys
            slowest, keys = max(slowest, time.monotonic() - begin), keys + 1
        worker.join(60)
    assert summary(answers[0]) == summary(data)
    assert keys > 10
    assert slowest < 1.0


# ---- 8: a consumer that pauses -------------------------------------------------------------------------


@SLOW
@pytest.mark.parametrize("reader", ["client", "target"])
def test_a_pause_of_the_consumer_costs_nothing(fleet: Fleet, target: Make, reader: str) -> None:
    data = noise(24 * MIB)

    def slowly(connection: socket.socket) -> bytes:
        begin = read_exactly(connection, MIB)
        time.sleep(3)  # the pause is what is tested
        return begin + read_all(connection)

    got: list[bytes] = []
    ends = target(source(data) if reader == "client" else lambda one: got.append(slowly(one)))
    server = serve(fleet, ends.address)
    proxy = CuttingProxy(port_of(server))
    try:
        client = connect(fleet, proxy.port)
        with dial(client) as connection:
            if reader == "client":
                got.append(slowly(connection))
            else:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                ends.wait_until(lambda: ends.ended)
        assert summary(got[0]) == summary(data)
        assert proxy.carried <= 1.1 * len(data)
    finally:
        proxy.close()


# ---- 9: targets that are not there ---------------------------------------------------------------------


def test_a_target_that_is_down_is_passed_on_and_recovered_from(fleet: Fleet) -> None:
    port = unused_port()
    server = serve(fleet, str(port))
    client = connect(fleet, server)
    with dial(client) as connection:
        assert is_reset(connection)
    back = TcpTarget(echo, port=port)
    assert echoes(client)
    back.close()


# ---- 11: ends of streams -------------------------------------------------------------------------------


def test_the_client_ends_first(fleet: Fleet, target: Make) -> None:
    _, client = pair(fleet, target(digest))
    data = noise(3 * MIB)
    with dial(client) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == summary(data)


def test_the_target_ends_first(fleet: Fleet, target: Make) -> None:
    got: list[bytes] = []

    def greet(connection: socket.socket) -> None:
        connection.sendall(b"go on")
        connection.shutdown(socket.SHUT_WR)
        got.append(read_all(connection))

    ends = target(greet)
    _, client = pair(fleet, ends)
    data = noise(3 * MIB)
    with dial(client) as connection:
        assert read_all(connection) == b"go on"
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        ends.wait_until(lambda: ends.ended)
    assert got == [data]


def test_both_end_at_once(fleet: Fleet, target: Make) -> None:
    got: list[bytes] = []

    def greet(connection: socket.socket) -> None:
        connection.sendall(b"to the client")
        connection.shutdown(socket.SHUT_WR)
        got.append(read_all(connection))

    ends = target(greet)
    server, client = pair(fleet, ends)
    with dial(client) as connection:
        connection.sendall(b"to the target")
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b"to the client"
    ends.wait_until(lambda: ends.ended)
    assert got == [b"to the target"]
    assert client.wait_for("flow.closed")["reason"] == "done"
    assert server.wait_for("flow.closed")["reason"] == "done"


def test_a_reset_of_the_client_reaches_the_target(fleet: Fleet, target: Make) -> None:
    ends = target(echo)
    _, client = pair(fleet, ends)
    connection = dial(client)
    assert swap(connection, b"hello") == b"hello"
    reset(connection)
    ends.wait_until(lambda: ends.ended)


def test_a_reset_of_the_target_reaches_the_client(fleet: Fleet, target: Make) -> None:
    def hang_up(connection: socket.socket) -> None:
        connection.recv(5)
        reset(connection)

    ends = target(hang_up)
    _, client = pair(fleet, ends)
    with dial(client) as connection:
        connection.sendall(b"hello")
        assert is_reset(connection)


# ---- 12: the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["server", "client"])
def test_sigterm_lets_what_is_under_way_arrive(fleet: Fleet, target: Make, side: str) -> None:
    got: list[bytes] = []
    ends = target(lambda connection: got.append(read_exactly(connection, 512 * 1024)))
    server, client = pair(fleet, ends)
    data = noise(512 * 1024)
    with dial(client) as connection:
        connection.sendall(data)
        process = server if side == "server" else client
        process.wait_until(lambda: process.snapshot()["traffic"]["up_bytes"], what="traffic")
        process.signal(signal.SIGTERM)
        assert process.join() == 0
        ends.wait_until(lambda: ends.ended)
        assert is_over(connection)
    assert got == [data]


def test_sigterm_ends_what_is_idle_at_once(fleet: Fleet, target: Make) -> None:
    ends = target(echo)
    server, client = pair(fleet, ends)
    with dial(client) as connection:
        assert swap(connection, b"hello") == b"hello"
        begin = time.monotonic()
        assert client.stop() == 0
        assert time.monotonic() - begin < 3
        assert is_over(connection)
    ends.wait_until(lambda: ends.open == 0)
    assert server.stop() == 0


def test_idle_sessions_end(fleet: Fleet, target: Make) -> None:
    ends = target(echo)
    server = serve(fleet, ends.address, "--idle-timeout", "1")
    client = connect(fleet, server)
    with dial(client) as connection:
        assert swap(connection, b"hello") == b"hello"
        assert is_over(connection)
    ends.wait_until(lambda: ends.open == 0)
    assert server.wait_for("flow.closed")["reason"] == "idle"


def test_a_probe_of_the_port_leaves_no_session(fleet: Fleet, target: Make) -> None:
    ends = target(echo)
    server, client = pair(fleet, ends)
    for _ in range(20):
        dial(client).close()
    assert echoes(client)
    for process in (server, client):
        wait_for_no_session(process)
    ends.wait_until(lambda: ends.open == 0)


# ---- 10: peers that send nonsense, and the original's ways ---------------------------------------------


async def test_a_peer_without_extensions(fleet: Fleet, target: Make) -> None:
    server = serve(fleet, target(echo).address)
    async with plain_peer(server, "plain") as peer:
        for seq, payload in ((1, b"A"), (3, b"C"), (1, b"A"), (2, b"B")):
            await peer.socket.send_bytes(packet(DATA, seq=seq, payload=payload))
        await peer.wait_until(lambda: (peer.received, peer.acked) == (b"ABC", 3))
        assert server.snapshot()["tunnels"][0]["codec"] == "original"


async def test_nonsense_is_skipped_as_the_original_does(fleet: Fleet, target: Make) -> None:
    server = serve(fleet, target(echo).address)
    async with plain_peer(server, "odd") as peer:
        bad = [b"", b"\1", packet(DATA, seq=1, payload=b"abcde")[:-2]]
        unknown = [packet(flag, seq=1, payload=b"?") for flag in (0, 3, 5, 255)]
        for message in bad + unknown:
            await peer.socket.send_bytes(message)
        await peer.socket.send_bytes(packet(DATA, seq=1, payload=b"ab") + b"cd")
        await peer.socket.send_str(packet(DATA, seq=2, payload=b"text").decode())
        await peer.socket.send_bytes(packet(DATA, seq=3))
        await peer.socket.send_bytes(packet(DATA, seq=4, payload=b"!"))
        await peer.wait_until(lambda: (peer.received, peer.acked) == (b"abtext!", 4))
        assert server.snapshot()["faults"]["bad-packet"] == len(bad)


_UPGRADE = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Session-ID: s\r\n"
_KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


_NO_TUNNELS = {
    "TLS at a port without": (b"\x16\x03\x01\x02\x00\x01" + noise(500), b"400"),
    "noise": (noise(3000), b"400"),
    "a long header": (b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", b"400"),
    "a browser": (b"GET /a/b HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
    "an old version": (_UPGRADE + b"Sec-WebSocket-Version: 12\r\n" + _KEY + b"\r\n", b"400"),
    "no key": (_UPGRADE + b"Sec-WebSocket-Version: 13\r\n\r\n", b"400"),
}


def test_what_is_no_tunnel_is_answered_and_the_server_goes_on(fleet: Fleet, target: Make) -> None:
    server = serve(fleet, target(echo).address)
    for name, (sent, status) in _NO_TUNNELS.items():
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=10) as stranger:
            stranger.sendall(sent)
            assert stranger.recv(64).split()[1:2] == [status], name
    assert echoes(connect(fleet, server))
    assert server.snapshot()["faults"] == {"handshake": 2}
    assert server.stop() == 0


@pytest.mark.parametrize("kind", ["ack", "far", "oversize"])
async def test_a_broken_peer_ends_its_own_session_only(fleet: Fleet, target: Make, kind: str) -> None:
    ends = target(echo)
    server = serve(fleet, ends.address)
    client = connect(fleet, server)
    with dial(client) as other:
        assert swap(other, b"before") == b"before"
        async with plain_peer(server, kind) as peer:
            await peer.send(b"hello")
            await peer.wait_until(lambda: peer.received == b"hello")
            broken = {
                "ack": [packet(ACK, ack=2**63)],
                "far": [packet(DATA, seq=seq, payload=b"x") for seq in range(10, 1110)],
                "oversize": [packet(DATA, seq=2, payload=bytes(4 * MIB))],
            }[kind]
            with contextlib.suppress(ConnectionError):
                for message in broken:
                    await peer.socket.send_bytes(message)
            await peer.wait_until(lambda: peer.fin or peer.closed)
        ends.wait_until(lambda: ends.open == 1)
        assert swap(other, b"after") == b"after"
    assert server.snapshot()["faults"]


async def test_two_websockets_for_one_session(fleet: Fleet, target: Make) -> None:
    ends = target(echo)
    server = serve(fleet, ends.address)
    async with plain_peer(server, "same") as old:
        await old.send(b"old ")
        await old.wait_until(lambda: old.received == b"old ")
        async with plain_peer(server, "same", old) as new:
            await old.wait_until(lambda: old.closed)
            await new.send(b"new")
            await new.wait_until(lambda: new.received == b"new")
    assert ends.accepted == 1
