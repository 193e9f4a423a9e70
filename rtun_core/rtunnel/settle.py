"""Ending all sessions of a service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from rtun_core.rtunnel.book import Book
from rtun_core.rtunnel.carrier import Carrier

DRAIN_TIME: Final = 3.0
"""Seconds that sessions have to hand on what they have already taken."""
GOODBYE_TIME: Final = 1.0
"""Seconds that peers have to take the end of their sessions."""

_STEP = 0.02


async def settle(book: Book, *, drain: bool) -> None:
    """End every session; with `drain`, first let those finish that are in the middle of something."""
    if drain:
        for carrier in book.live.values():
            carrier.hold()
        await _while(DRAIN_TIME, lambda: any(map(_is_moving, book.live.values())))
    for carrier in list(book.live.values()):
        carrier.reset("stopped")
    await _while(GOODBYE_TIME, lambda: bool(book.live or book.linked))
    for carrier in [*book.live.values(), *book.linked]:
        carrier.drop()


def _is_moving(carrier: Carrier) -> bool:
    session = carrier.session
    return session.end is None and carrier.link is not None and bool(session.unacknowledged or session.unread)


async def _while(seconds: float, unsettled: Callable[[], bool]) -> None:
    for _ in range(round(seconds / _STEP)):
        if not unsettled():
            return
        await asyncio.sleep(_STEP)
