"""A history in instalments: a remote viewer gets the whole of it once, then only the newest samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from rtun_core.view.history import SAMPLES, HistoryPicture, Series, TunnelHistory


def newest(picture: HistoryPicture, samples: int) -> HistoryPicture:
    """The same history with at most that many samples, the newest ones."""
    begin = max(0, len(picture.up) - max(0, samples))
    return _each(picture, lambda series: series[begin:])


def joined(old: HistoryPicture, tail: HistoryPicture) -> HistoryPicture:
    """The history that `tail` continues `old` to; `tail` alone where there is a gap between the two.

    Tunnels are those of `tail`: one that `old` has no samples of did not exist then.
    """
    new = tail.count - old.count
    if not 0 <= new <= len(tail.up):
        return tail
    unknown = np.full(len(old.up), np.nan, np.float32)

    def join(before: Series, after: Series) -> Series:
        series = np.concatenate((before, after[len(after) - new :]))[-SAMPLES:]
        series.flags.writeable = False
        return series

    def join_tunnel(before: TunnelHistory | None, after: TunnelHistory) -> TunnelHistory:
        return TunnelHistory(
            rtt=join(before.rtt if before else unknown, after.rtt),
            loss=join(before.loss if before else unknown, after.loss),
            up=join(before.up if before else unknown, after.up),
            down=join(before.down if before else unknown, after.down),
        )

    return replace(
        tail,
        up=join(old.up, tail.up),
        down=join(old.down, tail.down),
        drops=join(old.drops, tail.drops),
        packets=join(old.packets, tail.packets),
        tunnels={name: join_tunnel(old.tunnels.get(name), each) for name, each in tail.tunnels.items()},
    )


def _each(picture: HistoryPicture, change: Callable[[Series], Series]) -> HistoryPicture:
    tunnels = {
        name: TunnelHistory(*map(change, (each.rtt, each.loss, each.up, each.down)))
        for name, each in picture.tunnels.items()
    }
    up, down, drops, packets = map(change, (picture.up, picture.down, picture.drops, picture.packets))
    return replace(picture, up=up, down=down, drops=drops, packets=packets, tunnels=tunnels)
