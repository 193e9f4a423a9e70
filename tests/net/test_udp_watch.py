import asyncio
import select
import socket

import pytest

from rtun_core.net import udp_watch
from rtun_core.net.udp_batch import BATCH
from rtun_core.net.udp_watch import READ, WRITE, make_watch, shared_watch

needs_epoll = pytest.mark.skipif(not hasattr(select, "epoll"), reason="no epoll here")


@pytest.fixture(params=[pytest.param(False, marks=needs_epoll, id="best"), pytest.param(True, id="portable")])
def portable(request):
    return request.param


@pytest.fixture
def pair():
    first, second = socket.socketpair(type=socket.SOCK_DGRAM)
    with first, second:
        first.setblocking(False)
        yield first, second


class Served:
    """Collects what a watch tells, and drains the socket."""

    def __init__(self, sock):
        self.sock, self.events = sock, asyncio.Queue()

    def __call__(self, ready, turn):
        assert turn in range(udp_watch.MAX_ROUNDS)
        for fd, events in ready:
            assert fd == self.sock.fileno()
            if events & READ:
                self.sock.recv(100)
            self.events.put_nowait(events)
        return 0

    async def next(self):
        return await asyncio.wait_for(self.events.get(), 10)


async def test_reading_and_writing(pair, portable):
    first, second = pair
    served = Served(first)
    watch = make_watch(asyncio.get_running_loop(), served, 8, portable=portable)
    fd = first.fileno()
    watch.update(fd, 0, READ)
    watch.update(fd, READ, READ)
    second.send(b"x")
    assert await served.next() == READ
    watch.update(fd, READ, READ | WRITE)
    assert await served.next() == WRITE
    watch.update(fd, READ | WRITE, WRITE)
    second.send(b"stays unread")
    assert not await served.next() & READ
    watch.update(fd, WRITE, READ)
    while await served.next() != READ:
        pass
    watch.update(fd, READ, 0)
    watch.close()


async def test_single_sockets_share_a_watch(pair, portable):
    loop = asyncio.get_running_loop()
    first, second = pair
    second.setblocking(False)
    told = asyncio.Queue()
    sockets = {sock.fileno(): sock for sock in pair}

    def callback(fd):
        def ready(events):
            sockets[fd].recv(100)
            told.put_nowait(fd)
            return 1

        return ready

    watch = shared_watch(loop, portable=portable)
    for fd in sockets:
        assert shared_watch(loop, portable=portable) is watch
        watch.update(fd, 0, READ, callback(fd))
    first.send(b"x")
    assert await asyncio.wait_for(told.get(), 10) == second.fileno()
    second.send(b"x")
    assert await asyncio.wait_for(told.get(), 10) == first.fileno()
    for fd in sockets:
        watch.update(fd, READ, 0, callback(fd))
    assert (loop, portable) not in udp_watch._shared


async def test_a_busy_socket_is_served_a_bounded_number_of_times(pair, portable):
    first, second = pair
    loop = asyncio.get_running_loop()
    calls, at_turn = [], []
    done = asyncio.Event()

    def serve(ready, turn):
        if not calls:
            loop.call_soon(at_turn.append, True)
        if at_turn:
            watch.update(first.fileno(), READ, 0)
            done.set()
            return 0
        calls.append(turn)
        return BATCH

    watch = make_watch(loop, serve, 8, portable=portable)
    watch.update(first.fileno(), 0, READ)
    second.send(b"never read")
    await asyncio.wait_for(done.wait(), 10)
    assert calls == list(range(udp_watch.MAX_ROUNDS))
    watch.close()
