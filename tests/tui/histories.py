"""Histories to draw."""

from __future__ import annotations

import numpy as np

from rtun_core.view.history import HistoryPicture


def history(count=300, up=5e6, down=25e6, **tunnels):
    """Waves that reach `up` and `down` bytes per second."""
    known = min(count, 300)
    shape = np.sin(np.arange(known) / 20) ** 2
    return HistoryPicture(
        step=1.0,
        end=1e9,
        up=(shape * up).astype(np.float32),
        down=(shape * down).astype(np.float32),
        drops=np.zeros(known, np.float32),
        tunnels=tunnels,
        count=count,
    )
