"""A recording in front of what runs: what is seen, what goes on behind it, and the ways back."""

from __future__ import annotations

import pytest

from rtun_core.cli.console import EndKind
from rtun_core.engine.paths import recordings_dir
from rtun_core.engine.recording import RecordingWriter
from rtun_core.engine.replay_source import WHY, ReplaySource
from rtun_core.engine.source import SourceStatus
from rtun_core.event import Stamped
from rtun_core.events import Notice
from rtun_tui.keymap import Keymap
from tests.tui.conftest import START, make_app, running, world

THEN = START - 86_400  # when it was recorded


def record(path, *, seconds=30, seed=3):
    """A recording of another relay, with an event each second."""
    writer = RecordingWriter(path)
    relay = world(seed=seed, flows=40, start=THEN)
    for second in range(seconds):
        writer.append_picture(relay.picture())
        event = Notice(topic="then", message=f"second {second}")
        writer.append_events([Stamped(second + 1, relay.now + 0.5, second + 0.5, event)])
        relay.advance(1.0)
    writer.close()
    return path


@pytest.fixture
def path(tmp_path):
    return record(tmp_path / "then.rec")


def look_of(c):
    """What was chosen in the tables."""
    return {
        table: (state.cursor_key, state.cursor, state.top, set(state.marks), state.filter, state.sort)
        for table, state in c.desk.tables.items()
    }


# -- there -----------------------------------------------------------------------------------------


async def test_a_recording_is_shown_in_the_same_console(console, path):
    async with console() as c:
        assert c.flows.shown == 120
        await c.line(f"replay {path}")
        assert "rtun then.rec" in c.header
        assert c.header.endswith("REPLAY: 08:00:00 of 08:00:29 x1")
        assert c.said.startswith("then.rec: b and B step, :goto and :speed move on, q or :live goes back")
        assert c.flows.shown == 40
        assert "second 0" not in c.text
        await c.press("B", "B")
        assert "REPLAY: 08:00:02 of 08:00:29 stopped" in c.header
        assert "second 1" in c.text
        await c.press("b")
        assert "08:00:01 of" in c.header
        await c.line("goto end")
        assert "08:00:29 of 08:00:29 end" in c.header
        await c.line("speed 4")
        assert c.said == "plays at 4 times the speed"


async def test_keys_say_how_to_move_and_how_to_leave(console, path):
    async with console(size=(160, 36)) as c:
        assert "back" not in c.keys
        await c.line(f"replay {path}")
        assert "b back" in c.keys
        assert "B forward" in c.keys
        assert c.keys.endswith("q live")
        await c.pilot.resize_terminal(60, 36)
        await c.settle()
        assert c.keys.endswith("q live")
        await c.press("q")
        assert c.keys.endswith("q quit")
        assert "back" not in c.keys


async def test_nothing_can_be_changed_there_and_the_reason_is_told(console, path):
    async with console(size=(160, 36)) as c:
        await c.line(f"replay {path}")
        for doing in (c.press("X"), c.press("R"), c.line("agent pin"), c.line("flow close @all")):
            await doing
            assert c.said == f"{WHY}; :live goes back"
        await c.line("live")
        assert c.executed == []
        await c.line("agent pin")
        assert [type(command).__name__ for command in c.executed] == ["PinAgent"]


async def test_rows_of_what_runs_are_not_chosen_in_the_recording(console, path):
    async with console() as c:
        await c.press("j", "j", "space", "j", "enter")
        await c.line(f"replay {path}")
        assert (c.flows.marks, c.flows.cursor, c.desk.detail) == (set(), 0, False)
        assert "marked" not in c.text


async def test_a_held_picture_is_held_again_afterwards(console, path):
    async with console() as c:
        await c.press("p")
        await c.line(f"replay {path}")
        assert "REPLAY" in c.header
        await c.press("p")
        assert c.said == "the recording stands still, p plays on"
        c.app.look()
        await c.settle()
        assert "stopped" in c.header
        await c.press("p")
        assert c.said == "the recording plays on"
        await c.press("p", "q")
        assert "PAUSED" in c.header
        now = c.app.overview.picture.snapshot.ts
        await c.pass_time(3)
        assert c.app.overview.picture.snapshot.ts == now
        await c.press("p")
        assert "LIVE" in c.header
        assert c.app.overview.picture.snapshot.ts == now + 3


async def test_another_recording_takes_the_place_of_the_first(console, path, tmp_path):
    other = record(tmp_path / "other one.rec", seconds=5)
    async with console() as c:
        await c.line(f"replay {path}")
        first = c.app.source
        await c.line(f"replay '{other}'")
        assert "rtun other one.rec" in c.header
        assert first._reader is None
        await c.press("q")
        assert "LIVE" in c.header


# -- what goes on ----------------------------------------------------------------------------------


async def test_what_runs_goes_on_and_its_events_are_collected(console, path):
    async with console() as c:
        live = c.app.source
        await c.line("log level debug")
        before = [each.event.text() for each in c.events.stamped]
        await c.line(f"replay {path}")
        await c.line("goto +3")
        for second in range(3):
            live._tell([Notice(topic="now", message=f"meanwhile {second}")])
            live.advance(1.0)
            c.app.look()
            await c.settle()
        told = [each.event.text() for each in c.events.stamped]
        assert not any("meanwhile" in text for text in told)
        assert any("second 2" in text for text in told)
        await c.press("q")
        after = [each.event.text() for each in c.events.stamped]
        assert after[: len(before)] == before
        assert [text for text in after if "meanwhile" in text] == [
            f"meanwhile {second}" for second in range(3)
        ]
        assert not any("second" in text for text in after)
        assert "meanwhile 2" in c.text
        assert c.app.overview.picture.snapshot.ts == live.world.now


async def test_the_end_of_what_runs_ends_the_console(console, path):
    async with console() as c:
        await c.line(f"replay {path}")
        c.app.replaying.live.status = SourceStatus("ENDED")
        c.app._on_beat()
        await c.settle()
        assert c.app.return_value.kind is EndKind.ENGINE_ENDED
        await c.app.replaying.close()


@pytest.mark.parametrize("own", [True, False])
async def test_a_recording_stays_in_sight_when_another_process_has_ended(console, path, own):
    async with console(manner={"ends_engine": own}) as c:
        await c.line(f"replay {path}")
        assert not c.app.replaying.over
        c.app.replaying.live.status = SourceStatus("ENDED")
        assert c.app.replaying.over == own
        await c.press("q")
        assert c.app.replaying.over


async def test_quitting_asks_about_the_flows_that_run(console, path):
    async with console() as c:
        await c.line(f"replay {path}")
        await c.line("quit")
        assert c.dialog == "Leave"
        assert "120 flows would end" in c.text
        await c.press("n")
        await c.press("Q")
        assert c.app.return_value.kind is EndKind.DETACHED


# -- the way back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["q", "escape", ":live"])
async def test_every_way_back_leads_to_what_was_left(console, path, way):
    async with console() as c:
        await c.line("filter dn>1k")
        await c.press("j", "j", "space", "j")
        before = look_of(c)
        source = c.app.source
        await c.line(f"replay {path}")
        recording = c.app.source
        await c.line("filter dn>1M")
        await c.line("sort up")
        await c.press("escape")  # the filter is dropped first
        assert c.flows.filter == ""
        assert c.app.replaying.on
        await (c.line("live") if way == ":live" else c.press(way))
        assert c.app.source is source
        assert "LIVE" in c.header
        assert c.said == "relay again"
        assert look_of(c) == before
        assert recording._reader is None


async def test_escape_leads_back_from_the_events_too(console, path):
    async with console() as c:
        await c.line(f"replay {path}")
        await c.press("4", "escape")
        assert not c.app.replaying.on


async def test_the_drawer_is_closed_before_the_recording_is_left(console, path):
    async with console() as c:
        await c.press("enter")
        await c.line(f"replay {path}")
        await c.press("enter", "escape")
        assert (c.desk.detail, c.app.replaying.on) == (False, True)
        await c.press("escape")
        assert (c.desk.detail, c.app.replaying.on) == (True, False)


async def test_other_keys_lead_back_if_the_user_wants_it_so(console, path):
    keymap = Keymap({**Keymap().keys, "app.quit": ("f10",)})
    async with console(keymap=keymap) as c:
        await c.line(f"replay {path}")
        assert c.keys.endswith("F10 live")
        await c.press("f10")
        assert not c.app.replaying.on


async def test_without_a_recording_there_is_nothing_to_go_back_from(console):
    async with console() as c:
        await c.line("live")
        assert c.said.startswith("no recording is in front of what this console shows")
        await c.press("escape")
        assert c.said == "there is nothing to go back from"


# -- what cannot be shown --------------------------------------------------------------------------


async def test_what_cannot_be_shown_is_told_in_a_sentence_and_changes_nothing(console, tmp_path, path):
    (tmp_path / "text.rec").write_text("no recording\n" * 100)
    (tmp_path / "empty.rec").write_text("")
    (tmp_path / "half.rec").write_bytes(path.read_bytes()[:5000])
    RecordingWriter(tmp_path / "blank.rec").close()
    cases = {
        "missing.rec": "No such file or directory",
        "text.rec": "is not a recording of rtun",
        "empty.rec": "is not a recording of rtun",
        "half.rec": "",
        "blank.rec": "has no pictures",
        ".": "it is not a file",
        "~nobody-of-that-name/x.rec": "No such file or directory",
    }
    async with console(size=(200, 36)) as c:
        await c.press("j", "space")
        source, before = c.app.source, look_of(c)
        for name, words in cases.items():
            await c.line(f"replay {name}")
            assert words in c.said, name
            assert name in c.said, name
            assert (c.app.source, look_of(c)) == (source, before)
            assert "LIVE" in c.header
        assert not c.app.replaying.on


async def test_a_broken_one_leaves_the_recording_that_is_shown(console, tmp_path, path):
    async with console() as c:
        await c.line(f"replay {path}")
        await c.line("replay missing.rec")
        assert "No such file" in c.said
        assert "rtun then.rec" in c.header
        assert c.app.replaying.on


# -- a console that is of a recording --------------------------------------------------------------


async def test_a_console_of_a_recording_shows_another_one_and_goes_back(path, tmp_path):
    other = record(tmp_path / "other.rec", seconds=5)
    app = make_app(ReplaySource(path), wall=lambda: THEN, manner={"ends_engine": False})
    async with running(app, (160, 36)) as c:
        assert "b back  B forward" in c.keys
        assert c.keys.endswith("q quit")
        await c.line(f"replay {other}")
        assert "rtun other.rec" in c.header
        assert c.keys.endswith("q first recording")
        await c.press("q")
        assert "rtun then.rec" in c.header
        assert c.said == "then.rec again"
        await c.press("q")
        assert app.return_value.kind is EndKind.QUIT
    await app.replaying.close()


# -- completion ------------------------------------------------------------------------------------


async def test_recordings_here_and_in_their_directory_are_offered(console, path, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    recordings_dir().mkdir(parents=True)
    kept = recordings_dir() / "rtun 1.rec"
    kept.write_text("")
    async with console() as c:
        assert set(c.app.effects.recordings()) == {"then.rec", f"'{kept}'"}
        await c.press("colon")
        await c.type("replay t")
        await c.until(lambda: "replay then.rec" in c.said)
