from rtun_core.engine.simulated.scene import Scene
from rtun_core.engine.simulated.scenery import SORTS
from rtun_core.events import Notice


def scene():
    return Scene(seed=1, now=100.0, sorts=SORTS)


def test_what_is_due_happens_in_order():
    world, done = scene(), []
    world.later(0.5, lambda: done.append("late"))
    world.later(0.2, lambda: done.append("first"))
    world.later(0.2, lambda: done.append("second"))
    world.later(0.2, lambda: world.later(0.0, lambda: done.append("at once")))
    world.advance(0.25)
    assert (done, world.now) == (["first", "second", "at once"], 100.25)
    world.advance(0.25)
    assert done[-1] == "late"


def test_events_are_taken_once():
    world, event = scene(), Notice(topic="test", message="hello")
    world.emit(event)
    assert world.take_events() == [event]
    assert world.take_events() == []


def test_names_and_slots_of_tunnels():
    world = scene()
    assert world.next_tunnel() == "t1"
    world.name_tunnels([3, 9, 4])
    assert [world.next_tunnel() for _ in range(5)] == ["t3", "t9", "t4", "t10", "t11"]
    assert [world.take_slot("t3"), world.take_slot("t9")] == [1, 2]
    world.give_back(1)
    assert world.take_slot("t4") == 1
    assert world.slots == [None, "t4", "t9"]
