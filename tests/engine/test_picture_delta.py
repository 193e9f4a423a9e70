"""Pictures as changes: what is put together is what was taken, or it is noticed that something is missing."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtun_core.engine.picture_delta import PictureReader, PictureWriter, Shot
from rtun_core.engine.simulated import SimulatedWorld
from rtun_core.engine.view_messages import read_message
from rtun_core.errors import RemoteProtocolError
from rtun_core.view.columns import TABLES
from rtun_core.view.page import Sort, ViewSpec
from rtun_core.view.project import cut_out, project

SORTS = {"flows": (Sort("dn", descending=True),), "tunnels": (Sort("up"),)}
SPECS = [ViewSpec(table=table, limit=20, sort=SORTS.get(table, ())) for table in TABLES]


class Stage:
    """A simulated relay, and what becomes of its pictures at both ends of a link."""

    def __init__(self, form="changes", seed=0, flows=40):
        self.world = SimulatedWorld(flows=flows, start=1.7e9, seed=seed)
        self.writer, self.reader = PictureWriter(form), PictureReader()
        self.picture = self.world.picture()

    def write(self, *, whole=False, specs=SPECS):
        pages = {spec.table: cut_out(self.picture, spec) for spec in specs}
        return self.writer.write(Shot(self.picture, pages, 7, False, 0.5), whole=whole)

    def read(self, text):
        message = read_message(text)
        return self.reader.read(message.picture or message.change)

    def assert_shown(self, shot, specs=SPECS):
        assert not shot.snapshot.flows
        assert shot.snapshot == msgspec.structs.replace(self.picture, flows=shot.snapshot.flows)
        assert shot.pages == {spec.table: project(self.picture, spec) for spec in specs}
        assert (shot.turn, shot.held, shot.cost) == (7, False, 0.5)

    def go_on(self, seconds=0.25):
        self.world.advance(seconds)
        self.picture = self.world.picture()


def kind(text):
    [name] = json.loads(text)
    return name


@settings(max_examples=25)
@given(st.integers(0, 1000), st.lists(st.tuples(st.floats(0.01, 60), st.booleans()), max_size=8))
def test_any_sequence_of_pictures_is_put_together_again(seed, steps):
    stage = Stage(seed=seed)
    stage.assert_shown(stage.read(stage.write()))
    for seconds, whole in steps:
        stage.go_on(seconds)
        text = stage.write(whole=whole)
        assert kind(text) == ("picture" if whole else "change")
        stage.assert_shown(stage.read(text))


@settings(max_examples=25)
@given(st.integers(0, 1000), st.data())
def test_what_was_lost_or_came_in_another_order_is_noticed(seed, data):
    stage = Stage(seed=seed)
    texts = [stage.write()]
    taken = [stage.picture]
    for _ in range(5):
        stage.go_on()
        texts.append(stage.write())
        taken.append(stage.picture)
    held = None
    for number in data.draw(st.lists(st.integers(0, 5), max_size=12)):
        shot = stage.read(texts[number])
        fits = number == 0 or number - 1 == held
        assert (shot is not None) == fits
        if shot is not None:
            held, stage.picture = number, taken[number]
            stage.assert_shown(shot)
    key = stage.write(whole=True)
    stage.assert_shown(stage.read(key))
    stage.go_on()
    stage.assert_shown(stage.read(stage.write()))


@pytest.mark.parametrize("form", ["rows", "packed"])
def test_other_forms_are_always_whole(form):
    stage = Stage(form)
    for _ in range(3):
        text = stage.write()
        assert kind(text) == "picture"
        assert ("packed" in json.loads(text)["picture"]["pages"]["flows"]) == (form == "packed")
        stage.assert_shown(stage.read(text))
        stage.go_on()


def test_what_did_not_change_stays_at_home():
    stage = Stage()
    whole = stage.write()
    stage.read(whole)
    same = stage.write()
    assert len(same) < 0.2 * len(whole)
    assert json.loads(same)["change"]["snapshot"] == {}
    stage.assert_shown(stage.read(same))


def test_a_row_that_stays_is_none():
    stage = Stage()
    stage.read(stage.write())
    first, *others = stage.picture.tunnels
    changed = msgspec.structs.replace(first, flows=first.flows + 1)
    stage.picture = msgspec.structs.replace(stage.picture, tunnels=(changed, *others[:-1]))
    text = stage.write()
    [row, *rest] = json.loads(text)["change"]["snapshot"]["tunnels"]
    assert (row["flows"], rest) == (changed.flows, [None] * (len(others) - 1))
    stage.assert_shown(stage.read(text))


def test_pages_that_come_and_go():
    stage = Stage()
    for count, whole in ((4, True), (1, False), (4, False), (0, False), (4, False)):
        stage.assert_shown(stage.read(stage.write(whole=whole, specs=SPECS[:count])), SPECS[:count])
        stage.go_on()


def test_a_field_of_a_newer_version_is_passed_over():
    stage = Stage()
    stage.read(stage.write())
    stage.go_on()
    message = json.loads(stage.write())
    message["change"]["snapshot"]["weather"] = "fine"
    stage.assert_shown(stage.read(json.dumps(message)))


@pytest.mark.parametrize(
    "damage",
    [
        {"snapshot": {"tunnels": [None] * 1000}},
        {"snapshot": {"tunnels": 5}},
        {"snapshot": {"ts": "noon"}},
        {"pages": {"tunnels": {"places": [1000]}}},
        {"pages": {"flows": {"packed": {"changed": ""}}}},
    ],
)
def test_a_change_that_cannot_be_is_refused(damage):
    stage = Stage()
    stage.read(stage.write())
    stage.go_on()
    message = json.loads(stage.write())
    merge(message["change"], damage)
    with pytest.raises(RemoteProtocolError) as caught:
        stage.read(json.dumps(message))
    assert caught.value.reason == "view"


def merge(into, more):
    for name, value in more.items():
        if isinstance(value, dict):
            merge(into[name], value)
        else:
            into[name] = value
