"""A recording that is played: the pages of then, moved in time, and nothing can be changed."""

import sqlite3

import msgspec
import numpy as np
import pytest

from rtun_core.commands import PinAgent
from rtun_core.engine.recording import RecordingWriter
from rtun_core.engine.replay_source import WHY, ReplaySource
from rtun_core.engine.simulated import SimulatedWorld
from rtun_core.engine.source import Playable
from rtun_core.errors import CommandRefused, UsageError
from rtun_core.event import Stamped
from rtun_core.events import Notice
from rtun_core.model import Snapshot
from rtun_core.view.columns import TABLES
from rtun_core.view.history import History
from rtun_core.view.page import Sort, ViewSpec
from rtun_core.view.project import project, select_keys

START = 1.8e9
SPECS = (
    ViewSpec(table="rules"),
    ViewSpec(table="agents"),
    ViewSpec(table="tunnels", sort=(Sort("rtt", descending=True),)),
    ViewSpec(table="flows", filter="dn>1k !state=waiting", sort=(Sort("dn", descending=True),), limit=40),
)


class Time:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.rec"


@pytest.fixture
def monotonic():
    return Time()


@pytest.fixture
def write(path):
    """Write pictures at these seconds, each with an event half a second later."""

    def written(seconds):
        writer = RecordingWriter(path)
        for second in seconds:
            writer.append_picture(picture(second))
            event = Notice(topic="t", message=str(second))
            writer.append_events([Stamped(second + 1, START + second + 0.5, second + 0.5, event)])
        writer.close()

    return written


@pytest.fixture
async def play(path, monotonic):
    sources = []

    async def played(**options):
        source = ReplaySource(path, monotonic=monotonic, **options)
        await source.start()
        sources.append(source)
        return source

    yield played
    for source in sources:
        await source.close()


def picture(second, **fields):
    ts = START + second
    return Snapshot(seq=1, ts=ts, uptime_s=second, pid=4, version="0", services=("relay",), **fields)


def shown(source):
    """Which second stands."""
    return source.look(()).snapshot.uptime_s


def passed(source):
    return [each.event.message for each in source.events()]


# ---- as it was -------------------------------------------------------------------------------


async def test_the_same_pages_and_plots_as_live(path, monotonic, play):
    world = SimulatedWorld(flows=300, start=START)
    writer, live, history = RecordingWriter(path), [], History()
    for _ in range(70):
        world.advance(1.0)
        snapshot = world.picture()
        writer.append_picture(snapshot)
        history.observe(snapshot)
        live.append((snapshot, {spec.table: project(snapshot, spec) for spec in SPECS}, history.picture()))
    writer.close()
    source = await play()
    for second, (snapshot, pages, past) in enumerate(live):
        monotonic.now = second + 0.01
        look = source.look(SPECS)
        assert look.pages == pages
        assert look.snapshot == msgspec.structs.replace(snapshot, flows=())
        for name in ("up", "down", "packets"):
            assert np.array_equal(getattr(look.history, name), getattr(past, name), equal_nan=True)
        assert look.history.tunnels.keys() == past.tunnels.keys()
        assert source.select(SPECS[3]) == select_keys(snapshot, "flows", SPECS[3].filter)
        assert await source.page(SPECS[3]) == pages["flows"]


async def test_after_a_jump_the_plots_are_those_of_then(path, monotonic, play):
    world = SimulatedWorld(flows=20, start=START)
    writer, pictures = RecordingWriter(path), []
    for _ in range(400):
        world.advance(1.0)
        pictures.append(world.picture())
        writer.append_picture(pictures[-1])
    writer.close()
    source = await play()
    for index in (350, 20, 399, 100):
        source.seek("start")
        source.seek(f"+{index}")
        history = History()
        for each in pictures[: index + 1]:
            history.observe(each)
        found, wanted = source.look(()).history, history.picture()
        assert found.end == wanted.end
        for name in ("up", "down", "drops", "packets"):
            expected = getattr(wanted, name)
            assert np.array_equal(getattr(found, name)[-len(expected) :], expected, equal_nan=True), name


async def test_what_it_is(write, play):
    write(range(3))
    source = await play()
    assert isinstance(source, Playable)
    assert (source.title, source.refusal) == ("x.rec", WHY)
    with pytest.raises(CommandRefused, match="this is a recording: nothing can be changed"):
        await source.execute(PinAgent())


async def test_the_look_says_nothing_of_recording(path, play):
    writer = RecordingWriter(path)
    writer.append_picture(picture(0, recording="x.rec"))
    writer.close()
    assert (await play()).look(()).snapshot.recording == ""


async def test_a_bad_spec_is_told_to_who_asked(write, play):
    write(range(3))
    source = await play()
    with pytest.raises(UsageError):
        source.look((ViewSpec(table="rules", filter="moon=full"),))
    assert set(source.look([ViewSpec(table=table) for table in TABLES]).pages) == set(TABLES)


async def test_pages_are_made_once(write, play, monkeypatch):
    write(range(3))
    source = await play()
    first = source.look(SPECS).pages
    assert all(
        one is other for one, other in zip(source.look(SPECS).pages.values(), first.values(), strict=True)
    )
    for limit in range(1, 100):
        source.look((ViewSpec(table="rules", limit=limit),))
    assert len(source._pages) <= 32


# ---- playing ---------------------------------------------------------------------------------


async def test_it_plays_by_the_clock(write, play, monotonic):
    write(range(10))
    source = await play()
    assert shown(source) == 0
    monotonic.now = 3.2
    assert shown(source) == 3
    assert source.play_at(4) == "plays at 4 times the speed"
    monotonic.now = 3.5
    assert shown(source) == 4
    monotonic.now = 100.0
    assert shown(source) == 9


async def test_the_speed_of_the_beginning(write, play, monotonic):
    write(range(10))
    source = await play(speed=3.0, begin="+2")
    monotonic.now = 1.0
    assert shown(source) == 5


async def test_no_time_passes_before_the_console_is_there(write, path, monotonic):
    write(range(10))
    source = ReplaySource(path, monotonic=monotonic)
    assert source.look(()) is None
    assert source.status == ("REPLAY", "", 0.0)
    assert source.events() == source.select(SPECS[0]) == []
    assert source.step(1) == source.seek("end") == source.seek_event(1, "") == "nothing is known yet"
    source.open()
    monotonic.now = 5.0
    await source.start()
    assert shown(source) == 0
    await source.close()
    await source.close()
    assert shown(source) == 0  # what was shown last may be drawn once more


async def test_status(write, play, monotonic):
    write(range(10))
    source = await play()
    clock = "".join(source.status.detail.split()[:3])
    assert source.status.word == "REPLAY"
    assert len(clock) == len("12:00:00of12:00:09")
    assert source.status.detail.endswith(" x1")
    source.play_at(0.5)
    assert source.status.detail.endswith(" x0.5")
    source.step(1)
    assert source.status.detail.endswith(" stopped")
    source.seek("end")
    assert source.status.detail.endswith(" end")


async def test_gaps_are_not_waited_for(write, play, monotonic):
    write([0, 1, 1000, 1001])
    source = await play()
    monotonic.now = 1.9
    assert shown(source) == 1
    monotonic.now = 2.1
    assert shown(source) == 1000
    monotonic.now = 3.1
    assert shown(source) == 1001


async def test_a_look_into_a_gap_stays_there(write, play, monotonic):
    write([0, 1, 1000, 1001])
    source = await play()
    source.hold(on=True)
    source.seek("+500")
    monotonic.now = 5.0
    assert shown(source) == 1
    source.hold(on=False)
    monotonic.now = 5.1
    assert shown(source) == 1000


async def test_a_recording_that_grows_plays_on(path, play, monotonic):
    writer = RecordingWriter(path)
    writer.append_picture(picture(0))
    source = await play()
    monotonic.now = 1.5
    assert shown(source) == 0
    writer.append_picture(picture(1))
    monotonic.now = 2.6
    assert shown(source) == 1
    writer.close()


async def test_held(write, play, monotonic):
    write(range(10))
    source = await play()
    source.hold(on=True)
    monotonic.now = 5.0
    assert shown(source) == 0
    source.hold(on=False)
    monotonic.now = 6.0
    assert shown(source) == 1


# ---- moving ----------------------------------------------------------------------------------


async def test_steps(write, play, monotonic):
    write(range(10))
    source = await play()
    monotonic.now = 3.3
    assert source.step(1).endswith(source.status.detail.split()[2])
    assert shown(source) == 4
    monotonic.now = 50.0
    assert shown(source) == 4
    source.step(-3)
    assert shown(source) == 1
    source.step(-100)
    assert shown(source) == 0
    assert source.step(-1) == "this is the first picture"
    source.step(100)
    assert shown(source) == 9
    assert source.step(1) == "this is the last picture"


async def test_steps_among_pictures_of_one_moment(path, play):
    writer = RecordingWriter(path)
    for seq in range(3):
        writer.append_picture(msgspec.structs.replace(picture(0), seq=seq))
    writer.close()
    source = await play()
    seen = [source.look(()).snapshot.seq]
    for _ in range(2):
        source.step(-1)
        seen.append(source.look(()).snapshot.seq)
    assert seen == [2, 1, 0]


async def test_seek(write, play, monotonic):
    write(range(10))
    source = await play()
    assert source.seek("+4") == source.status.detail.removesuffix(" x1")
    assert shown(source) == 4
    monotonic.now = 1.0
    assert shown(source) == 5
    source.seek("-3")
    assert shown(source) == 2
    source.seek("start")
    assert shown(source) == 0
    source.seek("end")
    assert shown(source) == 9
    with pytest.raises(UsageError, match="was not recorded"):
        source.seek("2020-01-01T00:00:00")
    with pytest.raises(UsageError):
        source.seek("somewhere")
    assert shown(source) == 9


async def test_seek_an_event(write, play, monotonic):
    write(range(10))
    source = await play()
    assert source.seek_event(1, "text:6").endswith(" 6")
    assert shown(source) == 6
    monotonic.now = 50.0
    assert shown(source) == 6  # it does not run away from what was looked for
    assert source.seek_event(-1, "type=notice").endswith(" 5")
    assert shown(source) == 5
    assert source.seek_event(-1, "6|7") == "no such event came before"
    assert source.seek_event(1, "nobody") == "no such event follows"
    with pytest.raises(UsageError):
        source.seek_event(1, "level>")
    assert shown(source) == 5


async def test_speeds_that_cannot_be(write, play, path):
    write(range(3))
    source = await play()
    with pytest.raises(UsageError, match="accepted"):
        source.play_at(0)
    with pytest.raises(UsageError, match="accepted"):
        ReplaySource(path, speed=1000)


# ---- events ----------------------------------------------------------------------------------


async def test_events_come_when_they_are_passed(write, play, monotonic):
    write(range(10))
    source = await play()
    assert passed(source) == []
    monotonic.now = 2.7
    source.look(())
    assert passed(source) == ["0", "1", "2"]
    assert passed(source) == []
    source.seek("+3")
    assert passed(source) == ["3", "4", "5"]


async def test_events_after_going_back(write, play, monotonic):
    write(range(10))
    source = await play(begin="+6")
    assert passed(source) == ["0", "1", "2", "3", "4", "5"]  # of the five minutes before
    source.step(-2)
    assert passed(source) == []
    source.step(1)
    assert passed(source) == ["4"]
    source.seek("end")
    assert passed(source) == ["5", "6", "7", "8"]


async def test_what_came_after_the_last_picture(write, play, monotonic):
    write(range(3))
    source = await play()
    monotonic.now = 60.0
    source.look(())
    assert passed(source) == ["0", "1", "2"]
    assert shown(source) == 2


# ---- damage ----------------------------------------------------------------------------------


def damage(path, statement):
    db = sqlite3.connect(path)
    with db:
        db.execute(statement)
    db.close()


async def test_a_damaged_picture_is_told_once_and_the_last_one_stays(write, play, path, monotonic):
    write(range(130))
    damage(path, "UPDATE picture SET snapshot = x'00' WHERE id IN (3, 4)")
    source = await play()
    for now, second in ((1.1, 1), (2.1, 1), (3.1, 1), (4.1, 4)):
        monotonic.now = now
        assert shown(source) == second
    told = [each for each in passed(source) if "damaged" in each]
    assert len(told) == 1
    assert "damaged at picture 3" in told[0]
    source.seek("start")
    source.look(())
    source.step(2)


async def test_damaged_flows_cost_the_rest_of_their_minute(write, play, path, monotonic):
    write(range(130))
    damage(path, "UPDATE picture SET flows = x'00' WHERE id = 3")
    source = await play()
    for now, second in ((1.1, 1), (30.1, 1), (61.1, 61)):
        monotonic.now = now
        assert shown(source) == second


async def test_damaged_events(write, play, path, monotonic):
    write(range(10))
    damage(path, "UPDATE event SET event = '{' WHERE id = 1")
    source = await play()
    monotonic.now = 3.0
    assert shown(source) == 3
    assert "cannot be read" in passed(source)[0]


async def test_moving_to_damage_is_told(write, play, path):
    write(range(10))
    damage(path, "UPDATE picture SET snapshot = x'00' WHERE id = 5")
    source = await play()
    assert "damaged at picture 5" in source.seek("+4")
    assert shown(source) == 0


async def test_what_cannot_be_opened(path, play, write):
    with pytest.raises(UsageError, match="No such file"):
        await play()
    write(range(3))
    with pytest.raises(UsageError, match="was not recorded"):
        await play(begin="2020-01-01T00:00:00")
    damage(path, "UPDATE picture SET snapshot = x'00'")
    with pytest.raises(UsageError, match="damaged at picture 1"):
        await play()
