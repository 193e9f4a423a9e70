import json
import stat

import pytest

from rtun_core.engine.snapshot_json import snapshot_json
from rtun_core.engine.status_file import StatusFile, replace_file
from rtun_core.errors import RtunError
from rtun_core.model import Snapshot


def snapshot(**fields):
    return Snapshot(seq=1, ts=2.0, uptime_s=3.0, pid=4, version="0", services=("fake",), **fields)


async def test_whole_snapshot_for_the_owner_only(bus, tmp_path, engine):
    path = tmp_path / "status.json"
    status = StatusFile(path, engine.snapshot, bus)
    await status.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_bytes())["services"] == ["fake"]
    assert [one.name for one in tmp_path.iterdir() if "status" in one.name] == ["status.json"]
    await status.stop()
    assert not path.exists()


async def test_written_again_at_the_interval(bus, tmp_path, until):
    seen = []
    path = tmp_path / "status.json"

    def take():
        seen.append(len(seen))
        return snapshot(drops={"n": len(seen)})

    status = StatusFile(path, take, bus, interval=0.001)
    await status.start()
    await until(lambda: json.loads(path.read_bytes())["drops"]["n"] > 2)
    await status.stop()


async def test_a_place_that_cannot_be_written(bus, tmp_path):
    status = StatusFile(tmp_path / "no" / "status.json", snapshot, bus)
    with pytest.raises(RtunError, match=r"--status-file: cannot write the file .*No such file"):
        await status.start()
    await status.stop()


async def test_a_later_failure_is_told_once(bus, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    status = StatusFile(folder / "status.json", snapshot, bus, interval=1000)
    await status.start()
    folder.rename(tmp_path / "away")
    events = bus.subscribe()
    await status.write()
    await status.write()
    assert [stamped.event.topic for stamped in events.drain()] == ["status"]
    await status.stop()


def test_a_failed_replacement_leaves_nothing_beside(tmp_path):
    (tmp_path / "status").mkdir()
    with pytest.raises(OSError):
        replace_file(tmp_path / "status", b"x")
    assert [one.name for one in tmp_path.iterdir()] == ["status"]


async def test_lazy_flows_are_written_out(flow):
    class Lazy(tuple):
        __slots__ = ()

    text = json.loads(await snapshot_json(snapshot(flows=Lazy([flow(7)]))))
    assert text["flows"][0]["id"] == "00000007"
