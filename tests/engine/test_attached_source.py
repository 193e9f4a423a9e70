import asyncio
import os
import time

import msgspec
import pytest

from rtun_core.commands import PauseRule, ProbeAgent
from rtun_core.engine.attached_source import RECALL, AttachedSource
from rtun_core.engine.control import ControlServer, listen
from rtun_core.engine.control_place import TcpPlace, UnixPlace
from rtun_core.engine.control_routes import ControlRoutes
from rtun_core.engine.control_tcp import ControlTcpServer
from rtun_core.engine.engine import Engine
from rtun_core.engine.picture_delta import PictureWriter
from rtun_core.engine.simulated import SimulatedService, SimulatedWorld
from rtun_core.engine.source import Parting, Source
from rtun_core.errors import CommandRefused, RtunError, UsageError
from rtun_core.events import BusLagged, CommandDone, CommandWasRefused, Notice
from rtun_core.view.columns import TABLES
from rtun_core.view.filter_text import FilterError
from rtun_core.view.page import Sort, ViewSpec
from rtun_core.wire.address import Address
from tests.engine.gate import Gate

SPECS = tuple(ViewSpec(table=table, limit=20) for table in TABLES)
TOKEN = b"0123456789abcdef"
FLOWS = ViewSpec(table="flows", limit=20)


class Rig:
    """A simulated relay behind a control socket behind a gate, and sources that look at it."""

    def __init__(self, bus, engine, server, gate):
        self.bus = bus
        self.engine = engine
        self.server = server
        self.gate = gate
        self.sources = []

    def source(self, **options) -> Source:
        source = AttachedSource(UnixPlace(self.gate.path), **({"interval": 0.1} | options))
        self.sources.append(source)
        return source

    async def end(self):
        await self.engine.stop()
        self.bus.close()
        await self.server.stop()


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr("rtun_core.engine.attached_source.BACKOFF", (0.01, 0.05))


@pytest.fixture
async def rig(bus, tmp_path):
    world = SimulatedWorld(flows=300, start=time.time())
    engine = Engine([SimulatedService(world, bus)], bus)
    await engine.start()
    server = ControlServer(tmp_path / "c.sock", ControlRoutes(engine))
    await server.start()
    gate = Gate(tmp_path / "gate.sock", server.path)
    await gate.start()
    rig = Rig(bus, engine, server, gate)
    yield rig
    for source in rig.sources:
        await source.close()
    await gate.stop()
    await rig.end()


@pytest.fixture
async def source(rig):
    source = rig.source()
    await source.start()
    return source


@pytest.fixture
def picture_of(until):
    """Look until there is a picture, by default any."""

    async def wait(source, specs=SPECS, good=lambda _: True):
        await until(lambda: (picture := source.look(specs)) is not None and good(picture))
        return source.look(specs)

    return wait


async def gather(source, until, wanted):
    """Events until one of them passes."""
    events = []

    def enough():
        events.extend(source.events())
        return any(map(wanted, events))

    await until(enough)
    return events


async def test_before_the_start(rig):
    source = rig.source()
    assert (source.title, source.status.word, source.events()) == ("attached", "LOST", [])
    assert source.look(SPECS) is None
    with pytest.raises(CommandRefused, match="no link"):
        await source.execute(ProbeAgent(name="beta"))
    with pytest.raises(RtunError, match="no link"):
        await source.page(FLOWS)


async def test_a_picture(source, picture_of, engine_pid):
    assert source.look(SPECS) is None
    picture = await picture_of(source)
    assert (source.title, source.status.word, source.refusal) == (f"attached {engine_pid}", "LIVE", "")
    assert set(picture.pages) == set(TABLES)
    assert (picture.pages["flows"].total, len(picture.pages["flows"].rows)) == (300, 20)
    assert len(picture.snapshot.flows) == 0
    assert picture.snapshot.tunnels
    assert source.select(FLOWS) is None


@pytest.fixture
def engine_pid():
    return os.getpid()


async def test_pictures_go_on_and_history_with_them(source, picture_of, until):
    first = await picture_of(source)
    later = await picture_of(source, good=lambda picture: picture.history.count > 1)
    assert later.snapshot.ts > first.snapshot.ts
    assert len(later.history.up) == later.history.count


async def test_the_last_pages_stay_until_the_new_ones_come(source, picture_of):
    before = await picture_of(source)
    changed = (*SPECS[:-1], msgspec.structs.replace(FLOWS, filter="tunnel=t5", sort=(Sort("src"),)))
    assert not source.waiting
    assert source.look(changed) is before
    assert source.waiting
    after = await picture_of(source, changed, lambda picture: not source.waiting)
    assert {row.tunnel for row in after.pages["flows"].rows} == {"t5"}


async def test_the_console_is_called_for_what_it_waits_for(rig, until):
    source, calls = rig.source(interval=5.0), []
    source.on_picture = lambda: calls.append(source.status.word)
    await source.start()
    assert calls == ["LIVE"]
    source.look(SPECS)
    await until(lambda: len(calls) == 2)
    source.look((FLOWS,))
    await until(lambda: len(calls) == 3)
    assert set(source.look((FLOWS,)).pages) == {"flows"}
    rig.gate.cut()
    await until(lambda: calls[3:5] == ["LOST", "LIVE"])


async def test_an_interval_of_its_own(rig, picture_of):
    source = rig.source(interval=5.0)
    await source.start()
    first = await picture_of(source)
    source.interval = 0.0001
    assert source.interval == 0.1
    await picture_of(source, good=lambda picture: picture.snapshot.ts > first.snapshot.ts)


async def test_a_bad_filter_is_told_once(source, picture_of, until):
    await picture_of(source)
    bad = (*SPECS[:-1], msgspec.structs.replace(FLOWS, filter="dn>"))
    with pytest.raises(FilterError) as caught:
        await until(lambda: source.look(bad) is None)
    assert caught.value.column == 3
    assert source.look(bad).pages["flows"].shown == 300
    with pytest.raises(UsageError, match="beauty"):
        await until(lambda: source.look((msgspec.structs.replace(FLOWS, sort=(Sort("beauty"),)),)) is None)


async def test_hold(source, picture_of, until):
    await picture_of(source)
    source.hold(on=True)
    scrolled = tuple(msgspec.structs.replace(spec, limit=7) for spec in SPECS)
    held = await picture_of(source, scrolled, lambda picture: len(picture.pages["flows"].rows) == 7)
    count = held.history.count
    later = await picture_of(source, scrolled, lambda picture: picture.history.count > count)
    assert later.snapshot is held.snapshot
    assert (await source.page(FLOWS)).now == held.snapshot.ts
    source.hold(on=False)
    await picture_of(source, scrolled, lambda picture: picture.snapshot.ts > held.snapshot.ts)


async def test_a_page_for_an_export(source, picture_of):
    await picture_of(source)
    pages = await asyncio.gather(
        *(source.page(ViewSpec(table="flows", limit=count)) for count in (100, 200, 300, 1000, 1, 2))
    )
    assert [len(page.rows) for page in pages] == [100, 200, 300, 300, 1, 2]
    assert len((await source.page(ViewSpec(table="agents"))).rows) == 5
    with pytest.raises(FilterError):
        await source.page(msgspec.structs.replace(FLOWS, filter="("))
    assert not source._asks


async def test_a_page_that_never_comes(rig, monkeypatch):
    monkeypatch.setattr("rtun_core.engine.attached_source.ASK_LIMIT", 0.05)
    source = rig.source()
    await source.start()
    monkeypatch.setattr("rtun_core.engine.viewer.Viewer._answers", lambda _self: iter(()))
    with pytest.raises(RtunError, match=r"did not answer within 0\.05 s"):
        await source.page(FLOWS)


async def test_a_page_and_the_link_breaks(rig, source, monkeypatch, until):
    monkeypatch.setattr("rtun_core.engine.viewer.Viewer._answers", lambda _self: iter(()))
    asking = asyncio.get_running_loop().create_task(source.page(FLOWS))
    await until(lambda: source._asks)
    rig.gate.cut()
    with pytest.raises(RtunError, match="the link to the engine broke"):
        await asking


async def test_commands(source, rig, until):
    result = await source.execute(PauseRule(rule="r1"))
    assert result.text
    with pytest.raises(CommandRefused, match="nobody"):
        await source.execute(ProbeAgent(name="nobody"))
    events = await gather(source, until, lambda each: isinstance(each.event, CommandWasRefused))
    done = [each.event for each in events if isinstance(each.event, CommandDone | CommandWasRefused)]
    assert [event.who for event in done] == ["attached", "attached"]


async def test_events_from_before_it_came(rig, until):
    for number in range(RECALL):
        rig.bus.emit(Notice(topic="t", message=str(number)))
    newest = rig.bus.seq
    source = rig.source()
    await source.start()
    events = await gather(source, until, lambda each: each.seq == newest)
    assert events[0].seq == source._hello.seq - RECALL + 1
    assert not any(isinstance(each.event, BusLagged) for each in events)


async def test_a_link_that_drops_and_comes_back_loses_no_event(rig, source, picture_of, until):
    await picture_of(source)
    rig.gate.open = False
    rig.gate.cut()
    events = []
    for number in range(2000):
        rig.bus.emit(Notice(topic="t", message=str(number)))
        if number % 400 == 0:
            await asyncio.sleep(0.02)
            events += source.events()
    await until(lambda: source.status.word == "LOST")
    assert source.status.detail
    with pytest.raises(CommandRefused, match="no link"):
        await source.execute(PauseRule(rule="r1"))
    old = source.look(SPECS)
    assert old is not None
    rig.gate.open = True
    await until(lambda: source.status.word == "LIVE")
    newest = rig.bus.seq
    events += await gather(source, until, lambda each: each.seq >= newest)
    numbers = [each.seq for each in events]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert not any(isinstance(each.event, BusLagged) for each in events)
    await picture_of(source, good=lambda picture: picture.snapshot.ts > old.snapshot.ts)


async def test_many_drops_lose_no_event(rig, source, until):
    events = []
    for number in range(20):
        rig.bus.emit(Notice(topic="t", message=str(number)))
        rig.gate.cut()
        await until(lambda number=number: rig.gate.passed > number + 1 and source.status.word == "LIVE")
        events += source.events()
    newest = rig.bus.seq
    events += await gather(source, until, lambda each: each.seq >= newest)
    numbers = [each.seq for each in events]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


async def test_what_the_ring_does_not_hold_any_more_is_counted(rig, source, picture_of, until):
    await picture_of(source)
    rig.gate.open = False
    rig.gate.cut()
    await until(lambda: source.status.word == "LOST")
    source.events()
    last = source._inbox.seq
    for number in range(5000):
        rig.bus.emit(Notice(topic="t", message=str(number)))
    newest = rig.bus.seq
    rig.gate.open = True
    events = await gather(source, until, lambda each: each.seq >= newest)
    lags = [each.event.skipped for each in events if isinstance(each.event, BusLagged)]
    assert len(lags) == 1
    assert sum(lags) + len(events) - 1 == events[-1].seq - last


async def test_hold_and_look_survive_a_drop(rig, source, picture_of, until):
    await picture_of(source)
    source.hold(on=True)
    rig.gate.cut()
    await until(lambda: rig.gate.passed == 2)
    looks = (msgspec.structs.replace(FLOWS, limit=3),)
    picture = await picture_of(source, looks, lambda picture: len(picture.pages["flows"].rows) == 3)
    count = picture.history.count
    later = await picture_of(source, looks, lambda picture: picture.history.count > count)
    assert later.snapshot.ts == picture.snapshot.ts


async def test_the_end_of_the_engine(rig, source, picture_of, until):
    await picture_of(source)
    await rig.end()
    await until(lambda: source.status.word == "ENDED")
    assert source.status.detail == "the engine has ended"
    assert source.events()[-1].event.text() == "stopping: closed"
    assert source.look(SPECS) is not None
    with pytest.raises(CommandRefused, match="the engine has ended"):
        await source.execute(PauseRule(rule="r1"))


async def test_an_engine_that_dies_without_a_word_is_waited_for(rig, source, picture_of, until):
    await picture_of(source)
    await rig.server.stop()
    await until(lambda: "no answer" in source.status.detail)
    assert source.status.word == "LOST"
    other_bus = type(rig.bus)()
    world = SimulatedWorld(flows=20, start=time.time())
    other = Engine([SimulatedService(world, other_bus)], other_bus)
    await other.start()
    server = ControlServer(rig.server.path, ControlRoutes(other))
    await server.start()
    picture = await picture_of(source, good=lambda picture: picture.pages["flows"].total == 20)
    assert source.status.word == "LIVE"
    assert picture.history.count <= 2
    events = await gather(source, until, lambda each: True)
    assert any(each.event.text().startswith("rtun ") for each in events)
    await other.stop()
    other_bus.close()
    await server.stop()


async def test_several_consoles(rig, picture_of):
    sources = [rig.source() for _ in range(4)]
    for source in sources:
        await source.start()
    for number, source in enumerate(sources):
        specs = (msgspec.structs.replace(FLOWS, limit=number + 1),)
        picture = await picture_of(source, specs)
        assert len(picture.pages["flows"].rows) == number + 1


async def test_garbage_from_an_engine_drops_the_link(rig, source, picture_of, until, monkeypatch):
    await picture_of(source)
    with monkeypatch.context() as broken:
        broken.setattr(PictureWriter, "write", lambda *_args, **_fields: '{"picture": 5}')
        await until(lambda: source.status.word == "LOST")
        assert "a message cannot be read" in source.status.detail
    old = source.look(SPECS)
    await picture_of(source, good=lambda picture: picture is not old)


async def test_a_start_that_fails(tmp_path):
    listen(tmp_path / "c.sock").close()
    source = AttachedSource(UnixPlace(tmp_path / "c.sock"))
    with pytest.raises(RtunError, match="no answer on the control socket"):
        await source.start()
    await source.close()


async def test_an_error_of_ours_is_seen(source, picture_of, until, monkeypatch):
    def fail(*_args):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(source, "_show", fail)
    source.look(SPECS)
    await until(lambda: "by zero" in source.status.detail)
    assert source.status.word == "LOST"


@pytest.fixture
async def far(rig):
    """A source that looks over TCP."""
    server = ControlTcpServer(Address("127.0.0.1", 0), TOKEN, ControlRoutes(rig.engine))
    await server.start()
    source = AttachedSource(TcpPlace(server.address, TOKEN), interval=0.1)
    rig.sources.append(source)
    await source.start()
    yield source
    await source.close()
    await server.stop()


async def test_pictures_come_packed_on_this_machine_and_as_changes_over_tcp(
    rig, source, far, picture_of, monkeypatch
):
    forms = {}
    write = PictureWriter.write

    def spy(self, shot, *, whole):
        text = write(self, shot, whole=whole)
        forms.setdefault(self._form, []).append(text.startswith('{"change"'))
        return text

    monkeypatch.setattr(PictureWriter, "write", spy)
    for each in (source, far):
        first = await picture_of(each)
        later = await picture_of(
            each, good=lambda picture, first=first: picture.snapshot.ts > first.snapshot.ts
        )
        assert [len(later.pages[spec.table].rows) for spec in SPECS] == [
            len(first.pages[spec.table].rows) for spec in SPECS
        ]
    assert set(forms) == {"packed", "changes"}
    assert not any(forms["packed"])
    assert forms["changes"][:2] == [False, True]


async def test_what_is_far_is_named_by_its_address(far):
    assert far.title == f"attached {far._place.address}"


async def test_a_change_that_was_missed_is_made_up_for(far, picture_of, monkeypatch, until):
    old = await picture_of(far)
    write = PictureWriter.write
    skipped = []

    def skip_one(self, shot, *, whole):
        if not skipped:
            skipped.append(write(self, shot, whole=whole))
        return write(self, shot, whole=whole)

    monkeypatch.setattr(PictureWriter, "write", skip_one)
    await until(lambda: far._missed)
    assert far.status.word == "LIVE"
    await until(lambda: not far._missed)
    newer = await picture_of(far, good=lambda picture: picture.snapshot.ts > old.snapshot.ts)
    assert newer.pages["flows"].shown == 300
    assert far.status.word == "LIVE"


async def test_a_wrong_token_says_so(rig, far, monkeypatch):
    monkeypatch.setattr("rtun_core.engine.control_tcp.REFUSAL_PAUSE", 0.0)
    source = AttachedSource(TcpPlace(far._place.address, TOKEN[::-1]))
    with pytest.raises(RtunError, match="refuses the token"):
        await source.start()
    await source.close()


async def test_an_engine_that_knows_no_forms(rig, source, picture_of, monkeypatch):
    monkeypatch.setattr("rtun_core.engine.viewer.PictureWriter", lambda _form: PictureWriter("rows"))
    other = rig.source()
    await other.start()
    picture = await picture_of(other)
    assert len(picture.pages["flows"].rows) == 20


@pytest.mark.parametrize(
    ("parting", "told"),
    [
        (Parting.CLOSED, "detached: closed by its user"),
        (Parting.LOST, "lost: the terminal is gone"),
        (Parting.FAILED, "lost: the console failed"),
    ],
)
async def test_the_engine_is_told_why_the_console_parts(rig, picture_of, until, parting, told):
    source = rig.source()
    await source.start()
    await picture_of(source)
    await source.close(parting)
    await until(lambda: any(each.event.text().endswith(told) for each in rig.bus.after(0)))
