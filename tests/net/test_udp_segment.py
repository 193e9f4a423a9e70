"""Runs of equal datagrams: found right, sent as if one by one, and given up where they are refused."""

import errno
import socket

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.net import udp_mmsg
from rtun_core.net.udp_batch import BATCH, HEADROOM, UdpStats
from rtun_core.net.udp_segment import MAX_BYTES, MAX_SEGMENTS, find_runs
from rtun_core.net.udp_send import Rows, send_rows

pytestmark = pytest.mark.skipif(not udp_mmsg.available(), reason="sendmmsg is Linux's")


def name(port):
    raw = np.zeros(28, np.uint8)
    raw[:4] = (2, 0, port >> 8, port & 255)
    return raw


@given(
    st.lists(st.tuples(st.sampled_from([1, 700, 1210, 9000]), st.integers(1, 3)), min_size=1, max_size=BATCH),
    st.booleans(),
)
def test_runs_cover_all_datagrams_in_order_and_are_uniform(datagrams, named):
    lengths = np.array([length for length, _ in datagrams])
    names = np.array([name(port) for _, port in datagrams]) if named else None
    runs = find_runs(lengths, names)
    if runs is None:
        return
    assert [start for start, _ in zip(runs.starts, runs.counts, strict=True)] == [0, *runs.ends[:-1]]
    assert runs.ends[-1] == len(datagrams)
    for start, count in zip(runs.starts, runs.counts, strict=True):
        run = datagrams[start : start + count]
        assert len({length for length, _ in run}) == 1
        assert not named or len({port for _, port in run}) == 1
        assert count <= MAX_SEGMENTS
        assert count * run[0][0] <= MAX_BYTES or count == 1


def test_datagrams_that_all_differ_are_not_worth_it():
    assert find_runs(np.arange(1, 11), None) is None
    assert find_runs(np.full(10, 5), np.array([name(port) for port in range(10)])) is None


@pytest.fixture
def pair():
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    receiver.settimeout(5)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect(receiver.getsockname())
    sender.setblocking(False)
    yield sender, receiver
    sender.close()
    receiver.close()


def load_rows(io, sizes):
    for row, size in enumerate(sizes):
        io.batch.data[row, HEADROOM : HEADROOM + size] = (row * 7 + np.arange(size)) % 251
    rows = np.arange(len(sizes))
    return Rows(io.batch.data, rows, np.full(len(sizes), HEADROOM), np.array(sizes), None)


def expected(sizes):
    return [((row * 7 + np.arange(size)) % 251).astype(np.uint8).tobytes() for row, size in enumerate(sizes)]


@pytest.mark.parametrize(
    "sizes",
    [[1200] * 64, [1200] * 63 + [3], [5] * 20 + [1400] * 30 + [5], [100, 100, 0, 0, 0, 100, 100, 100]],
)
def test_the_peer_gets_every_datagram_as_it_was(pair, sizes):
    sender, receiver = pair
    io, stats = udp_mmsg.MmsgIO(), UdpStats()
    assert send_rows(io, sender, load_rows(io, sizes), stats, pytest.fail) == (len(sizes), len(sizes))
    assert [receiver.recv(4096) for _ in sizes] == expected(sizes)
    assert (stats.tx_packets, stats.tx_bytes, stats.segments) == (len(sizes), sum(sizes), True)


@pytest.mark.parametrize(
    ("number", "goes_on"), [(errno.EIO, False), (errno.EINVAL, False), (errno.EMSGSIZE, True)]
)
def test_where_segments_are_refused_datagrams_go_singly(pair, monkeypatch, number, goes_on):
    sender, receiver = pair
    io, stats = udp_mmsg.MmsgIO(), UdpStats()
    real, calls = io.sender._sendmmsg, []

    def refuse_segments(fd, address, count, flags):
        calls.append(count)
        if len(calls) == 1:
            import ctypes

            ctypes.set_errno(number)
            return -1
        return real(fd, address, count, flags)

    monkeypatch.setattr(io.sender, "_sendmmsg", refuse_segments)
    sizes = [900] * 16
    assert send_rows(io, sender, load_rows(io, sizes), stats, pytest.fail) == (16, 16)
    assert [receiver.recv(4096) for _ in sizes] == expected(sizes)
    assert calls == [1, 16]
    assert stats.segments is goes_on


def test_a_full_buffer_in_the_middle_of_runs_loses_nothing(pair):
    sender, receiver = pair
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    io, stats = udp_mmsg.MmsgIO(), UdpStats()
    sizes = [1200] * 64
    sent, done = send_rows(io, sender, load_rows(io, sizes), stats, pytest.fail)
    assert sent == done
    assert [receiver.recv(4096) for _ in range(sent)] == expected(sizes)[:sent]
