import os
import tomllib
from pathlib import Path

import pytest

from rtun_core.engine.paths import themes_dir
from rtun_tui import theme_library
from rtun_tui.palette import MONO
from rtun_tui.strict_toml import MAX_FILES
from rtun_tui.theme_library import DEFAULT_THEME, ThemeLibrary, built_in_themes

MINE = """\
name = "{name}"
about = "mine"
[roles]
background = "#000000"
text = "#ffffff"
accent = "#80c0ff"
cursor = "#ffffff on #303030"
"""


@pytest.fixture
def user(tmp_path):
    return tmp_path / "themes"


@pytest.fixture
def library(user):
    return ThemeLibrary(user=user)


def write(user, name, text=MINE):
    user.mkdir(exist_ok=True)
    (user / f"{name}.toml").write_text(text.format(name=name))


def test_ours_are_found(library):
    assert {DEFAULT_THEME, "rtun-light", "mono"} <= set(library.names())
    for name in library.names():
        found = library.find(name)
        assert (found.theme.name, found.warning) == (name, "")


def test_the_users_come_after_ours_and_win_by_name(library, user):
    write(user, "mine")
    write(user, "rtun-light")
    assert library.names()[-1] == "mine"
    assert library.names().count("rtun-light") == 1
    assert library.find("mine").theme.about == "mine"
    assert library.find("rtun-light").theme.about == "mine"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = 1", "dusk.toml:1: name: must be a text"),
        (MINE.replace("{name}", "dawn"), "the theme calls itself dawn; its file must be dawn.toml"),
        ("", "name is missing"),
    ],
)
def test_a_broken_theme_gives_the_default_and_a_warning(library, user, text, words):
    write(user, "dusk", text)
    found = library.find("dusk")
    assert found.theme.name == DEFAULT_THEME
    assert found.warning.startswith("theme dusk cannot be used: ")
    assert words in found.warning
    assert len(library.problems()) == 1
    assert words in library.problems()[0]


def test_a_broken_theme_of_the_default_name_gives_ours(library, user):
    write(user, DEFAULT_THEME, "name = 1")
    found = library.find(DEFAULT_THEME)
    assert found.warning
    assert found.theme.about != "mine"


def test_an_unknown_theme_gives_the_default_and_a_hint(library):
    found = library.find("rtun-drak")
    assert found.theme.name == DEFAULT_THEME
    assert found.warning == "theme rtun-drak is unknown; did you mean rtun-dark?"


def test_without_any_file_there_are_no_colours_but_a_console(tmp_path):
    found = ThemeLibrary(built_in=tmp_path / "none", user=tmp_path / "none").find(DEFAULT_THEME)
    assert found.theme.to_palette() == MONO
    assert "cannot be read" in found.warning


def test_changes_are_seen_once(library, user):
    assert not library.changed()
    write(user, "mine")
    assert library.changed()
    assert not library.changed()
    write(user, "mine", MINE + "# longer\n")
    assert library.changed()
    status = (user / "mine.toml").stat()
    os.utime(user / "mine.toml", ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    assert library.changed()
    (user / "mine.toml").unlink()
    assert library.changed()
    assert not library.changed()


def test_a_link_to_nowhere_is_a_problem_not_an_exception(library, user):
    user.mkdir()
    (user / "gone.toml").symlink_to(user / "nowhere")
    assert library.changed()
    assert library.find("gone").theme.name == DEFAULT_THEME
    assert "cannot be read" in library.problems()[0]


def test_a_flood_of_files_is_bounded(library, user):
    user.mkdir()
    for number in range(MAX_FILES + 5):
        (user / f"t{number:03}.toml").touch()
    assert len(library.problems()) == MAX_FILES


def test_other_files_are_left_alone(library, user):
    write(user, "mine")
    (user / "notes.txt").write_text("no theme")
    assert library.problems() == []
    assert "notes" not in library.names()


def test_places(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert themes_dir() == tmp_path / "rtun" / "themes"
    assert ThemeLibrary().user == themes_dir()
    assert (built_in_themes() / f"{DEFAULT_THEME}.toml").is_file()


def test_an_installed_package_has_the_themes_inside(monkeypatch, tmp_path):
    package = tmp_path / "rtun_tui"
    monkeypatch.setattr(theme_library, "__file__", str(package / "theme_library.py"))
    assert built_in_themes() == tmp_path / "themes"
    (package / "themes").mkdir(parents=True)
    assert built_in_themes() == package / "themes"


def test_the_list_of_packages_is_whole():
    root = Path(__file__).parents[2]
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {
        ".".join(file.parent.relative_to(root).parts)
        for top in ("rtun_core", "rtun_tui")
        for file in (root / top).rglob("*.py")
    }
    assert set(settings["packages"]) == found | set(settings["package-dir"])
    assert settings["package-dir"] == {"rtun_tui.themes": "themes"}
