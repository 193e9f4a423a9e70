"""Names and reasons come from peers: nothing of them steers the terminal, on any screen of any size."""

from __future__ import annotations

import msgspec
import pytest

from rtun_core.commands import CommandResult
from rtun_tui.still import StillSource
from tests.tui.conftest import make_app, running, world

EVIL = "e\x1b[31mv\x07\x9b2J\u202e\r\nil\x00"
FOREIGN = ("name", "reason", "remote", "local", "address", "signal", "version", "codec", "kind", "target")


def spoilt(value):
    """A snapshot in which whatever a peer may say begins with escape codes."""
    changes = {}
    for field in value.__struct_fields__:
        old = getattr(value, field)
        if field in FOREIGN and isinstance(old, str):
            changes[field] = EVIL + old
        elif isinstance(old, tuple) and old and isinstance(old[0], msgspec.Struct):
            changes[field] = tuple(map(spoilt, old))
    return msgspec.structs.replace(value, **changes)


class Hostile(StillSource):
    """A relay among peers that mean ill."""

    title = EVIL

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._snapshot = spoilt(self._snapshot)

    async def execute(self, command):
        self.executed.append(command)
        return CommandResult(text=EVIL)


def harmless(console):
    for line in console.lines:
        assert line.isprintable(), line


WALK = (
    *(["1"], ["enter"], ["escape", "j", "a"], ["escape", "o"], ["K"], ["y"]),
    *(["2"], ["enter"], ["escape", "x"], ["escape", "X"]),
    *(["3"], ["enter"], ["escape", "m"], ["escape", "X"]),
    *(["escape", "5"], ["enter"], ["escape", "r"], ["escape", "4"], ["question_mark"], ["escape"]),
)


@pytest.mark.parametrize("size", [(160, 50), (80, 24), (60, 15), (40, 10)])
async def test_no_screen_draws_what_steers_a_terminal(size):
    async with running(make_app(Hostile(world(), past=20)), size) as c:
        harmless(c)
        for keys in WALK:
            await c.press(*keys)
            harmless(c)


async def test_nor_does_the_line_that_is_typed():
    async with running(make_app(Hostile(world(), past=20))) as c:
        await c.press("colon")
        await c.type("agent use ")
        harmless(c)
        await c.press("tab")
        harmless(c)
        await c.press("escape")
        await c.line(f"agent probe '{EVIL}'")
        harmless(c)
        await c.press("slash")
        await c.type("name~(")
        harmless(c)
