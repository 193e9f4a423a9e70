"""The app: its beat, its line of commands, its registries, and how it ends when something goes wrong."""

from __future__ import annotations

import pytest
from textual.app import App

from rtun_core.cli.console import EndKind
from rtun_core.commands import COMMANDS, Quit
from rtun_core.engine.source import SourceStatus
from rtun_core.view.columns import COLUMNS, TABLES
from rtun_core.view.pattern import SlowPattern
from rtun_tui.completion import completions
from rtun_tui.palette import ROLES
from rtun_tui.screens.command_palette import palette_entries
from rtun_tui.screens.help import TOPICS, help_text
from rtun_tui.settings import Settings
from rtun_tui.still import StillSource
from rtun_tui.view_commands import VIEW_COMMANDS
from tests.tui.conftest import make_app, running, world

SPELLINGS = [" ".join(each.words) for each in VIEW_COMMANDS] + [
    " ".join(kind.words) for kind in COMMANDS if kind is not Quit
]


class Beating(StillSource):
    """Time goes on by a quarter of a second with every look."""

    def look(self, specs):
        self.advance(0.25)
        return super().look(specs)


# -- the beat --------------------------------------------------------------------------------------


async def test_sixty_keys_in_a_row_are_all_handled_while_ticks_go_on():
    source = Beating(world(flows=400), past=5)
    app = make_app(source, manner={"still": False}, settings=Settings(interval_hz=10.0))
    async with running(app) as c:
        began = source.world.now
        app.desk.tables["flows"].sort = ()
        app.look()
        for key in ["j"] * 60:
            await app._press_keys([key])
        await c.until(lambda: c.flows.cursor >= 60)
        await c.settle()
        assert c.flows.cursor == 60
        for key in ["k"] * 25:
            await app._press_keys([key])
        await c.until(lambda: c.flows.cursor <= 35)
        assert c.flows.cursor == 35
        await c.until(lambda: source.world.now >= began + 1)


async def test_it_is_told_of_the_first_frame_and_of_the_first_picture():
    told, source = [], StillSource(world(flows=10), past=0)
    look, source.look = source.look, lambda specs: None
    app = make_app(source, shown=lambda: told.append("shown"), settled=lambda: told.append("settled"))
    async with running(app) as c:
        assert told == ["shown"]
        assert "3 Flows" in c.text
        source.look = look
        for _ in range(2):
            await c.pass_time(1)
        assert told == ["shown", "settled"]


async def test_a_look_is_on_the_terminal_before_it_returns(console):
    async with console() as c:
        overview = c.app.overview
        before = c.lines
        c.app.source.advance(1.0)
        c.app.look()
        assert not overview._dirty_widgets
        assert not overview._compositor._dirty_regions
        assert c.lines != before


async def test_a_look_that_fails_ends_the_console():
    source = Beating(world(flows=10), past=0)
    app = make_app(source, manner={"still": False}, settings=Settings(interval_hz=10.0))

    async def fails():
        async with running(app) as c:
            source.look = lambda specs: 1 / 0
            await c.until(lambda: app.failure)

    with pytest.raises(ZeroDivisionError):
        await fails()
    assert "ZeroDivisionError" in app.failure


async def test_the_end_of_the_engine_ends_the_console():
    source = Beating(world(flows=10), past=0)
    app = make_app(source, manner={"still": False}, settings=Settings(interval_hz=10.0))
    async with running(app) as c:
        source.status = SourceStatus("ENDED")
        await c.until(lambda: app.return_value is not None)
        assert app.return_value.kind is EndKind.ENGINE_ENDED


async def test_the_header_tells_what_is_looked_at_and_how_often(console):
    async with console() as c:
        assert c.header.startswith("rtun relay ")
        assert c.header.endswith("LIVE 4Hz")
        await c.line("interval 0.5")
        assert c.header.endswith("LIVE 2Hz")
        c.source.status = SourceStatus("LOST", "connection closed", c.source.world.now - 3)
        await c.pass_time(0)
        assert "LOST" in c.header


async def test_before_the_first_picture_nothing_is_known(console):
    async with console() as c:
        c.app.overview.picture = None
        await c.press("X")
        assert c.said == "nothing is known yet"
        assert c.executed == []


async def test_the_desk_is_as_the_settings_want_it(console):
    settings = Settings(units="byte", iec=True, privacy=True, columns={"flows": ("flow", "dn")})
    async with console(settings=settings) as c:
        assert (c.desk.look.bits, c.desk.look.iec, c.desk.look.private) == (False, True, True)
        assert c.flows.columns == ("flow", "dn")
        assert "MiB/s" in c.header


async def test_ascii_draws_nothing_but_ascii(console):
    async with console(manner={"ascii": True}, size=(160, 50)) as c:
        assert c.text.isascii()
        await c.press("enter")
        assert c.text.isascii()
        await c.pilot.resize_terminal(80, 24)
        await c.settle()
        assert c.text.isascii()


async def test_without_colours_only_those_of_the_terminal_are_used(console):
    async with console(manner={"colour": False}, theme="ember") as c:
        assert c.app.palette.name == "mono"
        colours = {
            segment.style.color.name
            for strip in c.app.screen._compositor.render_strips()
            for segment in strip
            if segment.style and segment.style.color
        }
        assert colours <= {"default"}
        await c.line("theme fjord")
        assert c.app.palette.name == "mono"


# -- a line that is typed --------------------------------------------------------------------------


async def test_a_command_is_completed_by_tab(console):
    async with console() as c:
        await c.press("colon")
        await c.type("privacy o")
        await c.until(lambda: "privacy on" in c.said)
        await c.press("tab", "enter")
        assert c.desk.look.private


async def test_old_commands_come_back_and_filters_have_their_own(console):
    async with console() as c:
        await c.line("sort up desc")
        await c.line("units byte")
        await c.press("colon", "up", "up", "enter")
        assert c.said == "flows by up desc"
        await c.press("slash", "up")
        assert c.said == "/"
        await c.press("escape", "colon", "up", "down")
        assert c.said == ":"


async def test_an_unknown_command_is_told_what_there_is(console):
    async with console(size=(160, 50)) as c:
        await c.line("frobnicate 3")
        assert c.said.startswith("unknown command 'frobnicate 3'; the view's own: filter, sort")
        await c.line("flow")
        assert "flow" in c.said
        await c.line('tunnel drain "t1')
        assert c.said.startswith("cannot read the line")


async def test_an_empty_line_and_escape_do_nothing(console):
    async with console() as c:
        await c.press("colon", "enter")
        assert not c.app.overview.prompt.editing
        await c.press("colon")
        await c.type("quit")
        await c.press("escape")
        assert c.app.is_running
        assert c.said == ""


async def test_letters_are_letters_while_a_line_is_typed(console):
    async with console() as c:
        await c.press("slash")
        await c.type("qQxXpm")
        assert c.said == "/ qQxXpm"
        assert c.app.is_running
        assert c.executed == []
        assert c.desk.paused_at is None


async def test_a_message_while_typing_stands_in_place_of_the_keys(console):
    async with console() as c:
        await c.press("slash")
        c.app.say("something came of it")
        await c.settle()
        assert c.keys == "something came of it"
        assert c.said == "/"
        await c.press("escape")
        assert c.keys.startswith("? help")


async def test_a_filter_that_takes_too_long_is_switched_off(console, monkeypatch):
    async with console() as c:
        await c.line("filter src~0.0")
        shown = c.flows.shown
        assert 0 < shown < 120
        look = c.source.look
        slow = SlowPattern("the regular expression takes too long for so many rows")

        def too_slow(specs):
            if any(spec.filter for spec in specs):
                raise slow
            return look(specs)

        monkeypatch.setattr(c.source, "look", too_slow)
        await c.pass_time(1)
        assert c.said == f"{slow}; filters are off now"
        assert not c.flows.filter_on
        await c.pass_time(1)
        assert c.flows.shown > shown


# -- the palette -----------------------------------------------------------------------------------


async def test_the_palette_finds_and_runs_a_command(console):
    async with console() as c:
        await c.press("ctrl+p")
        assert c.dialog == "CommandPalette"
        await c.type("zoom")
        await c.press("enter")
        assert c.desk.zoom


async def test_the_palette_hands_over_a_command_that_wants_more_words(console):
    async with console() as c:
        await c.press("ctrl+p")
        await c.type("theme")
        await c.press("enter")
        assert c.said == ": theme" or c.said.startswith(": theme ")
        await c.type("ember")
        await c.press("enter")
        assert c.app.palette.name == "ember"


async def test_the_palette_is_left_without_a_trace(console):
    async with console() as c:
        await c.press("ctrl+p", "escape")
        assert not c.dialog
        await c.press("ctrl+p", "ctrl+p")
        assert not c.dialog
        assert c.said == ""


# -- registries ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page():
    from rtun_tui.keymap import Keymap
    from rtun_tui.palette import MONO

    return lambda topic=None: help_text(Keymap(), "flows", topic, MONO).plain


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_command_is_in_help_palette_and_completion(spelling, page):
    assert any(line.strip() == spelling for line, _, _ in palette_entries())
    assert f"  {spelling}" in page("commands")
    assert spelling in completions(spelling, None, None, None)
    assert all(about for _, _, about in palette_entries())


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_in_the_help(table, page):
    assert table in page(table)
    for column in COLUMNS[table]:
        assert column.help in page(table)
        assert f"  {column.id} " in page(table)


def test_every_role_of_a_theme_says_what_it_is_for():
    assert all(role.help for role in ROLES)
    assert len({role.name for role in ROLES}) == len(ROLES)


@pytest.mark.parametrize("topic", TOPICS)
def test_every_topic_has_a_page(topic, page):
    assert page(topic)


# -- when it goes wrong ----------------------------------------------------------------------------


async def test_a_widget_that_raises_ends_the_console_with_its_traceback(console, capfd):
    source = StillSource(world(flows=10), past=0)
    app = make_app(source)

    def broken(y):
        return 1 / 0

    async def play():
        async with running(app) as c:
            c.app.overview.table("flows").draw_line = broken
            c.app.overview.table("flows").refresh()
            await c.until(lambda: app.failure)

    with pytest.raises(ZeroDivisionError):
        await play()
    assert "ZeroDivisionError" in app.failure
    assert "broken" in app.failure
    assert app.return_code == 1
    out, err = capfd.readouterr()
    assert "ZeroDivisionError" not in out + err


def test_no_commands_of_the_toolkit_are_left():
    from rtun_tui.app import ConsoleApp

    assert not ConsoleApp.ENABLE_COMMAND_PALETTE
    assert issubclass(ConsoleApp, App)
    assert not ConsoleApp.BINDINGS or ConsoleApp.BINDINGS is App.BINDINGS
