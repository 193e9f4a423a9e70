import os

import pytest

from rtun_core.errors import UsageError
from rtun_tui.keymap import Keymap
from rtun_tui.keymap_file import KeymapFile


@pytest.fixture
def file(tmp_path):
    return tmp_path / "keymap.toml"


def write(file, text, stamp):
    file.write_text(text)
    os.utime(file, (stamp, stamp))


def test_without_a_file_the_keys_are_the_default_ones(file):
    assert KeymapFile(file).load() == Keymap()


def test_it_is_read_again_once_it_was_written(file):
    keys = KeymapFile(file)
    assert not keys.changed()
    write(file, 'act.drain = "d"', 1)
    assert keys.changed()
    assert not keys.changed()
    assert keys.load().of("act.drain") == ("d",)
    file.unlink()
    assert keys.changed()
    assert keys.load() == Keymap()


async def test_the_console_takes_new_keys_at_once_and_bad_ones_never(console, file):
    async with console(keys=KeymapFile(file), size=(160, 36)) as c:
        await c.press("2")
        assert "x drain" in c.keys
        write(file, 'act.drain = "d"', 1)
        c.app.watch_files()
        await c.settle()
        assert c.said == "keys as they were written just now"
        assert "d drain" in c.keys
        await c.press("d")
        assert "Drain tunnel" in c.text
        await c.press("escape")
        write(file, 'act.drain = "no key"', 2)
        c.app.watch_files()
        await c.settle()
        assert f"{file}:1: act.drain" in c.said
        assert "d drain" in c.keys


def test_what_is_wrong_is_told_with_file_and_line(file):
    write(file, "\nact.drain = 3", 1)
    with pytest.raises(UsageError, match=r"keymap.toml:2: act.drain"):
        KeymapFile(file).load()
