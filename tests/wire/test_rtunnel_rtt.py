from rtun_core.wire.rtunnel_rtt import RttEstimator

MS = 1_000_000


def test_the_original_s_estimates() -> None:
    """The RTO row of the vectors: samples, then srtt, rttvar and rto in ns."""
    estimator = RttEstimator()
    for sample, expected in [
        (40 * MS, (92_500_000, 52_500_000, 302_500_000)),
        (40 * MS, (85_937_500, 52_500_000, 295_937_500)),
        (500 * MS, (137_695_312, 142_890_625, 709_257_812)),
        (1 * MS, (120_608_398, 141_341_796, 685_975_582)),
        (30_000 * MS, (3_855_532_348, 7_575_854_247, 34_158_949_336)),
        (-5 * MS, (3_372_965_804, 6_647_023_772, 29_961_060_892)),
    ]:
        estimator.sample(sample)
        assert (estimator.srtt_ns, estimator.rttvar_ns, estimator.rto_ns) == expected


def test_the_timeout_has_a_floor_and_a_ceiling() -> None:
    estimator = RttEstimator()
    for _ in range(20):
        estimator.sample(2 * MS)
    assert estimator.rto_ns == 200 * MS
    estimator.sample(10**15)
    assert estimator.rto_ns == 60_000 * MS


def test_a_mean_of_zero_starts_again() -> None:
    estimator = RttEstimator()
    estimator.srtt_ns = 0
    estimator.sample(7)
    assert (estimator.srtt_ns, estimator.rttvar_ns, estimator.rto_ns) == (7, 3, 19)
