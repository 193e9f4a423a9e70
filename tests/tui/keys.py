"""Keys under a pilot, each with all that it leads to before the next one.

A key goes from the widget with the focus up to the app, one queue after the other, and what it starts
may go that way again. A pause of the pilot does not wait for that on a busy machine.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def settle(pilot):
    """Wait until what was pressed has gone all the way up, and what came of it, too."""
    for _ in range(3):
        app = pilot.app
        for node in (app.focused or app.screen).ancestors_with_self:
            passed = asyncio.Event()
            if node.call_later(passed.set):
                with suppress(TimeoutError):  # a dialog that is going away reads no more
                    await asyncio.wait_for(passed.wait(), 1)
        await pilot.pause()


async def press(pilot, *keys):
    """Press keys one by one."""
    for key in keys:
        await pilot.press(key)
        await settle(pilot)
