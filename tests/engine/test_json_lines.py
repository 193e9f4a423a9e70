import json
import os

from rtun_core.engine.json_lines import JsonLines
from rtun_core.events import Drops, EngineStopping


async def test_one_event_per_line(bus):
    read, write = os.pipe()
    output = JsonLines(bus, descriptor=write)
    await output.start()
    bus.emit(Drops(counts={"oversize": 3}))
    bus.emit(EngineStopping(reason="a\nb"))
    await output.stop()
    os.close(write)
    with os.fdopen(read, "rb") as file:
        lines = [json.loads(line) for line in file.read().splitlines()]
    assert [(line["seq"], line["type"]) for line in lines] == [(1, "drops"), (2, "engine.stopping")]
    assert lines[0]["counts"] == {"oversize": 3}


async def test_only_what_passes(bus):
    read, write = os.pipe()
    output = JsonLines(bus, descriptor=write, passes=lambda stamped: isinstance(stamped.event, Drops))
    await output.start()
    bus.emit(EngineStopping(reason="over"))
    bus.emit(Drops(counts={"oversize": 3}))
    await output.stop()
    os.close(write)
    with os.fdopen(read, "rb") as file:
        assert [json.loads(line)["type"] for line in file] == ["drops"]


async def test_stop_without_start(bus):
    await JsonLines(bus).stop()
