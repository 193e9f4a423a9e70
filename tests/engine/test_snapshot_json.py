import asyncio
import json

import msgspec
import pytest

from rtun_core.engine.simulated import SimulatedWorld
from rtun_core.engine.snapshot_json import PIECE, snapshot_json, with_biggest
from rtun_core.flow_rows import FlowRows
from rtun_core.model import Snapshot
from tests.lazy import encode_lazy


def snapshot(**fields):
    return Snapshot(seq=1, ts=2.0, uptime_s=3.0, pid=4, version="5", services=("fake",), **fields)


@pytest.mark.parametrize("count", [0, 1, PIECE, PIECE + 1, 3 * PIECE + 7])
@pytest.mark.parametrize("form", [tuple, FlowRows.of])
async def test_in_pieces_it_is_the_same(flow, count, form):
    picture = snapshot(flows=form([flow(number % 65536) for number in range(count)]))
    assert await snapshot_json(picture) == msgspec.json.encode(picture, enc_hook=encode_lazy)


async def test_the_loop_goes_on_meanwhile():
    picture = SimulatedWorld(flows=4 * PIECE, start=1.7e9).picture()
    turns = []

    async def count():
        while True:
            turns.append(None)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        counting = group.create_task(count())
        data = await snapshot_json(picture)
        counting.cancel()
    assert len(turns) >= 4
    assert len(json.loads(data)["flows"]) == 4 * PIECE


async def test_only_the_biggest(flow):
    picture = with_biggest(snapshot(flows=[flow(number, up=number) for number in range(50)]), 3)
    assert [each.up_bytes for each in picture.flows] == [49, 48, 47]
    assert picture.flows_total == 50
    assert json.loads(await snapshot_json(picture))["flows_total"] == 50
    assert len(with_biggest(snapshot(), 3).flows) == 0
