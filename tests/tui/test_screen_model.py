"""The model of a screen: what ends up where, however the output is split."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tui.screen_model import Screen

OUTPUT = (
    b"plain\r\n\x1b[2;3Hat\x1b[1A\x1b[5Cup\x1b[3;1H\x1b[1;31mred\x1b[0m \xe4\xb8\xad\xe6\x96\x87 \xc3\xa9"
    b"\x1b]2;a title\x1b\\\x1b]52;c;YWJj\x07\x1bP1$r\x1b\\\x1b(B\x1b[?1049h"
    b"\x1b[?2026$p\x1b[4;1Halt\x1b[?25l\x1b[>13u"
)


def shown(data: bytes, columns: int = 10, lines: int = 4) -> Screen:
    screen = Screen(columns, lines)
    screen.feed(data)
    return screen


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"abc", "abc\n\n\n"),
        (b"abc\r\ndef", "abc\ndef\n\n"),
        (b"\x1b[2;3Hx\x1b[Hy", "y\n  x\n\n"),
        (b"\x1b[4;10Hx\x1b[99;99Hy", "\n\n\n         y"),
        (b"\x1b[2Bx\x1b[A\x1b[Dy\x1b[3Cz", "\ny   z\nx\n"),
        (b"\x1b[5Gx\x1b[3dy", "    x\n\n     y\n"),
        (b"abc\b\bX\tY", "aXc     Y\n\n\n"),
        (b"abcdef\x1b[1;3H\x1b[K", "ab\n\n\n"),
        (b"abcdef\x1b[1;3H\x1b[1K", "   def\n\n\n"),
        (b"abcdef\x1b[1;3H\x1b[2K", "\n\n\n"),
        (b"abcdef\x1b[1;3H\x1b[2X", "ab  ef\n\n\n"),
        (b"a\r\nb\r\nc\x1b[2;1H\x1b[J", "a\n\n\n"),
        (b"a\r\nb\r\nc\x1b[2;1H\x1b[1J", "\n\nc\n"),
        (b"a\r\nb\x1b[2J", "\n\n\n"),
        (b"1\r\n2\r\n3\r\n4\r\n5", "2\n3\n4\n5"),
        (b"0123456789ab", "0123456789\nab\n\n"),
        (b"\x1b[?7l0123456789ab", "0123456789\n\n\n"),
        ("中文x".encode(), "中文x\n\n\n"),
        ("12345678中9".encode() + b"0", "12345678中\n90\n\n"),
        ("e\u0301x".encode(), "ex\n\n\n"),
        (b"\xffx", "\ufffdx\n\n\n"),
        (b"\x1b[12;\x18\x1b[0mx", "x\n\n\n"),
        (b"\x1b]2;half\x18x", "x\n\n\n"),
        (b"\x1b[1\x1b[2Hx", "\nx\n\n"),
    ],
)
def test_text(data, text):
    assert shown(data).text() == text


def test_styles_are_recorded():
    screen = shown(b"a\x1b[1mb\x1b[38;5;0mc\x1b[0md\x1b[0;7me\x1b[mf")
    assert [screen.style_of(text) for text in "abcdef"] == ["", "1", "1;38;5;0", "", "7", ""]
    assert screen.sgr == {"1", "38;5;0", "0", "0;7", ""}
    with pytest.raises(ValueError, match="not on the screen"):
        screen.style_of("z")


def test_style_is_found_after_wide_characters():
    screen = shown("中\x1b[7mx".encode())
    assert screen.style_of("x") == "7"


def test_the_alternate_screen_hides_the_main_one():
    screen = shown(b"main\x1b[?1049h")
    assert screen.alternate
    assert screen.text().strip() == ""
    screen.feed(b"\x1b[Hother\x1b[?1049h\x1b[?1049l")
    assert not screen.alternate
    assert screen.line(0) == "main"


def test_titles_and_copies():
    screen = shown(b"\x1b]0;first\x07\x1b[22;2t\x1b]2;second\x1b\\\x1b]52;c;YWJj\x07")
    assert (screen.title, screen.copied) == ("second", ["YWJj"])
    screen.feed(b"\x1b[23;2t")
    assert screen.title == "first"


def test_what_is_left_behind_is_named():
    screen = shown(b"\x1b[?1049h\x1b[?25l\x1b[?1000;1006h\x1b[?7l\x1b[>1u\x1b[22;0t\x1b[1m")
    assert screen.left_behind() == ["?7l", "?25l", "?1000h", "?1006h", "?1049h", "keyboard", "", "1"]
    assert shown(b"\x1b[?25l\x1b[?25h\x1b[1m\x1b[m").left_behind() == []


def test_resize_keeps_what_fits():
    screen = shown(b"abcdefghij\r\n2\r\n3\r\n4")
    screen.resize(5, 2)
    assert screen.text() == "abcde\n2"
    screen.feed(b"x\x1b[1;5Hy")
    screen.resize(8, 3)
    assert screen.text() == "abcdy\n2x\n"


@given(st.lists(st.integers(0, len(OUTPUT)), max_size=6))
def test_any_split_reads_alike(cuts):
    screen = Screen(20, 5)
    edges = [0, *sorted(cuts), len(OUTPUT)]
    for start, end in pairwise(edges):
        screen.feed(OUTPUT[start:end])
    whole = shown(OUTPUT, 20, 5)
    assert screen.text() == whole.text()
    assert vars(screen).keys() == vars(whole).keys()
    for name in ("title", "copied", "modes", "keyboard", "sgr", "styles", "style", "_main"):
        assert getattr(screen, name) == getattr(whole, name)


@given(st.binary(max_size=200))
def test_any_bytes_are_taken(data):
    screen = shown(data)
    assert len(screen.cells) == 4
    assert screen.text().count("\n") == 3


@given(st.text(alphabet="\x1b[]?;0123456789HJKXmhltuABCDGdP\\\x18\x07x中\r\n", max_size=60))
def test_any_sequences_keep_the_grid(text):
    screen = shown(text.encode())
    assert [len(row) for row in screen.cells] == [10] * 4
    assert [len(row) for row in screen.styles] == [10] * 4
