"""Which UDP sockets are ready, told in bounded portions.

On Linux sockets are in an epoll of ours, and the loop watches only that one descriptor; elsewhere
(`portable`) the loop watches each socket. The epoll makes thousands of sockets cheap for the loop. It
also keeps uvloop from seeing their errors: libuv takes an error condition, such as a refused datagram,
for a dead descriptor and stops polling it for good.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Final, Protocol

from rtun_core.net.udp_batch import BATCH

READ: Final = 1  # EPOLLIN
WRITE: Final = 4  # EPOLLOUT

MAX_ROUNDS: Final = 4
"""Batches that one wake-up reads from a socket before other work of the loop gets its turn."""

_SHARED_READY = 8  # sockets served in one round; the kernel rotates among those that are ready

Ready = list[tuple[int, int]]
"""File descriptors and what they are ready for: READ, WRITE, or an error condition, which reading tells."""

Serve = Callable[[Ready, int], int]
"""Serves what is ready, in turn 0, 1, ... of a wake-up. How many datagrams were read; BATCH or more: more may
wait."""


class Watch(Protocol):
    """Calls its `Serve` when sockets are ready: READ and WRITE for as long as they are so."""

    def update(self, fd: int, old: int, new: int) -> None:
        """Change what a socket is watched for; 0 is not at all, as it must be before the socket closes."""

    def close(self) -> None:
        """Let go of the loop. No socket is watched any more."""


class EpollWatch:
    """`Watch` by an epoll inside the loop's own selector. `ready_limit` bounds the sockets of one round."""

    def __init__(self, loop: asyncio.AbstractEventLoop, serve: Serve, ready_limit: int) -> None:
        self._loop = loop
        self._serve = serve
        self._ready_limit = ready_limit
        self._epoll = select.epoll()
        loop.add_reader(self._epoll.fileno(), self._wake)

    def update(self, fd: int, old: int, new: int) -> None:
        """See `Watch.update`."""
        if old == new:
            return
        if not old:
            self._epoll.register(fd, new)
        elif not new:
            self._epoll.unregister(fd)
        else:
            self._epoll.modify(fd, new)

    def close(self) -> None:
        """See `Watch.close`."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _wake(self) -> None:
        # level-triggered all the way: what is left over wakes the loop again
        for turn in range(MAX_ROUNDS):
            ready = self._epoll.poll(0, self._ready_limit)
            if not ready:
                return
            if self._serve(ready, turn) < BATCH or self._epoll.closed:
                return


class SelectorWatch:
    """`Watch` by the loop's own selector, one entry per socket."""

    def __init__(self, loop: asyncio.AbstractEventLoop, serve: Serve) -> None:
        self._loop = loop
        self._serve = serve

    def update(self, fd: int, old: int, new: int) -> None:
        """See `Watch.update`."""
        if new & READ and not old & READ:
            self._loop.add_reader(fd, self._wake, [(fd, READ)])
        elif old & READ and not new & READ:
            self._loop.remove_reader(fd)
        if new & WRITE and not old & WRITE:
            self._loop.add_writer(fd, self._wake, [(fd, WRITE)])
        elif old & WRITE and not new & WRITE:
            self._loop.remove_writer(fd)

    def close(self) -> None:
        """See `Watch.close`: the entries went with their sockets."""

    def _wake(self, ready: Ready) -> None:
        for turn in range(MAX_ROUNDS):
            if self._serve(ready, turn) < BATCH:
                return


class SharedWatch:
    """One `Watch` for all single sockets of a loop. Made for the first of them, closed with the last."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, portable: bool) -> None:
        self._key = (loop, portable)
        self._watch = make_watch(loop, self._serve, _SHARED_READY, portable=portable)
        self._callbacks: dict[int, Callable[[int], int]] = {}

    def update(self, fd: int, old: int, new: int, callback: Callable[[int], int]) -> None:
        """As `Watch.update`; `callback` gets what the socket is ready for, and counts as `Serve`."""
        self._watch.update(fd, old, new)
        if new:
            self._callbacks[fd] = callback
            return
        self._callbacks.pop(fd, None)
        if not self._callbacks and _shared.get(self._key) is self:
            del _shared[self._key]
            self._watch.close()

    def _serve(self, ready: Ready, _turn: int) -> int:
        total = BATCH if len(ready) == _SHARED_READY else 0
        for fd, events in ready:
            callback = self._callbacks.get(fd)
            if callback is not None:
                total += callback(events)
        return total


_shared: dict[tuple[asyncio.AbstractEventLoop, bool], SharedWatch] = {}


def shared_watch(loop: asyncio.AbstractEventLoop, *, portable: bool) -> SharedWatch:
    """The watch of the loop's single sockets; to be asked for anew whenever a socket was not watched."""
    key = (loop, portable)
    if key not in _shared:
        _shared[key] = SharedWatch(loop, portable=portable)
    return _shared[key]


def make_watch(loop: asyncio.AbstractEventLoop, serve: Serve, ready_limit: int, *, portable: bool) -> Watch:
    """The best watch this system has, or the one that every system has."""
    if portable or not hasattr(select, "epoll"):
        return SelectorWatch(loop, serve)
    return EpollWatch(loop, serve, ready_limit)
