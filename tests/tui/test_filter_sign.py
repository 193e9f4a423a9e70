"""A filter that takes long says so, and only then. Time is an argument here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rtun_tui.filter_sign import PENDING, SLOW, FilterSign
from rtun_tui.still import StillSource
from tests.tui.conftest import make_app, running, world


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sign(clock):
    sign = FilterSign(clock)
    sign.look({"flows": "", "agents": ""}, waiting=False, costs={})
    return sign


def look(sign, text, *, waiting=False, cost=0.0, agents=""):
    return sign.look({"flows": text, "agents": agents}, waiting=waiting, costs={"flows": cost})


def test_what_is_answered_at_once_says_nothing(sign, clock):
    assert look(sign, "dn>1") == {}
    assert not sign.due
    clock.now = 100.0
    assert look(sign, "dn>2", cost=SLOW * 0.99) == {}


def test_what_is_not_answered_says_so_after_a_while_and_until_it_is(sign, clock):
    assert look(sign, "dn>1", waiting=True) == {}
    assert sign.due
    clock.now = SLOW * 0.9
    assert look(sign, "dn>1", waiting=True) == {}
    assert sign.due
    clock.now = SLOW
    assert look(sign, "dn>1", waiting=True) == {"flows": PENDING}
    assert not sign.due
    clock.now = 9.0
    assert look(sign, "dn>1", waiting=True) == {"flows": PENDING}
    assert look(sign, "dn>1") == {}
    assert look(sign, "dn>1", waiting=True) == {}  # it is another look that is waited for
    assert not sign.due


def test_a_filter_that_is_taken_back_is_waited_for_no_more(sign, clock):
    look(sign, "dn>1", waiting=True)
    clock.now = 1.0
    assert look(sign, "", waiting=True) == {}
    clock.now = 2.0
    assert look(sign, "dn>1", waiting=True) == {}


def test_only_the_table_that_is_filtered_says_so(sign, clock):
    look(sign, "", waiting=True, agents="beta")
    clock.now = SLOW
    assert look(sign, "", waiting=True, agents="beta") == {"agents": PENDING}


def test_what_is_slow_here_says_how_slow(sign):
    assert look(sign, "src~x", cost=0.0804) == {"flows": "80 ms"}
    assert look(sign, "src~x", cost=0.01) == {}
    assert look(sign, "", cost=0.5) == {}


# -- in the console --------------------------------------------------------------------------------


class Elsewhere(StillSource):
    """Answers a changed look only when it is let."""

    def __init__(self, world):
        super().__init__(world, past=5)
        self.answers = True
        self._specs = ()

    @property
    def waiting(self):
        return not self.answers

    def look(self, specs):
        if self.answers:
            self._specs = specs
        return super().look(self._specs)


async def test_the_title_says_that_rows_are_still_those_of_the_filter_before(clock):
    source = Elsewhere(world())
    app = make_app(source)
    app.filter_sign = FilterSign(clock)
    async with running(app) as c:
        source.answers = False
        await c.line("filter state=waiting")
        assert "filter: state=waiting" in c.text
        assert PENDING not in c.text
        clock.now = SLOW
        await c.until(lambda: f"filter ({PENDING}): state=waiting" in c.text)  # a look comes by itself
        app.overview.prompt.forget()
        await c.settle()
        assert c.said == f"/ state=waiting  ({PENDING})"
        source.answers = True
        await c.pass_time(0)
        assert PENDING not in c.text
        assert c.said == "/ state=waiting"


async def test_the_title_says_how_long_each_look_takes(console, monkeypatch):
    async with console() as c:
        costs = {"flows": 0.08, "agents": 0.09}
        whole = c.source.look
        monkeypatch.setattr(c.source, "look", lambda specs: replace(whole(specs), costs=costs))
        await c.pass_time(0)
        assert " ms)" not in c.text
        await c.line("filter dn>1k")
        assert "filter (80 ms): dn>1k" in c.text
        assert "90 ms" not in c.text
        costs["flows"] = 0.01
        await c.pass_time(0)
        assert "filter: dn>1k" in c.text
