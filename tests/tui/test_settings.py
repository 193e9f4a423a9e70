import re

import pytest

from rtun_core.engine.paths import settings_file
from rtun_core.errors import UsageError
from rtun_core.view.columns import COLUMNS, TABLES
from rtun_core.view.page import Sort
from rtun_tui.settings import (
    CONSOLE_HELP,
    MAX_VIEWS,
    Settings,
    load_settings,
    parse_settings,
    print_template,
)
from rtun_tui.strict_toml import parse_document

WHOLE = """\
[console]
theme = "ember"
keymap = "travel"
interval_hz = 2
units = "byte"
iec = true
ascii = true
mouse = false
privacy = true

[columns]
flows = ["flow", "dst", "down", "flow"]

[views.heavy]
table = "flows"
filter = "dn>1M"
sort = ["dn desc", "flow"]
columns = ["flow", "dn"]

[views.agents]
table = "agents"
sort = "expires"
"""


def settings(text):
    return parse_settings(parse_document("config.toml", text))


def test_nothing_given_is_the_default():
    assert settings("") == Settings()
    assert Settings().bits


def test_what_a_file_says():
    given = settings(WHOLE)
    assert given.keymap == "travel"
    assert (given.theme, given.interval_hz, given.units, given.bits) == ("ember", 2.0, "byte", False)
    assert (given.iec, given.ascii, given.mouse, given.privacy) == (True, True, False, True)
    assert given.columns == {"flows": ("flow", "dst", "dn")}
    heavy = given.views["heavy"]
    assert (heavy.name, heavy.table, heavy.filter) == ("heavy", "flows", "dn>1M")
    assert heavy.sort == (Sort("dn", True), Sort("flow", False))
    assert heavy.columns == ("flow", "dn")
    assert given.views["agents"].sort == (Sort("exp", False),)
    assert given.views["agents"].columns == ()


def test_a_view_may_use_the_filter_of_another():
    dns = '[views.dns]\ntable = "flows"\nfilter = "dst=8.8.8.8"\n'
    slow = '[views.slow]\ntable = "flows"\nfilter = "@dns idle>1m"\n'
    assert settings(dns + slow).views["slow"].filter == "@dns idle>1m"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[consol]\n", "config.toml:1: consol: unknown key; did you mean console?"),
        ("\n[console]\nthem = 1\n", "config.toml:3: console.them: unknown key; did you mean theme?"),
        ("console = 1", "config.toml:1: console: must be a table, not a whole number"),
        ("[console]\ntheme = 1", "config.toml:2: console.theme: must be a text, not a whole number"),
        ("[console]\niec = 1", "config.toml:2: console.iec: must be true or false, not a whole number"),
        ("[console]\ninterval_hz = 11", "config.toml:2: console.interval_hz: must be 0.2 to 10, not 11"),
        ("[console]\ninterval_hz = 0.1", "config.toml:2: console.interval_hz: must be 0.2 to 10, not 0.1"),
        ("[console]\ninterval_hz = nan", "config.toml:2: console.interval_hz: must be 0.2 to 10, not nan"),
        ("[console]\ninterval_hz = true", "config.toml:2: console.interval_hz: must be a number"),
        ("[console]\nunits = 'bits'", 'config.toml:2: console.units: must be "bit" or "byte", not \'bits\''),
        ("[columns]\nflow = []", "config.toml:2: columns.flow: unknown key; did you mean flows?"),
        ("[columns]\nflows = ['nosuch']", "config.toml:2: columns.flows: "),
        ("[columns]\nflows = []", "config.toml:2: columns.flows: names no column"),
        ("[views.x]\n", "config.toml:1: views.x: table is missing"),
        ("[views.'a b']\ntable = 'flows'", 'config.toml:1: views."a b": a view\'s name is'),
        (
            "[views.x]\ntable = 'flow'",
            "config.toml:2: views.x.table: 'flow' is no table; did you mean flows?",
        ),
        ("[views.x]\ntable = 'flows'\ncolour = 1", "config.toml:3: views.x.colour: unknown key"),
        ("[views.x]\ntable = 'flows'\nfilter = 'dn>'", "config.toml:3: views.x.filter: "),
        ("[views.x]\ntable = 'flows'\nfilter = 'nosuch=1'", "config.toml:3: views.x.filter: "),
        ("[views.x]\ntable = 'flows'\nfilter = '@nosuch'", "config.toml:3: views.x.filter: "),
        ("[views.x]\ntable = 'flows'\nsort = 'nosuch'", "config.toml:3: views.x.sort: "),
        ("[views.x]\ntable = 'flows'\nsort = 'dn up'", "config.toml:3: views.x.sort: 'dn up' must be COLUMN"),
        ("[views.x]\ntable = 'flows'\ncolumns = []", "config.toml:3: views.x.columns: names no column"),
        ("views = 3", "config.toml:1: views: must be a table"),
        ("[console\n", "config.toml:1: not valid TOML"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(UsageError) as caught:
        settings(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_views_are_bounded():
    text = "".join(f"[views.v{number}]\ntable = 'flows'\n" for number in range(MAX_VIEWS + 1))
    with pytest.raises(UsageError, match=f"has {MAX_VIEWS + 1} views; at most {MAX_VIEWS} are kept"):
        settings(text)


def test_the_template_changes_nothing_as_it_is():
    assert settings(print_template()) == Settings()


def test_the_template_is_valid_with_its_marks_taken_away():
    given = settings(re.sub(r"(?m)^#(?=\S)", "", print_template()))
    assert set(given.views) == {"heavy"}
    assert set(given.columns) == set(TABLES)
    for table in TABLES:
        assert given.columns[table] == tuple(column.id for column in COLUMNS[table] if column.shown)
    for key in CONSOLE_HELP:
        assert getattr(given, key) == getattr(Settings(), key)


def test_where_the_file_is(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert settings_file({}) == tmp_path / "rtun" / "config.toml"
    assert settings_file({"RTUN_CONFIG": "/elsewhere/c.toml"}).as_posix() == "/elsewhere/c.toml"


def test_only_a_file_that_was_named_must_exist(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert load_settings({}) == Settings()
    named = tmp_path / "mine.toml"
    with pytest.raises(UsageError, match=re.escape(f"{named}: cannot be read")):
        load_settings({"RTUN_CONFIG": str(named)})
    named.write_text('[console]\ntheme = "fjord"\n')
    assert load_settings({"RTUN_CONFIG": str(named)}).theme == "fjord"
