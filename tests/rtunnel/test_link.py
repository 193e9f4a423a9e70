import asyncio

import aiohttp
import pytest

from rtun_core.rtunnel import link as link_module
from rtun_core.rtunnel.link import Link
from tests.rtunnel.stage import until


class Socket:
    """The parts of a WebSocket that a link uses; `patience` is how long a close takes."""

    def __init__(self, patience=0.0):
        self.pongs = []
        self.sent = []
        self.closed = False
        self.close_code = None
        self._patience = patience

    async def send_bytes(self, packet):
        self.sent.append(packet)

    async def pong(self, payload):
        self.pongs.append(payload)

    async def close(self):
        await asyncio.sleep(self._patience)
        self.close_code = aiohttp.WSCloseCode.OK


class Transport:
    def __init__(self):
        self.calls = []

    def writelines(self, buffers):
        self.calls.append(b"".join(buffers))

    def abort(self):
        self.calls.append("abort")

    def close(self):
        self.calls.append("close")


def make(**options):
    return Link(Socket(**options), Transport(), local="l", remote="r", on_abort=None)


async def test_first_wait_returns_at_once_and_then_waits_for_wake():
    link = make()
    await link.wait()
    assert link.busy
    waiting = asyncio.gather(link.wait())
    await asyncio.sleep(0)
    assert not link.busy
    link.wake()
    link.wake()
    await waiting
    assert link.busy


async def test_wake_while_busy_is_not_forgotten():
    link = make()
    await link.wait()
    link.wake()
    await asyncio.wait_for(link.wait(), 1)


async def test_pongs_are_bounded():
    link = make()
    await link.send_pongs()
    for number in range(100):
        link.answer(b"%d" % number)
    await link.send_pongs()
    assert link.socket.pongs == [b"%d" % number for number in range(84, 100)]
    await link.send_pongs()
    assert len(link.socket.pongs) == 16


async def test_packets_go_through_the_library():
    link = make()
    await link.send([b"one", b"two"])
    assert (link.socket.sent, link.transport.calls) == ([b"one", b"two"], [])


async def test_packets_go_past_the_library_in_one_write_and_wait_for_room():
    room = asyncio.Event()
    link = Link(Socket(), Transport(), local="l", remote="r", drain=room.wait)
    sending = asyncio.gather(link.send([b"one", b"two"]))
    await asyncio.sleep(0)
    assert (link.socket.sent, link.transport.calls) == ([], [b"\x82\3one\x82\3two"])
    assert not sending.done()
    room.set()
    await sending


async def test_nothing_follows_a_close():
    link = Link(Socket(), Transport(), local="l", remote="r", drain=asyncio.Event().wait)
    link.socket.closed = True
    with pytest.raises(ConnectionResetError):
        await link.send([b"one"])
    assert link.transport.calls == []


async def test_close_with_an_answer():
    link = make()
    await link.close()
    assert link.closing
    assert link.transport.calls == ["close"]


async def test_close_without_an_answer_is_bounded(monkeypatch):
    monkeypatch.setattr(link_module, "CLOSE_TIMEOUT", -0.45)
    monkeypatch.setattr(link_module, "_FLUSH_TIME", 0.05)
    link = make(patience=60.0)
    await link.close()
    assert link.transport.calls == ["close"]
    await until(lambda: link.transport.calls == ["close", "abort"])


async def test_abort_lets_go_of_the_response():
    released = []
    link = Link(Socket(), Transport(), local="", remote="", on_abort=lambda: released.append(1))
    link.abort()
    assert (link.transport.calls, released) == (["abort"], [1])
