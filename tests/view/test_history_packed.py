import msgspec
import numpy as np
import pytest

from rtun_core.errors import RemoteProtocolError
from rtun_core.view.history import MAX_TUNNELS, SAMPLES, History, HistoryPicture, TunnelHistory
from rtun_core.view.history_packed import PackedHistory, pack_history, unpack_history


def picture(samples, tunnels):
    dice = np.random.default_rng(7)

    def series():
        values = (dice.random(samples) * 1e9).astype(np.float32)
        values[dice.random(samples) < 0.2] = np.nan
        return values

    return HistoryPicture(
        step=1.0,
        end=1.7e9,
        count=samples + 5,
        up=series(),
        down=series(),
        drops=series(),
        packets=series(),
        tunnels={
            f"t{number}": TunnelHistory(series(), series(), series(), series()) for number in range(tunnels)
        },
    )


def rows(history):
    yield from (history.up, history.down, history.drops, history.packets)
    for each in history.tunnels.values():
        yield from (each.rtt, each.loss, each.up, each.down)


@pytest.mark.parametrize(
    ("samples", "tunnels"), [(0, 0), (0, 2), (1, 0), (1, 3), (SAMPLES, 2), (7, MAX_TUNNELS)]
)
def test_round_trip_through_json(samples, tunnels):
    before = picture(samples, tunnels)
    data = msgspec.json.encode(pack_history(before))
    after = unpack_history(msgspec.json.decode(data, type=PackedHistory))
    assert (after.step, after.end, after.count) == (before.step, before.end, before.count)
    assert list(after.tunnels) == list(before.tunnels)
    for mine, theirs in zip(rows(after), rows(before), strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == np.float32
        assert not mine.flags.writeable


def test_of_a_history_without_samples():
    assert unpack_history(pack_history(History().picture())).count == 0


def packed(data, tunnels=()):
    return PackedHistory(step=1.0, end=0.0, count=1, tunnels=tunnels, data=data)


@pytest.mark.parametrize(
    "block",
    [
        packed(b"x"),
        packed(bytes(20)),
        packed(bytes(16), ("t1",)),
        packed(bytes(16 * (SAMPLES + 1))),
        packed(np.array([1, 2, np.inf, 4], "<f4").tobytes()),
        packed(np.array([1, 2, -1, 4], "<f4").tobytes()),
    ],
)
def test_blocks_that_are_none(block):
    with pytest.raises(RemoteProtocolError) as caught:
        unpack_history(block)
    assert caught.value.reason == "history"


@pytest.mark.parametrize(
    "fields",
    [
        {"step": 0},
        {"end": -1},
        {"count": -1},
        {"tunnels": [""]},
        {"tunnels": ["t"] * (MAX_TUNNELS + 1)},
        {"data": "not base64!"},
        {"data": 5},
    ],
)
def test_bounds_of_the_fields(fields):
    good = {"step": 1, "end": 0, "count": 1, "tunnels": [], "data": ""}
    assert msgspec.convert(good, PackedHistory)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(good | fields, PackedHistory)
