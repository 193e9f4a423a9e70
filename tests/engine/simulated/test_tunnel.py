import pytest

from rtun_core.engine.simulated.tunnel import Phase, Tunnel
from rtun_core.engine.simulated.weather import PathWeather
from rtun_core.model import Rates, Traffic
from rtun_core.relay.health import Grade


def tunnel(**changes):
    fields = {
        "id": "t5",
        "slot": 1,
        "rule": "r1",
        "agent": "beta/7f3c",
        "source": "scale-up",
        "opened_at": 100.0,
        "local": "192.168.1.20:40005",
        "remote": "203.0.113.9:41822",
        "weather": PathWeather(usual_rtt=0.020, usual_loss=0.01),
    }
    return Tunnel(**(fields | changes))


def view(one):
    return one.view(103.0, flows=7, expires_at=900.0, traffic=Traffic(1, 2, 3, 4), rates=Rates(5.0))


def test_while_it_opens_nothing_is_known():
    opening = tunnel()
    row = view(opening)
    assert (row.state.value, row.remote, row.codec, row.rtt_ms, row.loss_up) == (
        "opening",
        "",
        "",
        None,
        None,
    )
    assert not opening.usable
    assert not opening.draining


def test_a_row():
    one = tunnel(phase=Phase.ACTIVE, preferred=True)
    one.measure(102.0, packet_rate=100.0)
    row = view(one)
    assert (row.state.value, row.kind, row.codec, row.flows) == ("up", "p2p", "obfs-v2", 7)
    assert row.rtt_ms == pytest.approx(20.0)
    assert (row.loss_up, row.loss_down) == (pytest.approx(0.008), pytest.approx(0.01))
    assert (row.quiet_s, row.expires_at, row.preferred) == (1.0, 900.0, True)
    assert (row.traffic, row.rates) == (Traffic(1, 2, 3, 4), Rates(5.0))
    assert one.load().rate == pytest.approx(30.0)


@pytest.mark.parametrize(
    ("phase", "grade", "word"),
    [
        (Phase.ACTIVE, Grade.DEGRADED, "degraded"),
        (Phase.DRAINING, Grade.GOOD, "draining"),
        (Phase.RETIRING, Grade.DEGRADED, "draining"),
    ],
)
def test_words(phase, grade, word):
    one = tunnel(phase=phase)
    one.health.grade = grade
    assert one.state().value == word
    assert one.draining == (word == "draining")
    assert one.usable == (phase is not Phase.RETIRING)


def test_measuring_smooths_unless_asked():
    one = tunnel(phase=Phase.ACTIVE)
    one.measure(101.0, packet_rate=0.0)
    one.weather.trouble(0.080, 0.05, ramp=1.0, until=200.0)
    one.weather.settle()
    one.measure(102.0, packet_rate=0.0)
    assert 0.03 < one.health.rtt < 0.05
    one.measure_exactly()
    assert (one.health.rtt, one.health.loss_down) == (pytest.approx(0.1), pytest.approx(0.06))
