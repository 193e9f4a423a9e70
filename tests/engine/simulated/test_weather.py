from random import Random

import pytest

from rtun_core.engine.simulated.weather import PathWeather


def play(weather, seconds, now=0.0):
    random, rtts = Random(1), []
    for second in range(seconds):
        weather.step(random, now + second)
        rtts.append(weather.rtt)
    return rtts


def test_it_wanders_about_the_usual():
    rtts = play(PathWeather(usual_rtt=0.020), 500)
    assert 0.014 <= min(rtts) < 0.0195
    assert 0.0205 < max(rtts) < 0.030
    assert sum(rtts) / 500 == pytest.approx(0.020, rel=0.05)


def test_trouble_grows_and_goes():
    weather = PathWeather(usual_rtt=0.020, usual_loss=0.001)
    weather.trouble(0.100, 0.05, ramp=10.0, until=30.0)
    rtts = play(weather, 60)
    assert rtts[4] == pytest.approx(0.070, rel=0.1)
    assert rtts[29] == pytest.approx(0.120, rel=0.1)
    assert rtts[-1] == pytest.approx(0.020, rel=0.2)
    assert weather.loss == pytest.approx(0.001)


def test_settling():
    weather = PathWeather(usual_rtt=0.020)
    weather.settle()
    assert (weather.rtt, weather.loss) == (0.020, 0.0)
    weather.trouble(0.080, 0.04, ramp=100.0, until=30.0)
    weather.settle()
    assert (weather.rtt, weather.loss) == (pytest.approx(0.100), 0.04)


def test_bursts_pass():
    weather = PathWeather(usual_rtt=0.020)
    weather.burst(0.03)
    play(weather, 1)
    assert 0.01 < weather.loss < 0.03
    play(weather, 20)
    assert weather.loss == 0.0
