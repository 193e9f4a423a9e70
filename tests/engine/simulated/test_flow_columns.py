import numpy as np
import pytest

from rtun_core.engine.simulated.flow_columns import TURN, WAKE_BY, FlowColumns
from rtun_core.engine.simulated.scenery import MEAN_DOWN, SORTS

NOW = 1000.0


def columns(number=200, *, seed=1):
    flows = FlowColumns(np.random.default_rng(seed), SORTS, first_id=0xFFFFFFF0)
    rules = np.arange(number, dtype=np.int32) % len(SORTS)
    flows.calibrate(rules)
    flows.open(rules, 1 + rules.astype(np.intp) % 2, NOW)
    return flows


def test_flows_open_and_close():
    flows = columns(200)
    assert len(flows) == 200
    assert flows.ids[:2].tolist() == [0xFFFFFFF0, 0xFFFFFFF1]
    assert len(np.unique(flows.ids)) == 200
    ids = flows.ids.copy()
    gone = np.array([0, 5, 198, 199, 5])
    flows.close(gone)
    assert len(flows) == 196
    assert set(flows.ids.tolist()) == set(ids.tolist()) - set(ids[gone].tolist())
    flows.close(np.arange(196))
    assert len(flows) == 0
    assert flows.step(NOW, 0.25, np.ones(3)).tolist() == [[0.0] * 3, [0.0] * 3]


def test_the_version_changes_with_the_set_of_flows():
    flows = columns(20)
    before, static = flows.version, flows.static()
    flows.step(NOW, 0.25, np.ones(3))
    assert flows.version == before
    flows.close(np.array([0]))
    assert flows.version != before
    assert len(static.ids) == 20


def test_a_step_carries_and_adds_up():
    flows = columns()
    sums = flows.step(NOW + 0.25, 0.25, np.array([0.0, 1.0, 0.5]))
    assert flows.down_bytes.sum() == pytest.approx(0.25 * sums[1].sum())
    assert sums[:, 0].tolist() == [0.0, 0.0]
    assert sums[1, 1] == pytest.approx(flows.down_rate[flows.slot == 1].sum())
    assert (flows.down_rate[flows.slot == 2] <= flows.level[flows.slot == 2]).all()
    flows.move(flows.on_slot(1), 0, NOW)
    assert not flows.step(NOW + 0.5, 0.25, np.array([0.0, 1.0, 1.0]))[1, 1]
    assert (flows.moves == (flows.slot == 0)).all()


def test_the_mean_rate_is_as_intended():
    flows = columns(20_000)
    flows.give_a_past(NOW)
    total = [flows.step(NOW + step / 4, 0.25, np.ones(3))[1].sum() for step in range(1, 81)]
    assert np.mean(total) / 20_000 == pytest.approx(MEAN_DOWN, rel=0.35)


def test_silence_ends_unless_the_flow_does():
    flows = columns(100)
    flows.level[:] = 0.0
    flows.last_active[:] = NOW - WAKE_BY - 1.0
    flows.ending[:50] = True
    for _ in range(TURN):
        flows.step(NOW, 0.25, np.ones(3))
    assert not flows.level[:50].any()
    assert (flows.level[50:] > 0).all()
    assert (flows.last_active[:50] < NOW).all()
    assert flows.idle(NOW - WAKE_BY).tolist()[:50] == list(range(50))


def test_a_past():
    flows = columns(500)
    flows.give_a_past(NOW)
    assert (flows.opened_at <= flows.last_active).all()
    assert (flows.last_active <= NOW).all()
    assert (np.diff(flows.opened_at) >= 0).all()
    assert (flows.down_bytes > 0).all()
    assert ((flows.level == 0) | (flows.last_active == NOW)).all()


def test_finding_and_counting():
    flows = columns(12)
    assert flows.loads(4) == [0, 6, 6, 0]
    assert flows.by_rule(len(SORTS)) == [2] * 6
    assert flows.on_slot(1, 0).tolist() == [0, 6]
    assert flows.rows_of(np.array([0xFFFFFFF1, 7], np.uint64)).tolist() == [1]
    assert flows.spoken_up(0) > 0
    flows.end_some(5)
    assert 1 <= flows.ending.sum() <= 5


def test_no_flows():
    flows = columns(0)
    flows.give_a_past(NOW)
    flows.end_some(3)
    assert flows.loads(2) == [0, 0]
    assert flows.static().sources.shape == (0, 18)
