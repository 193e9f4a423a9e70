"""Runs of equal datagrams: found right, sent as if one by one, and given up where they are refused."""

import contextlib
import errno
import socket

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtun_core.net import udp_mmsg
from rtun_core.net.sockaddr import pack_sockaddr
from rtun_core.net.udp_batch import BATCH, HEADROOM, STRIDE, Spans, UdpStats
from rtun_core.net.udp_segment import MAX_BYTES, MAX_SEGMENTS, find_runs
from rtun_core.net.udp_send import Outgoing, send_spans
from rtun_core.wire.address import Address

pytestmark = pytest.mark.skipif(not udp_mmsg.available(), reason="sendmmsg is Linux's")


SIZES = st.sampled_from([0, 1, 700, 1210, 9000, 65507])


@given(
    st.lists(st.tuples(SIZES, st.integers(1, 3)), min_size=1, max_size=BATCH)
    | st.lists(st.tuples(st.sampled_from([700, 1210]), st.just(1)), min_size=1, max_size=BATCH),
    st.booleans(),
)
def test_runs_cover_all_datagrams_in_order_and_are_uniform(datagrams, named):
    sizes = [size for size, _ in datagrams]
    runs = find_runs(sizes, [peer for _, peer in datagrams] if named else None)
    if runs is None:
        return
    assert runs.starts == [0, *runs.ends[:-1]]
    assert runs.ends[-1] == len(datagrams)
    assert runs.at == {start: index for index, start in enumerate(runs.starts)}
    for start, end, count, size in zip(runs.starts, runs.ends, runs.counts, runs.sizes, strict=True):
        assert count == end - start > 0
        assert set(sizes[start : end - 1]) <= {size}
        assert sizes[end - 1] == size or 0 < sizes[end - 1] < size
        assert not named or len({peer for _, peer in datagrams[start:end]}) == 1
        assert count <= MAX_SEGMENTS
        assert sum(sizes[start:end]) <= MAX_BYTES or count == 1
        assert count == 1 or size


@given(st.lists(st.tuples(SIZES, st.integers(1, 2)), min_size=1, max_size=BATCH))
def test_no_two_runs_could_be_one(datagrams):
    sizes, peers = ([pair[part] for pair in datagrams] for part in range(2))
    runs = find_runs(sizes, peers)
    for index in range(1, len(runs) if runs else 0):
        before, first = runs.starts[index - 1], runs.starts[index]
        full = runs.counts[index - 1] == max(1, min(MAX_SEGMENTS, MAX_BYTES // (sizes[before] or MAX_BYTES)))
        ended = sizes[first - 1] < sizes[before] or sizes[before] == 0
        larger = sizes[first] > sizes[before] or sizes[first] == 0
        assert full or ended or larger or peers[first] != peers[before]


def test_a_run_ends_behind_a_shorter_datagram():
    runs = find_runs([9, 9, 5, 5, 9, 9, 9, 2, 2, 3], None)
    assert runs.starts == [0, 3, 4, 8, 9]
    assert runs.sizes == [9, 5, 9, 2, 3]


def test_datagrams_that_all_differ_are_not_worth_it():
    assert find_runs(list(range(1, 11)), None) is None
    assert find_runs([5] * 10, list(range(10))) is None
    assert find_runs([5] * 10, [1, 2] * 5) is None
    assert find_runs([5] * 10, [1] * 5 + [2] * 5).starts == [0, 5]


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


def load(io, sizes):
    starts = np.arange(len(sizes)) * STRIDE + HEADROOM
    for start, payload in zip(starts.tolist(), expected(sizes), strict=True):
        io.batch.data[start : start + len(payload)] = np.frombuffer(payload, np.uint8)
    return Outgoing(Spans(io.batch.data, starts, np.array(sizes)))


def expected(sizes):
    return [((row * 7 + np.arange(size)) % 251).astype(np.uint8).tobytes() for row, size in enumerate(sizes)]


@pytest.mark.parametrize(
    "sizes",
    [
        [1200] * 64,
        [1200] * 63 + [3],
        [300] * BATCH,
        [1200, 700] * 40,
        [5] * 20 + [1400] * 30 + [5],
        [900] * 10 + [1] * 10 + [900] * 10 + [899, 898],
        [100, 100, 0, 0, 0, 100, 100, 100],
        [0] * 10,
    ],
)
def test_the_peer_gets_every_datagram_as_it_was(pair, sizes):
    sender, receiver = pair
    io, stats = udp_mmsg.MmsgIO(), UdpStats()
    assert send_spans(io, sender, load(io, sizes), stats, pytest.fail) == (len(sizes), len(sizes))
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
    assert send_spans(io, sender, load(io, sizes), stats, pytest.fail) == (16, 16)
    assert [receiver.recv(4096) for _ in sizes] == expected(sizes)
    assert calls == [1, 16]
    assert stats.segments is goes_on


def test_a_full_buffer_in_the_middle_of_runs_loses_nothing(pair):
    sender, receiver = pair
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    io, stats = udp_mmsg.MmsgIO(), UdpStats()
    sizes = [1200] * 64
    sent, done = send_spans(io, sender, load(io, sizes), stats, pytest.fail)
    assert sent == done
    assert [receiver.recv(4096) for _ in range(sent)] == expected(sizes)[:sent]


RUN = st.tuples(st.sampled_from([0, 1, 699, 700, 1210]), st.integers(0, 2), st.integers(1, 12))


@settings(max_examples=40, deadline=None)
@given(st.lists(RUN, min_size=1, max_size=10))
def test_runs_to_named_peers_arrive_as_single_datagrams_would(runs):
    sizes, peers = ([run[part] for run in runs for _ in range(run[2])] for part in range(2))
    io, stats = udp_mmsg.MmsgIO(), UdpStats()
    with contextlib.ExitStack() as stack:
        sender, *receivers = (
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(4)
        )
        sender.setblocking(False)
        for receiver in receivers:
            receiver.bind(("127.0.0.1", 0))
            receiver.settimeout(5)
        raw = [pack_sockaddr(Address(*receiver.getsockname())) for receiver in receivers]
        names = np.frombuffer(b"".join(raw[peer] for peer in peers), np.uint8).reshape(-1, 28)
        outgoing = load(io, sizes)._replace(names=names, peers=peers)
        assert send_spans(io, sender, outgoing, stats, pytest.fail) == (len(sizes), len(sizes))
        payloads = expected(sizes)
        for number, receiver in enumerate(receivers):
            mine = [payload for payload, peer in zip(payloads, peers, strict=True) if peer == number]
            assert [receiver.recv(4096) for _ in mine] == mine
    assert (stats.tx_packets, stats.tx_bytes, stats.segments) == (len(sizes), sum(sizes), True)
