import numpy as np

from rtun_core.engine.simulated.ledger import Carried, Ledger
from rtun_core.engine.simulated.scenery import SORTS
from rtun_core.model import Rates, Traffic

SORT = SORTS[0]._replace(size_up=100.0, size_down=1000.0)


def test_rates_become_totals():
    ledger = Ledger()
    ledger.carry(np.array([[0.0, 400.0], [0.0, 8000.0]]), 0.25)
    ledger.carry(np.array([[0.0, 800.0], [0.0, 4000.0]]), 0.25)
    assert ledger.rate(1) == Carried(800.0, 4000.0)
    assert ledger.total(1) == Carried(300.0, 3000.0)
    assert ledger.total(0) == ledger.total(9) == Carried()
    ledger.add(1, Carried(1.0, 2.0))
    assert ledger.clear(1) == Carried(301.0, 3002.0)
    assert ledger.total(1) == ledger.rate(1) == Carried()


def test_room_for_more():
    ledger = Ledger()
    ledger.add(3, Carried(5.0, 6.0))
    ledger.reserve(100)
    assert ledger.total(3) == Carried(5.0, 6.0)
    assert ledger.rate(99) == Carried()


def test_in_packets():
    carried = Carried.total([Carried(100.0, 1500.0), Carried(150.0, 1000.0)])
    assert carried.traffic(SORT) == Traffic(2, 250, 2, 2500)
    assert carried.rates(SORT) == Rates(2.5, 250.0, 2.5, 2500.0)
    assert Carried.total([]) == Carried()
