"""The few flows that matter most, of very many."""

from __future__ import annotations

from collections.abc import Sequence

from rtun_core.flow_rows import FlowRows
from rtun_core.model import FlowView
from rtun_core.view.project import as_flow_rows
from rtun_core.view.row_order import window


def biggest(flows: Sequence[FlowView], count: int) -> FlowRows:
    """The flows that carry most right now, busiest first; those that rest stand by all they carried.

    Raises ValueError for rows in a foreign form.
    """
    rows = as_flow_rows(flows)
    keys = (-(rows.up_rate + rows.down_rate), -(rows.up_bytes + rows.down_bytes), rows.ids)
    return rows.take(window(keys, 0, min(count, len(rows))))
