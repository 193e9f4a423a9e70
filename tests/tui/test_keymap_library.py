"""Keys of the user: by name, strictly read, taken while the console runs, and watched while in use."""

import os

import pytest

from rtun_core.engine.paths import keymap_file, keymaps_dir
from rtun_core.errors import UsageError
from rtun_tui.keymap import Keymap
from rtun_tui.keymap_library import DEFAULT, OWN, KeymapLibrary
from rtun_tui.still import StillSource
from rtun_tui.strict_toml import MAX_FILES
from tests.tui.conftest import make_app, running, world


@pytest.fixture
def own(tmp_path):
    return tmp_path / "keymap.toml"


@pytest.fixture
def named(tmp_path):
    (tmp_path / "keymaps").mkdir()
    return tmp_path / "keymaps"


@pytest.fixture
def library(own, named):
    return KeymapLibrary(own=own, named=named)


def write(file, text, stamp=1):
    file.write_text(text)
    os.utime(file, (stamp, stamp))


# -- finding ---------------------------------------------------------------------------------------


def test_the_files_are_those_of_the_user():
    library = KeymapLibrary()
    assert (library.own, library.named) == (keymap_file(), keymaps_dir())
    assert library.names() == (DEFAULT, OWN)
    assert library.find(OWN) == library.find(DEFAULT) == Keymap()


def test_each_map_is_the_default_keys_changed_by_its_own_file_only(library, own, named):
    write(own, 'act.drain = "d"')
    write(named / "travel.toml", '"time.pause" = "f5"')
    assert library.names() == (DEFAULT, OWN, "travel")
    assert library.find(DEFAULT) == Keymap()
    assert library.find(OWN).of("act.drain") == ("d",)
    travel = library.find("travel")
    assert (travel.of("act.drain"), travel.of("time.pause")) == (("x",), ("f5",))


def test_an_unknown_name_is_told_what_there_is(library, named):
    write(named / "travel.toml", "")
    with pytest.raises(UsageError, match=r"^keymap travl is unknown; did you mean travel\?$"):
        library.find("travl")
    with pytest.raises(UsageError, match="known are default, own, travel"):
        library.find("../zzz")


def test_names_of_ours_and_strange_ones_are_no_names_of_files(library, own, named):
    for name in ("default", "own", "My Keys", "a.b"):
        write(named / f"{name}.toml", 'act.drain = "d"')
    write(named / "good.toml", "act.drian = 'd'")
    write(named / "readme.txt", "no key map")
    write(own, "\nact.drain = 3")
    assert library.names() == (DEFAULT, OWN, "good")
    assert library.find(DEFAULT) == Keymap()
    problems = library.problems()
    assert [line.partition(": ")[0] for line in problems] == [
        *(f"{named / name}.toml" for name in ("My Keys", "a.b", "default", "own")),
        f"{own}:2",
        f"{named}/good.toml:1",
    ]
    assert "did you mean act.drain?" in problems[-1]


def test_a_directory_that_is_closed_or_too_full(library, named):
    for number in range(MAX_FILES + 5):
        write(named / f"k{number:03}.toml", "")
    assert len(library.names()) == MAX_FILES + 2
    assert KeymapLibrary(named=named / "k000.toml").names() == (DEFAULT, OWN)


# -- using -----------------------------------------------------------------------------------------


def test_only_the_file_in_use_is_watched(library, own, named):
    assert not library.changed()
    write(own, 'act.drain = "d"')
    assert library.changed()
    assert not library.changed()
    write(named / "travel.toml", "")
    assert not library.changed()
    library.use("travel")
    write(own, 'act.drain = "D"', 2)
    assert not library.changed()
    write(named / "travel.toml", 'act.drain = "d"', 2)
    assert library.changed()
    library.use(DEFAULT)
    write(named / "travel.toml", "", 3)
    assert not library.changed()


def test_one_that_cannot_be_used_leaves_what_is_used(library, named):
    write(named / "broken.toml", '\n"act.drain" = "no key"')
    for name in ("broken", "other"):
        with pytest.raises(UsageError):
            library.use(name)
    assert library.used == OWN


async def test_the_console_takes_other_keys_at_once(console, library, named):
    write(named / "travel.toml", '"act.drain" = "d"\n"pane.flows" = "f3"\n"app.help" = "f1"')
    async with console(keymaps=library, size=(160, 36)) as c:
        await c.press("2")
        assert "x drain" in c.keys
        await c.line("keymap travel")
        assert c.said == "keymap travel: F1 shows its keys"
        assert "d drain" in c.keys
        assert "F3 Flows 120" in c.text
        await c.press("f1")
        assert c.dialog == "Help"
        assert "F3" in c.text
        await c.press("escape", "d")
        assert "Drain tunnel" in c.text
        await c.press("escape")
        await c.line("keymap default")
        assert c.said == "keymap default: ? shows its keys"
        assert "x drain" in c.keys
        assert "3 Flows 120" in c.text


async def test_names_of_maps_are_completed(console, library, named):
    write(named / "travel.toml", "")
    async with console(keymaps=library) as c:
        await c.press("colon")
        await c.type("keymap t")
        await c.until(lambda: "keymap travel" in c.said)


async def test_a_broken_map_is_told_and_the_keys_stay(console, library, named):
    write(named / "broken.toml", '\n"act.drain" = "no key"')
    write(named / "both.toml", '"act.drain" = "p"')
    async with console(keymaps=library, size=(160, 36)) as c:
        await c.press("2")
        await c.line("keymap broken")
        assert f"{named}/broken.toml:2: " in c.said
        assert "act.drain" in c.said
        assert "x drain" in c.keys
        await c.line("keymap both")
        assert f"{named}/both.toml:1: " in c.said
        await c.line("keymap nothing")
        assert c.said.startswith("keymap nothing is unknown; ")
        assert (c.app.keymap, library.used) == (Keymap(), OWN)


async def test_an_edit_of_the_map_in_use_is_taken_and_a_bad_one_never(console, library, own, named):
    write(named / "travel.toml", "")
    async with console(keymaps=library, size=(160, 36)) as c:
        await c.press("2")
        await c.line("keymap travel")
        write(named / "travel.toml", 'act.drain = "d"', 2)
        c.app.watch_files()
        await c.settle()
        assert c.said == "keys as they were written just now"
        assert "d drain" in c.keys
        write(named / "travel.toml", 'act.drain = "no key"', 3)
        c.app.watch_files()
        await c.settle()
        assert f"{named}/travel.toml:1: act.drain" in c.said
        assert "d drain" in c.keys
        (named / "travel.toml").unlink()
        c.app.watch_files()
        await c.settle()
        assert c.said.startswith("keymap travel is unknown")
        assert "d drain" in c.keys
        write(own, 'act.drain = "D"', 2)
        c.app.watch_files()
        await c.settle()
        assert "d drain" in c.keys


async def test_a_map_that_was_broken_from_the_start_is_taken_once_it_is_mended(named):
    library = KeymapLibrary("travel", named=named)
    async with running(make_app(StillSource(world(), past=5), keymaps=library), (160, 36)) as c:
        await c.press("2")
        write(named / "travel.toml", 'act.drain = "d"')
        c.app.watch_files()
        await c.settle()
        assert "d drain" in c.keys
