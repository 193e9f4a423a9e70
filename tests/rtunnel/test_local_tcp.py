import asyncio

import pytest

from rtun_core.rtunnel.local_tcp import LocalTcp
from tests.rtunnel.stage import reset, until


class User:
    """Takes what comes, up to `room` bytes in all."""

    def __init__(self, room=1 << 20):
        self.room = room
        self.got = bytearray()
        self.ended = False
        self.writable = 0
        self.lost = []

    def tcp_data(self, data):
        assert len(data) <= self.room
        self.got += data
        self.room -= len(data)

    def tcp_eof(self):
        self.ended = True

    def tcp_writable(self):
        self.writable += 1

    def tcp_lost(self, error):
        self.lost.append(error)


@pytest.fixture
async def join():
    """Connects a LocalTcp to a plain stream."""
    ends = []

    async def join(user):
        loop = asyncio.get_running_loop()
        tcp = LocalTcp(user)
        server = await loop.create_server(lambda: tcp, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        server.close()
        await until(lambda: tcp.writable)
        ends.append((tcp, writer))
        return tcp, reader, writer

    yield join
    for tcp, writer in ends:
        tcp.abort()
        writer.transport.abort()
    for _ in range(3):
        await asyncio.sleep(0)


async def test_reading_stops_where_the_room_ends(join):
    user = User(100_000)
    tcp, _, writer = await join(user)
    writer.write(bytes(300_000))
    await until(lambda: user.room < 32_768)
    before = len(user.got)
    tcp.resume()
    await asyncio.sleep(0.02)
    assert len(user.got) == before
    user.room = 1 << 20
    tcp.resume()
    await until(lambda: len(user.got) == 300_000)


async def test_both_ends_of_the_stream(join):
    user = User()
    tcp, reader, writer = await join(user)
    writer.write(b"up")
    writer.write_eof()
    await until(lambda: user.ended)
    tcp.write([memoryview(b"do"), memoryview(b"wn")])
    tcp.write_eof()
    tcp.write_eof()
    assert await reader.read(-1) == b"down"
    assert user.got == b"up"
    tcp.finish(5.0)
    await until(lambda: user.lost == [None])


async def test_writable_again_after_a_pause(join):
    user = User()
    tcp, reader, _ = await join(user)
    data = bytes(8_000_000)
    tcp.write([memoryview(data)])
    assert not tcp.writable
    await reader.readexactly(len(data))
    await until(lambda: user.writable == 1)
    assert tcp.writable


async def test_abort_is_a_reset(join):
    user = User()
    tcp, reader, _ = await join(user)
    tcp.abort()
    tcp.abort()
    with pytest.raises(ConnectionResetError):
        await reader.read(-1)
    assert len(user.lost) == 1
    tcp.write([memoryview(b"late")])
    tcp.close()


async def test_finish_swallows_what_still_comes(join):
    """Else the unread bytes would turn the close into a reset, and the rest would be lost."""
    user = User(0)
    tcp, reader, writer = await join(user)
    tcp.pause()
    writer.write(bytes(100_000))
    tcp.write([memoryview(bytes(100_000))])
    tcp.finish(5.0)
    tcp.finish(5.0)
    assert len(await reader.read(-1)) == 100_000
    writer.write_eof()
    await until(lambda: user.lost == [None])
    assert not user.got


async def test_finish_has_limited_patience(join):
    user = User()
    tcp, reader, _ = await join(user)
    tcp.finish(0.05)
    assert await reader.read(-1) == b""
    await until(lambda: user.lost)


async def test_reset_by_the_application(join):
    user = User()
    _, _, writer = await join(user)
    reset(writer)
    await until(lambda: user.lost)
    assert isinstance(user.lost[0], ConnectionResetError)


async def test_connection_without_a_user_yet():
    tcp = LocalTcp(None)
    assert tcp.peer_name() is None
    assert len(tcp.get_buffer(-1)) > 0
    tcp.buffer_updated(10)
    user = User()
    tcp.work_for(user)
    tcp.connection_lost(None)
    assert user.lost == [None]
