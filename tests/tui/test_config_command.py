import os
from pathlib import Path

import pytest
from click import UsageError as ClickUsageError
from click.testing import CliRunner

from rtun_core.cli.main import rtun
from rtun_tui.config_text import print_keys, print_theme_items, print_themes
from rtun_tui.keymap import Keymap, parse_keymap
from rtun_tui.settings import print_template
from rtun_tui.strict_toml import parse_document
from rtun_tui.theme_files import parse_theme
from rtun_tui.theme_library import DEFAULT_THEME, ThemeLibrary

GOLDEN = Path(__file__).with_name("golden")
PRINTED = {
    "keys": print_keys,
    "template": print_template,
    "theme-items": print_theme_items,
    "themes": print_themes,
}


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.delenv("RTUN_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "rtun").mkdir()
    return tmp_path / "rtun"


@pytest.fixture
def run():
    def call(*words):
        # through rtun, as a user does: the command keeps the help option that it is first seen with
        result = CliRunner().invoke(rtun, ["config", *words], standalone_mode=False)
        if result.exception:
            raise result.exception
        return result.return_value, result.stdout

    return call


@pytest.mark.parametrize("name", PRINTED)
def test_what_is_printed_is_as_it_was(run, name):
    status, text = run(f"--print-{name}")
    assert (status, text) == (0, PRINTED[name]())
    file = GOLDEN / f"config-{name}.txt"
    if os.environ.get("RTUN_UPDATE_GOLDEN") == "1":
        file.write_text(text)
    assert text == file.read_text()
    assert max(map(len, text.splitlines())) <= 140


@pytest.mark.parametrize("words", [(), ("--print-keys", "--check"), ("--print-keys", "--print-template")])
def test_exactly_one_option(run, words):
    with pytest.raises(ClickUsageError, match="give exactly one option"):
        run(*words)


def test_printed_keys_are_a_keymap_that_changes_nothing():
    assert parse_keymap(parse_document("keymap.toml", print_keys())) == Keymap()


def test_printed_items_are_the_default_theme():
    theme = parse_theme(parse_document("my-theme.toml", print_theme_items()))
    assert theme.name == "my-theme"
    assert theme.to_palette().styles == ThemeLibrary().find(DEFAULT_THEME).theme.to_palette().styles


def test_a_broken_theme_of_ones_own_is_listed_with_its_fault(run, home):
    (home / "themes").mkdir()
    (home / "themes" / "dusk.toml").write_text("name = 1\n")
    assert "dusk           theme dusk cannot be used: " in run("--print-themes")[1]


def test_nothing_to_find(run):
    assert run("--check") == (0, "no faults found\n")


def test_each_fault_is_a_line(run, home):
    (home / "config.toml").write_text("[console]\nthem = 1\n")
    (home / "keymap.toml").write_text('"act.drain" = "p"\n')
    (home / "themes").mkdir()
    for name in ("dawn", "dusk"):
        (home / "themes" / f"{name}.toml").write_text(f'name = "{name}"\nroles = 1\n')
    status, text = run("--check")
    assert status == 1
    starts = [
        "config.toml:2: console.them",
        "keymap.toml:1: ",
        "themes/dawn.toml:2: ",
        "themes/dusk.toml:2: ",
    ]
    assert len(text.splitlines()) == len(starts)
    for line, start in zip(text.splitlines(), starts, strict=True):
        assert line.startswith(f"{home}/{start}")


def test_a_theme_that_is_not_there_is_a_fault(run, home):
    (home / "config.toml").write_text('[console]\n\ntheme = "embr"\n')
    status, text = run("--check")
    assert (status, text) == (
        1,
        f"{home}/config.toml:3: console.theme: theme embr is unknown; did you mean ember?\n",
    )


def test_keys_of_ones_own_are_checked_too(run, home):
    (home / "config.toml").write_text('[console]\nkeymap = "travl"\n')
    (home / "keymaps").mkdir()
    (home / "keymaps" / "travel.toml").write_text('"act.drain" = "p"\n')
    (home / "keymaps" / "own.toml").write_text("")
    status, text = run("--check")
    assert status == 1
    first, second, third = text.splitlines()
    assert first == f"{home}/config.toml:2: console.keymap: keymap travl is unknown; did you mean travel?"
    assert second.startswith(f"{home}/keymaps/own.toml: a key map's name is ")
    assert third.startswith(f"{home}/keymaps/travel.toml:1: ")


def test_the_file_that_the_environment_names_is_checked(run, home, monkeypatch):
    monkeypatch.setenv("RTUN_CONFIG", str(home / "other.toml"))
    assert run("--check") == (1, f"{home}/other.toml: cannot be read: No such file or directory\n")
