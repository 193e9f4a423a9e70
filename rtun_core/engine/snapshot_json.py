"""The one JSON form of a snapshot, whole or with only some of its flows."""

from __future__ import annotations

import asyncio

import msgspec

from rtun_core.model import Snapshot
from rtun_core.view.biggest import biggest

# 10,000 flows are 3 MB and 50 ms of work. Done in a thread it stops the loop for 5 ms at a time, which is
# what a thread may keep the interpreter; in pieces of this many flows, on the loop, for 1 ms.
PIECE = 256


async def snapshot_json(snapshot: Snapshot) -> bytes:
    """The bytes of the whole, made in pieces between which the loop does other things."""
    flows = snapshot.flows
    pieces = []
    for begin in range(0, len(flows), PIECE):
        pieces.append(msgspec.json.encode(list(flows[begin : begin + PIECE]))[1:-1])
        await asyncio.sleep(0)
    fields = msgspec.structs.asdict(snapshot)
    return msgspec.json.encode(fields | {"flows": msgspec.Raw(b"[%s]" % b",".join(pieces))})


def with_biggest(snapshot: Snapshot, count: int) -> Snapshot:
    """The snapshot with only its `count` busiest flows; `flows_total` says how many there are."""
    return msgspec.structs.replace(
        snapshot, flows=biggest(snapshot.flows, count), flows_total=len(snapshot.flows)
    )
