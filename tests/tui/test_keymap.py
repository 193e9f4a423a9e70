import string

import pytest
from textual import events
from textual.app import App
from textual.binding import Binding
from textual.keys import _character_to_key

from rtun_core.errors import UsageError
from rtun_tui.key_actions import GROUPS, PANES
from rtun_tui.keymap import (
    ACTIONS,
    KEY_ACTIONS,
    Keymap,
    conflicts,
    display_key,
    key_name,
    load_keymap,
    parse_keymap,
    written_key,
)
from rtun_tui.strict_toml import parse_document

# The table of keys that the console promises, as people write them.
PROMISED = [
    *"jkgGhl12345z",
    *("ctrl+d", "ctrl+u", "tab", "shift+tab", "ctrl+o", "enter", "escape", "space", "ctrl+space"),
    *("*", "/", "\\", "n", "N", "<", ">"),
    *"IscwpbButPTiLaxCmXKrofOyYeSRqQ",
    *("+", "-", ":", "?", "ctrl+l", "ctrl+p", "ctrl+c"),
    *("up", "down", "left", "right", "home", "end", "pageup", "pagedown"),
]


def keymap(text):
    return parse_keymap(parse_document("keymap.toml", text))


def test_every_promised_key_does_something():
    taken = {key for action in KEY_ACTIONS for key in action.keys}
    assert {key_name(key) for key in PROMISED} == taken - {"ctrl+@"}


def test_ids_are_unique_and_entries_are_whole():
    assert len(ACTIONS) == len(KEY_ACTIONS)
    for action in KEY_ACTIONS:
        assert action.help
        assert action.group in GROUPS
        assert action.panes
        assert set(action.panes) <= set(PANES)
        assert all(key_name(key) == key for key in action.keys)
    assert {action.group for action in KEY_ACTIONS} == set(GROUPS)


def test_the_defaults_have_no_conflict():
    assert list(conflicts(Keymap())) == []


def test_nothing_destructive_is_on_a_ctrl_key():
    destructive = {action.id for action in KEY_ACTIONS if action.destructive}
    assert destructive >= {"act.drain", "act.close-flow", "act.use-agent", "app.quit"}
    assert not [key for action in destructive for key in ACTIONS[action].keys if "+" in key]


def test_suspending_the_whole_process_has_no_key():
    assert "ctrl+z" not in {key for action in KEY_ACTIONS for key in action.keys}


@pytest.mark.parametrize("sign", string.punctuation + string.ascii_letters + string.digits)
def test_names_are_those_of_textual(sign):
    name = key_name(sign)
    assert name == _character_to_key(sign)
    assert key_name(name) == name
    assert key_name(written_key(name)) == name
    assert display_key(name) == sign
    assert events.Key(name, sign).key == name


@pytest.mark.parametrize(
    "key", ["ctrl+d", "ctrl+@", "shift+tab", "ctrl+shift+left", "alt+x", "f12", "pagedown", "ctrl+slash", "é"]
)
def test_keys(key):
    assert key_name(key) == key


@pytest.mark.parametrize(
    "key", ["", " ", "ctrl+", "ctrl+D", "shift+a", "hyper+a", "ctrl+ctrl+a", "f25", "page down"]
)
def test_what_is_no_key(key):
    with pytest.raises(UsageError, match="is not a key; write it like"):
        key_name(key)


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("pagedown", "PgDn"),
        ("shift+tab", "Shift+Tab"),
        ("ctrl+d", "ctrl+d"),
        ("ctrl+@", "Ctrl+Space"),
        ("question_mark", "?"),
        ("f5", "F5"),
    ],
)
def test_keys_as_people_read_them(key, shown):
    assert display_key(key) == shown


def test_the_keys_of_an_action():
    keys = Keymap()
    assert keys.of("move.down") == ("j", "down")
    assert keys.display("move.down") == "j, Down"
    assert keys.display("mark.range") == "Ctrl+Space"
    with pytest.raises(KeyError):
        keys.of("no.such")


def test_what_a_key_does_depends_on_the_pane():
    keys = Keymap()
    assert keys.action_at("tunnels", "x").id == "act.drain"
    assert keys.action_at("flows", "x") is None
    assert keys.action_at("flows", "X").id == "act.close-flow"
    assert keys.action_at("events", "question_mark").id == "app.help"


def test_a_file_changes_some_keys():
    keys = keymap('"act.drain" = "d"\n"move.down" = ["j", "down", "ctrl+n", "j"]\n[app]\nrecord = []\n')
    assert keys.of("act.drain") == ("d",)
    assert keys.of("move.down") == ("j", "down", "ctrl+n")
    assert keys.of("app.record") == ()
    assert keys.of("move.up") == ("k", "up")
    assert keys.action_at("tunnels", "x") is None
    assert keys.display("app.record") == ""


def test_two_actions_may_change_places():
    keys = keymap('"time.pause" = "u"\n"show.units" = "p"\n')
    assert (keys.of("time.pause"), keys.of("show.units")) == (("u",), ("p",))


def test_the_same_key_in_panes_of_their_own_is_fine():
    assert keymap('"act.drain" = "m"\n').of("act.drain") == ("m",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '# mine\n"act.drain" = "p"\n',
            'keymap.toml:2: "act.drain": time.pause and act.drain are both on the key p in the pane tunnels',
        ),
        (
            '"app.help" = "/"\n',
            'keymap.toml:1: "app.help": filter.edit and app.help are both on the key / in the pane agents',
        ),
        ('"act.drian" = "d"\n', 'keymap.toml:1: "act.drian": unknown action; did you mean act.drain?'),
        ('\n[act]\ndrain = "ctrl+D"\n', "keymap.toml:3: act.drain: 'ctrl+D' is not a key; write it like"),
        ('"act.drain" = 1\n', 'keymap.toml:1: "act.drain": must be a text or a list of texts'),
        ('"act.drain" = "x\n', "keymap.toml:1: not valid TOML"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(UsageError) as caught:
        keymap(text)
    assert str(caught.value).startswith(message)


def test_the_file_need_not_exist(tmp_path):
    assert load_keymap(tmp_path / "keymap.toml") == Keymap()
    (tmp_path / "keymap.toml").write_text('"app.quit" = "ctrl+q"\n')
    assert load_keymap(tmp_path / "keymap.toml").of("app.quit") == ("ctrl+q",)


class Pressed(App):
    BINDINGS = [  # noqa: RUF012
        Binding(",".join(action.keys), f"note('{action.id}')", id=action.id, priority=True)
        for action in KEY_ACTIONS
        if "flows" in action.panes
    ]

    def __init__(self):
        super().__init__()
        self.seen = []

    def action_note(self, action):
        self.seen.append(action)


async def test_textual_takes_the_keys_and_the_users_choice():
    app = Pressed()
    async with app.run_test() as pilot:
        await pilot.press("G", "ctrl+@", "slash", "shift+tab", "X")
        app.set_keymap(keymap('"act.close-flow" = ["D", "ctrl+x"]\n').textual())
        await pilot.press("X", "D", "ctrl+x")
    assert app.seen == [
        "move.last",
        "mark.range",
        "filter.edit",
        "pane.previous",
        "act.close-flow",
        "act.close-flow",
        "act.close-flow",
    ]
