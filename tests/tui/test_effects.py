"""Files, themes, views, pause, help, the end: what keys and commands have done beyond the desk."""

from __future__ import annotations

import csv
import json
import os
import stat

import pytest

from rtun_core.cli.console import EndKind
from rtun_core.commands import StartRecording, StopRecording
from rtun_core.view.page import Sort, ViewSpec
from rtun_tui.settings import SavedView, Settings
from rtun_tui.theme_library import ThemeLibrary


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


# -- a flow ----------------------------------------------------------------------------------------


async def test_a_flow_is_traced_from_anywhere_whatever_the_filter_hides(console):
    async with console(flows=400) as c:
        await c.line("sort flow asc")
        wanted = c.app.source.select(ViewSpec(table="flows"))[300]
        await c.line("filter state=nothing")
        await c.press("1")
        await c.line(f"flow trace {wanted.upper()}")
        assert c.desk.pane == "flows"
        assert c.flows.cursor_key == wanted
        assert f"flow {wanted}" in c.text
        assert "Detail pinned" in c.text
        await c.press("k")
        assert f"flow {wanted}" in c.text


async def test_a_flow_that_is_not_there_is_not_traced(console):
    async with console() as c:
        await c.line("flow trace ffffffff")
        assert c.said == "flow ffffffff is not there"
        await c.line("flow trace xyz")
        assert c.said.startswith("xyz is no flow's id; accepted: ")
        assert not c.desk.detail


# -- files -----------------------------------------------------------------------------------------


async def test_export_by_key_asks_for_the_form_and_writes_every_row(console, tmp_path):
    async with console() as c:
        await c.press("e")
        assert "Export flows" in c.text
        await c.press("enter")
        (file,) = tmp_path.glob("rtun-flows-*.csv")
        assert c.said.startswith("120 rows written to ")
        assert file.name == "rtun-flows-20270115-080000.csv"
        with file.open() as source:
            rows = list(csv.DictReader(source))
        assert len(rows) == 120
        assert rows[0]["flow"] == c.flows.cursor_key
        assert mode(file) == 0o600


async def test_export_honours_the_filter_and_never_overwrites(console, tmp_path):
    async with console() as c:
        await c.line("filter tunnel=t5")
        await c.line(f"export ndjson {tmp_path}/five.ndjson")
        rows = [json.loads(line) for line in (tmp_path / "five.ndjson").read_text().splitlines()]
        assert len(rows) == c.flows.shown > 3
        assert {row["tunnel"] for row in rows} == {"t5"}
        before = (tmp_path / "five.ndjson").read_bytes()
        await c.line("filter")
        await c.line(f"export ndjson {tmp_path}/five.ndjson")
        assert "cannot write" in c.said
        assert "File exists" in c.said
        assert (tmp_path / "five.ndjson").read_bytes() == before


async def test_export_has_the_columns_that_were_chosen_whether_they_fit_or_not(console, tmp_path):
    async with console(size=(60, 15)) as c:
        await c.line("columns src,dn,flow,up_pkts,idle,rule")
        await c.line(f"export csv {tmp_path}/rates.csv")
        await c.line("totals on")
        await c.line(f"export csv {tmp_path}/totals.csv")
    assert (tmp_path / "rates.csv").read_text().startswith("src,dn,flow,up_pkts,idle,rule\n")
    assert (tmp_path / "totals.csv").read_text().startswith("src,dn_total,flow,up_pkts,idle,rule\n")


async def test_export_into_nowhere_says_so(console, tmp_path):
    async with console() as c:
        await c.line("export csv /nonexistent/here.csv")
        assert c.said == "cannot write /nonexistent/here.csv: No such file or directory"
        await c.line("export pdf")
        assert "accepted: export csv|ndjson [PATH]" in c.said


async def test_events_are_exported_from_their_pane(console, tmp_path):
    async with console(past=120) as c:
        await c.press("4", "e")
        assert "Export events" in c.text
        await c.press("down", "enter")
        (file,) = tmp_path.glob("rtun-events-*.ndjson")
        records = [json.loads(line) for line in file.read_text().splitlines()]
        assert records
        assert all(record["type"] for record in records)
        assert mode(file) == 0o600


async def test_a_screenshot_is_the_screen(console, tmp_path):
    async with console() as c:
        await c.press("S")
        (file,) = tmp_path.glob("rtun-*.svg")
        assert mode(file) == 0o600
        text = file.read_text()
        assert text.startswith("<svg")
        assert "Agents" in text
        await c.line(f"screenshot {tmp_path}/mine.svg")
        assert (tmp_path / "mine.svg").exists()
        await c.line(f"screenshot {tmp_path}/mine.svg")
        assert "File exists" in c.said


# -- time ------------------------------------------------------------------------------------------


async def test_pause_holds_the_picture_and_not_the_collection(console):
    async with console() as c:
        await c.press("p")
        assert c.header.endswith("PAUSED 0s")
        assert c.said == "paused: counting goes on, p resumes"
        rows = [line for line in c.lines if "198.51.100.4" in line]
        events = len(c.events.stamped)
        await c.pass_time(40)
        assert [line for line in c.lines if "198.51.100.4" in line] == rows
        assert c.header.endswith("PAUSED 40s")
        assert len(c.events.stamped) > events
        await c.press("p")
        await c.pass_time(0)
        assert "PAUSED" not in c.text
        assert [line for line in c.lines if "198.51.100.4" in line] != rows


async def test_a_held_picture_can_be_scrolled_sorted_and_filtered(console):
    async with console() as c:
        await c.press("p")
        ids = set(c.source.look(c.desk.specs(frozenset(("flows",)))).snapshot.flows)
        await c.pass_time(30)
        await c.press("G")
        assert c.flows.cursor == c.flows.shown - 1
        await c.line("sort src")
        assert c.flows.cursor_key is not None
        await c.line("filter tunnel=t5")
        assert 0 < c.flows.shown < c.flows.page.total == len(ids) or c.flows.page.total == 120
        await c.press("g", "j")
        assert c.flows.current().tunnel == "t5"
        assert "PAUSED" in c.header


async def test_pause_as_a_command_knows_what_it_is(console):
    async with console() as c:
        await c.line("resume")
        assert c.said == "not paused"
        await c.line("pause")
        await c.line("pause")
        assert c.said == "paused already"
        await c.line("resume")
        assert c.said == "live"
        assert c.desk.paused_at is None


async def test_how_often_to_look(console):
    async with console() as c:
        await c.press("minus")
        assert c.said == "a look every 0.5 s"
        await c.press("plus", "plus")
        assert c.said == "a look every 0.1 s"
        await c.line("interval 2")
        assert c.said == "a look every 2 s"
        await c.line("interval 60")
        assert c.said == "interval 60: accepted: 0.1 to 5 seconds"
        await c.line("interval soon")
        assert "soon is not a number" in c.said


@pytest.mark.parametrize("line", ["goto start", "speed 2"])
async def test_moving_in_time_is_for_recordings(console, line):
    async with console() as c:
        await c.line(line)
        assert c.said == "this is not a recording: time goes on by itself"
        await c.press("b")
        assert c.said == "this is not a recording: time goes on by itself"


# -- themes ----------------------------------------------------------------------------------------


async def test_the_theme_picker_previews_and_escape_restores(console):
    async with console() as c:
        before = c.app.palette.name
        await c.press("T")
        assert c.dialog == "Choose"
        seen = [c.app.palette.name]
        for _ in range(3):
            await c.press("up")
            seen.append(c.app.palette.name)
        assert seen[0] == before
        assert len(set(seen)) == 4
        await c.press("escape")
        assert c.app.palette.name == before
        assert c.events.palette.name == before


async def test_the_theme_that_is_chosen_stays(console):
    async with console() as c:
        await c.press("T", "down", "enter")
        assert c.app.palette.name == "rtun-light"
        assert c.events.palette is c.app.palette
        await c.line("theme ember")
        assert c.app.palette.name == "ember"
        await c.line("theme nope")
        assert c.said.startswith("theme nope is unknown; accepted: ")
        assert c.app.palette.name == "ember"


@pytest.fixture
def library(tmp_path):
    return ThemeLibrary(user=tmp_path / "themes")


def write_theme(tmp_path, name, text, *, stamp):
    file = tmp_path / "themes" / f"{name}.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    os.utime(file, (stamp, stamp))


def own_theme(library, name, old="rtun-dark"):
    """A theme of the user's: the built-in one under another name."""
    return (library.built_in / f"{old}.toml").read_text().replace(f'"{old}"', f'"{name}"')


async def test_a_theme_of_the_user_is_read_again_when_it_is_written(console, library, tmp_path):
    write_theme(tmp_path, "mine", own_theme(library, "mine"), stamp=1)
    async with console(library=library, theme="mine") as c:
        assert c.app.palette.name == "mine"
        before = c.app.palette.styles
        c.app.watch_files()
        assert c.app.palette.styles is before
        write_theme(
            tmp_path, "mine", own_theme(library, "mine", "rtun-light").replace("rtun-light", "mine"), stamp=2
        )
        c.app.watch_files()
        await c.settle()
        assert c.app.palette.name == "mine"
        assert c.app.palette.styles != before


async def test_a_broken_theme_gives_way_to_the_default_with_a_warning(console, library, tmp_path):
    write_theme(tmp_path, "mine", "colour = nonsense", stamp=1)
    async with console(library=library, theme="mine", size=(160, 50)) as c:
        assert c.app.palette.name == "rtun-dark"
        assert c.dialog == "Faults"
        assert "theme mine cannot be used" in c.text
        assert "mine.toml" in c.text


async def test_an_unknown_theme_of_the_command_line_is_told(console, library):
    async with console(library=library, theme="rtun-darc") as c:
        assert c.app.palette.name == "rtun-dark"
        assert c.dialog == "Faults"
        assert "theme rtun-darc is unknown; did you mean rtun-dark?" in c.text


async def test_a_theme_that_breaks_while_it_is_used_is_told(console, library, tmp_path):
    write_theme(tmp_path, "mine", own_theme(library, "mine"), stamp=1)
    async with console(library=library, theme="mine") as c:
        write_theme(tmp_path, "mine", "what?", stamp=2)
        c.app.watch_files()
        await c.settle()
        assert "theme mine cannot be used" in c.said
        write_theme(tmp_path, "mine", own_theme(library, "mine"), stamp=3)
        c.app.watch_files()
        await c.settle()
        assert c.app.palette.name == "mine"


# -- views -----------------------------------------------------------------------------------------


async def test_views_are_kept_and_used(console):
    saved = SavedView(name="big", table="flows", filter="dn>1M", sort=(Sort("src"),), columns=("flow", "src"))
    async with console(settings=Settings(views={"big": saved})) as c:
        await c.line("view load big")
        assert c.said == "view big"
        assert c.flows.filter == "dn>1M"
        assert c.flows.columns == ("flow", "src")
        assert 0 < c.flows.shown < 120
        await c.press("2")
        await c.line("filter state=up")
        await c.line("view save healthy")
        assert "healthy" in c.said
        await c.line("filter")
        await c.press("3")
        await c.line("view load healthy")
        assert c.desk.pane == "tunnels"
        assert c.desk.tables["tunnels"].filter == "state=up"
        await c.line("view list")
        assert c.said == "views: big, healthy"
        await c.line("view load nope")
        assert c.said == "there is no view nope; known: big, healthy"


# -- recording -------------------------------------------------------------------------------------


async def test_recording_is_switched_by_one_key(console):
    async with console() as c:
        await c.press("R")
        assert c.executed[-1] == StartRecording()
        picture = c.app.overview.picture
        assert not picture.snapshot.recording or c.said
        if picture.snapshot.recording:
            await c.press("R")
            assert c.executed[-1] == StopRecording()


# -- the end ---------------------------------------------------------------------------------------


async def test_quit_asks_while_flows_would_end(console):
    async with console() as c:
        await c.press("q")
        assert c.dialog == "Leave"
        assert "120 flows would end" in c.text
        await c.press("enter")
        assert not c.dialog
        assert c.app.is_running
        await c.press("q", "y")
        assert c.app.return_value.kind is EndKind.QUIT


async def test_from_the_question_the_console_alone_can_be_closed(console):
    async with console() as c:
        await c.press("q", "Q")
        assert c.app.return_value.kind is EndKind.DETACHED


async def test_quit_asks_nothing_where_nothing_ends(console):
    async with console(manner={"ends_engine": False}) as c:
        await c.press("q")
        assert c.app.return_value.kind is EndKind.QUIT


async def test_quit_asks_nothing_without_flows(console):
    async with console(flows=0) as c:
        c.app.overview.picture = None
        await c.line("quit")
        assert c.app.return_value.kind is EndKind.QUIT


async def test_close_leaves_the_relay_alone(console):
    async with console() as c:
        await c.press("Q")
        assert c.app.return_value.kind is EndKind.DETACHED


async def test_ctrl_c_twice_within_a_second_quits(console):
    now = 0.0
    async with console(wall=lambda: now) as c:
        await c.press("ctrl+c")
        assert c.said == "once more within a second quits"
        now = 5.0
        await c.press("ctrl+c")
        assert c.app.is_running
        now = 5.5
        await c.press("ctrl+c")
        assert c.app.return_value.kind is EndKind.QUIT


# -- help ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "there", "absent"),
    [
        ("keys", "one row down", "commands, after"),
        ("commands", "flow move", "one row down"),
        ("filter", "!@marked all others", "one row down"),
        ("columns", "columns of agents", "one row down"),
        ("flows", "columns of flows", "columns of agents"),
    ],
)
async def test_help_has_topics(console, topic, there, absent):
    async with console(size=(120, 120)) as c:
        await c.line(f"help {topic}")
        assert c.dialog == "Help"
        assert there in c.text
        assert absent not in c.text
        await c.press("escape")
        assert not c.dialog


async def test_help_of_the_commands_that_begin_with_a_word(console):
    async with console() as c:
        await c.line("help tunnel")
        assert "tunnel drain TUNNEL" in c.text
        assert "agent use" not in c.text
        await c.press("escape")
        await c.line("help tunel")
        assert c.said == "there is no help of tunel; did you mean tunnel?"
        assert c.dialog == ""
        await c.press("colon")
        await c.type("help col")
        await c.until(lambda: "help columns" in c.said)
