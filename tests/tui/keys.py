"""Keys under a pilot, each with all that it leads to before the next one.

A key goes from the widget with the focus up to the app, one queue after the other, and what it starts
may go that way again. A pause of the pilot does not wait for that on a busy machine, and on an idle one
it takes 20 ms.
"""

from __future__ import annotations

import asyncio

TURNS = 12  # of the loop, in which a message gets to where it is answered


async def settle(pilot):
    """Wait until nothing is under way any more: no message, no worker."""
    await quiet(pilot.app)
    await pilot.app.workers.wait_for_complete()
    await pilot._wait_for_screen()
    await quiet(pilot.app)


async def quiet(app):
    """Wait until no message is waiting anywhere after some turns of the loop, and all is in its place."""
    while app.is_running:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        screen = app.screen
        nodes = (app, *screen.walk_children(with_self=True))
        if not screen._layout_required and all(node._message_queue.empty() for node in nodes):
            return
        await asyncio.sleep(0.001)  # the layout is done by a timer of the screen


async def press(pilot, *keys):
    """Press keys one by one; all that they lead to has happened when this returns."""
    for key in keys:
        await pilot.app._press_keys([key])
        await settle(pilot)
