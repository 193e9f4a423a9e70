from collections import Counter

import numpy as np
import pytest

from rtun_core.engine.simulated.sources import IPV6_SHARE, draw_sources, source_text
from rtun_core.flow_rows import pack_source


def test_where_flows_come_from():
    rows = draw_sources(np.random.default_rng(1), 3000, hosts=500)
    texts = [source_text(row) for row in rows]
    six = [text for text in texts if text.startswith("[2001:db8:10::")]
    assert len(six) == pytest.approx(3000 * IPV6_SHARE, rel=0.3)
    assert all(text.startswith("10.0.") for text in texts if text not in six)
    hosts = Counter(text.rpartition(":")[0] for text in texts)
    assert 300 < len(hosts) <= 1000
    assert hosts.most_common(1)[0][1] > 50
    assert all(1024 <= int(text.rpartition(":")[2]) <= 65535 for text in texts)
    assert [pack_source(text) for text in texts] == [row.tobytes() for row in rows]


def test_many_hosts_stay_in_their_network():
    rows = draw_sources(np.random.default_rng(1), 20_000, hosts=1_000_000)
    assert rows[:, 15].min() >= 2
    four = rows[rows[:, 0] == 0]
    assert (four[:, 12] == 10).all()
    assert (four[:, 13] == 0).all()
