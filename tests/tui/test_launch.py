"""The door to the console: is there a terminal; broken files are told, and no reason to stay away."""

from __future__ import annotations

import io
import sys

import pytest

from rtun_core.engine.paths import config_dir
from rtun_core.errors import UsageError
from rtun_tui.keymap import Keymap
from rtun_tui.launch import check, read_configuration
from rtun_tui.settings import Settings


@pytest.fixture
def directory():
    config_dir().mkdir(parents=True)
    return config_dir()


def test_without_files_all_is_as_it_comes():
    settings, _, keymap, warnings = read_configuration()
    assert settings == Settings()
    assert keymap == Keymap()
    assert warnings == []


def test_settings_and_keys_of_the_user_are_read(directory):
    (directory / "config.toml").write_text("[console]\ninterval_hz = 2.0\n")
    (directory / "keymap.toml").write_text('"time.pause" = "F"\n')
    settings, _, keymap, warnings = read_configuration()
    assert settings.interval_hz == 2.0
    assert keymap.of("time.pause") == ("F",)
    assert warnings == []


def test_the_keys_may_be_another_file_of_the_user(directory):
    (directory / "config.toml").write_text('[console]\nkeymap = "travel"\n')
    (directory / "keymap.toml").write_text('"time.pause" = "F"\n')
    (directory / "keymaps").mkdir()
    (directory / "keymaps" / "travel.toml").write_text('"time.pause" = "f5"\n')
    _, keymaps, keymap, warnings = read_configuration()
    assert (keymaps.used, keymap.of("time.pause"), warnings) == ("travel", ("f5",), [])
    (directory / "keymaps" / "travel.toml").unlink()
    _, keymaps, keymap, warnings = read_configuration()
    assert (keymaps.used, keymap) == ("travel", Keymap())
    assert warnings == ["keymap travel is unknown; known are default, own"]


def test_a_broken_file_costs_its_own_part_only(directory):
    (directory / "config.toml").write_text("[console]\ninterval = 2\n")
    (directory / "keymap.toml").write_text('"time.pause" = "F"\n')
    settings, _, keymap, warnings = read_configuration()
    assert settings == Settings()
    assert keymap.of("time.pause") == ("F",)
    (warning,) = warnings
    assert "config.toml" in warning
    assert "interval" in warning


def test_two_broken_files_are_two_warnings(directory):
    (directory / "config.toml").write_text("what?")
    (directory / "keymap.toml").write_text('"no.such" = "F"\n')
    settings, _, keymap, warnings = read_configuration()
    assert (settings, keymap) == (Settings(), Keymap())
    assert len(warnings) == 2
    assert "no.such" in warnings[1]


async def test_every_warning_is_seen_in_the_console(console):
    faults = ["config.toml: line 3: what is this?", "keymap.toml: line 9: and this?"]
    async with console(warnings=faults, theme="rtun-darc", size=(80, 24)) as c:
        assert c.dialog == "Faults"
        assert all(fault in c.text for fault in (*faults, "theme rtun-darc is unknown"))
        await c.press("enter")
        assert c.dialog == ""


async def test_without_a_warning_nothing_is_in_the_way(console):
    async with console() as c:
        assert c.dialog == ""


def test_without_a_terminal_the_console_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "__stdin__", io.StringIO())
    with pytest.raises(UsageError, match="standard input is not one"):
        check()


def test_a_dumb_terminal_is_refused(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

        def fileno(self):
            return 0

    monkeypatch.setattr(sys, "__stdin__", Terminal())
    monkeypatch.setattr(sys, "__stderr__", Terminal())
    monkeypatch.setattr("rtun_tui.terminal.in_foreground", lambda _: True)
    monkeypatch.setenv("TERM", "dumb")
    with pytest.raises(UsageError, match="dumb"):
        check()
    monkeypatch.setenv("TERM", "xterm-256color")
    check()
