"""What is copied. Exports are in `test_effects.py`, and what privacy hides of both in `test_acts.py`."""

from __future__ import annotations

import json


async def test_a_row_is_copied_as_it_is_written(console):
    async with console() as c:
        await c.press("y")
        row = c.flows.current()
        assert c.app.clipboard.startswith(f"{row.id}  {row.source}  {row.target}  {row.tunnel}  ")
        assert c.said.startswith(f"copied: {row.id}")
        await c.press("Y")
        assert json.loads(c.app.clipboard)["flow"] == row.id


async def test_marked_rows_are_copied_wherever_they_are(console):
    async with console() as c:
        await c.press("space", "G", "space", "g", "y")
        lines = c.app.clipboard.splitlines()
        assert {line.split()[0] for line in lines} == c.flows.marks
        assert len(lines) == 2
        assert c.said.endswith("and 1 more line")
        await c.press("Y")
        assert {json.loads(line)["flow"] for line in c.app.clipboard.splitlines()} == c.flows.marks


async def test_events_in_sight_are_copied(console):
    async with console(past=120) as c:
        await c.press("4", "y")
        assert c.app.clipboard == c.events.visible_text()
        await c.press("Y")
        assert all(json.loads(line)["type"] for line in c.app.clipboard.splitlines())


async def test_nothing_to_copy_is_told(console):
    async with console() as c:
        await c.line("filter dn>900G")
        await c.press("y")
        assert c.said == "there is nothing to copy"
