"""What a viewer is owed, as a dialogue: it says something, time passes, it is told something."""

import json

import msgspec
import pytest

from rtun_core.engine.simulated import SimulatedWorld
from rtun_core.engine.view_messages import MAX_ASKS, MAX_EVENTS, Ask, ViewRequest
from rtun_core.engine.viewer import INTERVAL, MAX_OWED, Viewer
from rtun_core.errors import RemoteProtocolError
from rtun_core.event import Stamped
from rtun_core.events import Notice
from rtun_core.view.history import History
from rtun_core.view.history_packed import PackedHistory, unpack_history
from rtun_core.view.page import Sort, ViewSpec

FLOWS = ViewSpec(table="flows", limit=5)
AGENTS = ViewSpec(table="agents")


class Stage:
    """A world that moves on by a second for each picture taken, and a viewer of it."""

    def __init__(self, flows=50):
        self.world = SimulatedWorld(flows=flows, start=1.7e9)
        self.history = History()
        self.ages = []
        self.viewer = Viewer(self.take, self.history.picture)
        self.now = 100.0

    def take(self, age):
        self.ages.append(age)
        self.world.advance(1.0)
        return self.world.picture()

    def say(self, **fields):
        self.viewer.take(ViewRequest(**fields))
        return self.told()

    def wait(self, seconds=INTERVAL):
        self.now += seconds
        return self.told()

    def told(self):
        return [
            (kind, value)
            for text in self.viewer.messages(self.now)
            for kind, value in json.loads(text).items()
        ]


@pytest.fixture
def stage():
    return Stage()


def kinds(told):
    return [kind for kind, _ in told]


def test_who_looks_at_nothing_gets_nothing(stage):
    assert stage.told() == stage.wait() == []
    assert stage.ages == []


def test_a_look_is_answered_at_once_and_then_at_each_beat(stage):
    [(kind, first)] = stage.say(look=(FLOWS, AGENTS), turn=1)
    assert kind == "picture"
    assert (first["turn"], first["held"], first["snapshot"]["flows"]) == (1, False, [])
    assert first["pages"]["flows"]["shown"] == 50
    assert len(first["pages"]["flows"]["rows"]) == 5
    assert set(first["pages"]) == {"flows", "agents"}
    assert stage.told() == stage.wait(INTERVAL / 2) == []
    [(_, second)] = stage.wait(INTERVAL / 2)
    assert second["snapshot"]["ts"] > first["snapshot"]["ts"]
    assert stage.ages == [INTERVAL / 2] * 2


def test_the_interval_is_the_viewers(stage):
    stage.say(look=(FLOWS,), interval=0.1)
    assert stage.wait(0.05) == []
    assert kinds(stage.wait(0.06)) == ["picture"]
    stage.say(interval=5.0)
    assert stage.wait(4.8) == []
    assert kinds(stage.wait(0.2)) == ["picture"]


def test_a_look_that_changes_between_two_pictures_is_answered_from_the_last(stage):
    [(_, first)] = stage.say(look=(FLOWS,), turn=1)
    [(_, again)] = stage.say(look=(msgspec.structs.replace(FLOWS, offset=5),), turn=2)
    assert again["snapshot"]["ts"] == first["snapshot"]["ts"]
    assert (again["turn"], again["pages"]["flows"]["first"]) == (2, 5)
    assert len(stage.ages) == 1


def test_a_look_that_is_repeated_is_no_news(stage):
    stage.say(look=(FLOWS,), turn=1)
    assert stage.say(look=(FLOWS,), turn=1) == []
    assert kinds(stage.say(look=(FLOWS,), turn=2)) == ["picture"]


def test_a_bad_filter_leaves_the_last_good_one_in_force(stage):
    stage.say(look=(msgspec.structs.replace(FLOWS, filter="tunnel=t5"), AGENTS), turn=1)
    bad = msgspec.structs.replace(FLOWS, filter="dn>", sort=(Sort("dn"),))
    told = stage.say(look=(bad, AGENTS), turn=2)
    assert kinds(told) == ["error", "picture"]
    assert (told[0][1]["table"], told[0][1]["column"]) == ("flows", 3)
    rows = told[1][1]["pages"]["flows"]["rows"]
    assert rows
    assert {row["tunnel"] for row in rows} == {"t5"}
    assert "agents" in told[1][1]["pages"]
    assert stage.say(look=(bad, AGENTS), turn=2) == []
    assert kinds(stage.wait()) == ["picture"]


@pytest.mark.parametrize("text", ["src~(a+)+$", "src~(1|11)*x"])
def test_a_pattern_that_may_take_for_ever_is_refused_before_it_runs(stage, text):
    told = stage.say(look=(msgspec.structs.replace(FLOWS, filter=text),), turn=1)
    assert kinds(told) == ["error", "picture"]
    assert "may take for ever" in told[0][1]["text"]


def test_a_bad_spec_from_the_start_gives_everything(stage):
    told = stage.say(look=(msgspec.structs.replace(FLOWS, sort=(Sort("beauty"),)),))
    assert kinds(told) == ["error", "picture"]
    assert told[0][1]["column"] is None
    assert told[1][1]["pages"]["flows"]["shown"] == 50
    assert kinds(stage.wait()) == ["picture"]


def test_hold(stage):
    [(_, first)] = stage.say(look=(FLOWS,), turn=1)
    [(_, held)] = stage.say(hold=True)
    assert held["held"]
    assert held["snapshot"]["ts"] == first["snapshot"]["ts"]
    assert stage.say(hold=True) == stage.wait() == stage.wait() == []
    [(_, scrolled)] = stage.say(look=(msgspec.structs.replace(FLOWS, offset=9),), turn=2)
    assert scrolled["snapshot"]["ts"] == first["snapshot"]["ts"]
    [(_, freed)] = stage.say(hold=False)
    assert not freed["held"]
    [(_, live)] = stage.wait()
    assert live["snapshot"]["ts"] > first["snapshot"]["ts"]


def test_hold_from_the_start(stage):
    [(_, held)] = stage.say(look=(FLOWS,), hold=True)
    assert held["held"]
    assert stage.wait() == []
    assert len(stage.ages) == 1


def test_history_comes_whole_then_by_sample(stage):
    for second in range(3):
        stage.history.observe(msgspec.structs.replace(stage.world.picture(), ts=float(second)))
    told = stage.say(look=(FLOWS,))
    assert kinds(told) == ["history", "picture"]
    assert (told[0][1]["count"], samples_of(told[0][1])) == (3, 3)
    assert kinds(stage.wait()) == ["picture"]
    stage.say(hold=True)
    stage.history.observe(msgspec.structs.replace(stage.world.picture(), ts=3.0))
    [(kind, samples)] = stage.wait()
    assert (kind, samples["count"], samples_of(samples)) == ("history", 4, 1)


def samples_of(history):
    return len(unpack_history(msgspec.convert(history, PackedHistory)).up)


def test_events_come_in_batches(stage):
    stage.viewer.tell(Stamped(seq, 0.0, 0.0, Notice(topic="t", message="m")) for seq in range(MAX_EVENTS + 3))
    assert stage.viewer.backlog == MAX_EVENTS + 3
    [(_, first)] = stage.told()
    [(_, second)] = stage.told()
    assert [event["seq"] for event in first + second] == list(range(MAX_EVENTS + 3))
    assert (len(second), stage.viewer.backlog, stage.told()) == (3, 0, [])


def test_a_page_on_its_own(stage):
    stage.say(look=(AGENTS,))
    wide = msgspec.structs.replace(FLOWS, limit=40)
    [(kind, answer), (_, failed)] = stage.say(
        ask=(Ask(7, wide), Ask(8, msgspec.structs.replace(FLOWS, filter="(")))
    )
    assert (kind, answer["number"], len(answer["pages"]["flows"]["rows"])) == ("answer", 7, 40)
    assert (failed["number"], failed["error"]["table"]) == (8, "flows")
    assert failed["error"]["column"] is not None


def test_a_page_of_what_is_held(stage):
    [(_, first)] = stage.say(look=(FLOWS,), hold=True)
    stage.wait(9.0)
    [(_, answer)] = stage.say(ask=(Ask(1, FLOWS),))
    assert answer["pages"]["flows"]["now"] == first["snapshot"]["ts"]


def test_pages_have_a_bound(stage):
    asks = tuple(Ask(number, FLOWS) for number in range(MAX_ASKS))
    for _ in range(MAX_OWED // MAX_ASKS):
        stage.viewer.take(ViewRequest(ask=asks))
    with pytest.raises(RemoteProtocolError, match="more than 16 pages"):
        stage.viewer.take(ViewRequest(ask=asks[:1]))


def test_changes_for_one_who_wants_them(stage):
    assert kinds(stage.say(look=(FLOWS,), turn=1, form="changes")) == ["picture"]
    [(kind, first)] = stage.wait()
    assert (kind, first["number"], first["turn"]) == ("change", 2, 1)
    assert kinds(stage.say(look=(FLOWS, AGENTS), turn=2)) == ["picture"]
    assert kinds(stage.wait()) == ["change"]
    assert kinds(stage.say(key=True)) == ["picture"]
    [(kind, last)] = stage.wait()
    assert (kind, last["number"]) == ("change", 6)


def test_a_hold_begins_and_ends_with_a_whole_picture(stage):
    stage.say(look=(FLOWS,), turn=1, form="changes")
    assert kinds(stage.wait()) == ["change"]
    assert kinds(stage.say(hold=True)) == ["picture"]
    assert kinds(stage.say(hold=False)) == ["picture"]


def test_packed_pictures_are_whole(stage):
    for [(kind, picture)] in (stage.say(look=(FLOWS,), form="packed"), stage.wait()):
        assert kind == "picture"
        assert picture["pages"]["flows"]["packed"]["count"] == 5
        assert "rows" not in picture["pages"]["flows"]
