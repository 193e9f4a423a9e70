import pytest

from rtun_core.commands import parse_command
from rtun_tui.completion import completions
from rtun_tui.desk import Desk
from rtun_tui.view_commands import run_view_command
from tests.tui.effects import Recorded
from tests.tui.views import OTHER, but, snapshot


def of(text, picture=None):
    return completions(text, Desk(), Recorded(), picture or snapshot())


def test_an_empty_line_could_become_any_command():
    lines = of("")
    assert {"filter", "agent use", "quit", "flow move"} <= set(lines)
    assert lines == sorted(set(lines))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("age", ["agent pin", "agent probe", "agent unpin", "agent use"]),
        ("zoo", ["zoom"]),
        ("zoom ", []),
        ("units b", ["units bit", "units byte"]),
        ("units byte i", ["units byte iec"]),
        ("log level w", ["log level warning"]),
        ("theme ", ["theme night", "theme noon"]),
        ("view load y", ["view load yours"]),
        ("export n", ["export ndjson"]),
        ("focus t", ["focus tunnels"]),
        ("sort idl", ["sort idle"]),
        ("columns def", ["columns default"]),
        ("agent use a", ["agent use alpha"]),
        ("agent use alpha --i", ["agent use alpha --instance"]),
        ("agent use alpha --instance 1", ["agent use alpha --instance 19d0"]),
        ("tunnel drain ", ["tunnel drain t1", "tunnel drain t2"]),
        ("tunnel open ", ["tunnel open --rule"]),
        ("tunnel open --rule r", ["tunnel open --rule r1"]),
        ("agent pin ", []),
        ("rule pause ", ["rule pause r1"]),
        ("flow close @m", ["flow close @marked"]),
        ("flow move @shown --to t", ["flow move @shown --to t1", "flow move @shown --to t2"]),
        ("make tea ", []),
    ],
)
def test_what_a_line_could_become(text, lines):
    assert of(text) == lines


def test_nothing_is_known_before_the_first_picture():
    assert completions("agent use ", Desk(), Recorded(), None) == [
        "agent use --instance",
        "agent use --force",
    ]


def test_the_columns_are_those_of_the_table_in_front():
    desk = Desk()
    desk.focus("tunnels")
    assert completions("sort rt", desk, Recorded(), snapshot()) == ["sort rtt"]


def test_a_name_with_a_space_stays_one_word():
    picture = snapshot(agents=(but(OTHER, name="be ta; x"),))
    (line, *_) = of("agent use ", picture)
    assert parse_command(line).name == "be ta; x"


@pytest.mark.parametrize(
    "text", ["focus ", "units ", "totals ", "privacy ", "log level ", "sort ", "columns "]
)
def test_every_completion_is_a_line_that_works(text):
    for line in of(text):
        run_view_command(line, Desk(), Recorded())
