from rtun_core.engine.simulated.opening import _split


def test_splitting_loses_nothing():
    assert _split(10, [0.5, 0.3, 0.2]) == [5, 3, 2]
    assert sum(_split(1283, [0.38, 0.28, 0.22, 0.12])) == 1283
    assert _split(0, [1.0, 2.0]) == [0, 0]


def test_tunnels_have_their_names(make_world):
    names = [tunnel.id for tunnel in make_world(tunnels=7, rules=3).picture().tunnels]
    assert names == ["t5", "t6", "t4", "t3", "t8", "t9", "t7", "t1", "t2"]


def test_it_has_been_running_for_long(world):
    picture = world.picture()
    assert picture.uptime_s == 11_520.0
    assert picture.traffic.down_bytes > 1e9
    assert max(flow.down_bytes for flow in picture.flows) > 1e7
    assert all(flow.opened_at < world.now for flow in picture.flows)


def test_few_tunnels_make_a_short_story(make_world):
    world = make_world(tunnels=2)
    assert [tunnel.state.value for tunnel in world.picture().tunnels] == ["up"] * 6
