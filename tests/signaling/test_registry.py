"""The registry: one agent per name, the last one wins, texts as on the wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.errors import CommandRefused
from rtun_core.signaling.registry import GRACE_MS, MAX_NAME, Registry, expire_at
from rtun_core.wire.signal_json import NEVER, AgentEntry


def add(registry, name, *, instance="AAAAAAAA", expires=NEVER, session=None):
    return registry.register(
        name=name,
        instance=instance,
        address="192.0.2.1:4000",
        expire_at=expires,
        ver="0.1.0.py",
        session=session,
    )


def test_an_agent_is_found_by_name_and_instance():
    registry = Registry(10)
    record, replaced = add(registry, "beta")
    assert replaced is None
    assert registry.find("beta", None) is record
    assert registry.find("beta", "AAAAAAAA") is record


def test_a_missing_agent_and_another_instance_have_the_texts_of_the_wire():
    registry = Registry(10)
    add(registry, "beta")
    with pytest.raises(CommandRefused, match=r"^not found agent \[gamma\]$"):
        registry.find("gamma", None)
    with pytest.raises(
        CommandRefused, match=r"^instance mismatch for agent \[beta\], want \[B\], actual \[AAAAAAAA\]$"
    ):
        registry.find("beta", "B")


def test_a_replaced_agent_does_not_remove_its_successor():
    registry = Registry(10)
    first, _ = add(registry, "beta", session="first")
    second, replaced = add(registry, "beta", instance="BBBBBBBB", session="second")
    assert replaced is first
    assert second.uid > first.uid
    assert not registry.remove(first)
    assert registry.find("beta", None) is second
    assert registry.remove(second)
    assert not registry.remove(second)
    assert len(registry) == 0


def test_expired_agents_are_purged_after_the_grace():
    registry = Registry(10)
    add(registry, "stays")
    short, _ = add(registry, "short", expires=1_000)
    assert registry.purge(1_000 + GRACE_MS - 1) == []
    assert registry.purge(1_000 + GRACE_MS) == [short]
    assert [record.name for record in registry] == ["stays"]


def test_the_number_of_agents_is_bounded_but_replacing_is_not():
    registry = Registry(1)
    add(registry, "beta")
    add(registry, "beta")
    with pytest.raises(CommandRefused, match="too many agents"):
        add(registry, "gamma")


@pytest.mark.parametrize("name", ["", "x" * (MAX_NAME + 1), "two\nlines", "nul\0"])
def test_bad_names_are_refused(name):
    with pytest.raises(CommandRefused, match="bad agent name"):
        add(Registry(1), name)


def test_entries_are_what_clients_see():
    registry = Registry(10)
    add(registry, "beta", expires=123)
    assert registry.entries() == [AgentEntry("beta", "192.0.2.1:4000", 123, "AAAAAAAA", "0.1.0.py")]


def test_the_session_is_not_shown():
    record, _ = add(Registry(1), "beta", session="the session")
    assert "the session" not in repr(record)


def test_expiry_saturates():
    assert expire_at(1_000, None) == NEVER
    assert expire_at(1_000, 500) == 1_500
    assert expire_at(1_000, NEVER) == NEVER


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30))
def test_the_newest_record_of_a_name_is_the_one_in_force(steps):
    registry = Registry(10)
    model = {}
    history = []
    for name, adding in steps:
        if adding or not history:
            record, replaced = add(registry, name)
            assert replaced is model.get(name)
            model[name] = record
            history.append(record)
        else:
            victim = history.pop(0)
            assert registry.remove(victim) == (model.get(victim.name) is victim)
            if model.get(victim.name) is victim:
                del model[victim.name]
    assert {record.name: record for record in registry} == model
