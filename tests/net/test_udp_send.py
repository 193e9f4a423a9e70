import errno

import numpy as np
import pytest

from rtun_core.net.sockaddr import pack_sockaddr
from rtun_core.net.udp_batch import BATCH, Spans, UdpStats
from rtun_core.net.udp_send import QUEUE_BYTES, QUEUE_PACKETS, Outgoing, SendQueue, send_one, send_spans
from rtun_core.wire.address import Address


class Wire:
    """A socket whose answers are scripted: None takes the datagram, a number is an errno."""

    def __init__(self, *script):
        self.script, self.sent = list(script), []

    def send(self, payload):
        return self.sendto(payload, None)

    def sendto(self, payload, target):
        answer = self.script.pop(0) if self.script else None
        if answer is not None:
            raise OSError(answer, "scripted")
        self.sent.append((bytes(payload), target))
        return len(payload)


class WireSender:
    """`SpanSender` onto a `Wire`, taking up to `stride` datagrams in one call."""

    def __init__(self, stride):
        self.stride = stride

    segments_refused = False

    def load(self, spans, names, peers, *, segment=True):
        self.payloads = list(spans.payloads())

    def transmit(self, sock, first, count):
        sent = 0
        for payload in self.payloads[first : min(count, first + self.stride)]:
            if sent and sock.script and sock.script[0] is not None:
                break
            sock.send(payload)
            sent += 1
        return sent


class WireIO:
    """What `send_spans` sees of a `BatchIO`; a stride of 0 means that there is no `SpanSender`."""

    def __init__(self, stride):
        self.sender = WireSender(stride) if stride else None


def numbered(count):
    """Datagrams of 4 bytes each, which hold their number."""
    data = np.arange(count, dtype=">u4").view(np.uint8)
    return Outgoing(Spans(data, np.arange(count) * 4, np.full(count, 4)))


def numbers(sock):
    return [int.from_bytes(payload, "big") for payload, _ in sock.sent]


def run(script, count, stride=BATCH):
    sock, stats, reports = Wire(*script), UdpStats(), []
    result = send_spans(WireIO(stride), sock, numbered(count), stats, reports.append)
    dropped = {reason: number for reason, number in stats.tx_dropped.items() if number}
    assert stats.tx_packets == result[0] == len(sock.sent)
    assert stats.tx_bytes == 4 * len(sock.sent)
    return result, numbers(sock), dropped, [error.errno for error in reports]


@pytest.mark.parametrize("stride", [0, 1, 3, BATCH])
def test_everything_goes_out(stride):
    assert run([], 150, stride) == ((150, 150), list(range(150)), {}, [])


@pytest.mark.parametrize("stride", [0, 1, BATCH])
@pytest.mark.parametrize(
    ("failure", "reason", "reported"),
    [
        (errno.EMSGSIZE, "oversize", []),
        (errno.ENOBUFS, "buffers", []),
        (errno.ENOMEM, "buffers", []),
        (errno.ENETUNREACH, "socket", [errno.ENETUNREACH]),
    ],
)
def test_one_failure_costs_one_datagram(failure, reason, reported, stride):
    for count in (3, 5):
        expected = [number for number in range(count) if number != 1]
        assert run([None, failure], count, stride) == ((count - 1, count), expected, {reason: 1}, reported)


@pytest.mark.parametrize("stride", [0, 1, BATCH])
def test_a_refusal_is_tried_again_once(stride):
    refused = errno.ECONNREFUSED
    assert run([None, refused], 4, stride) == ((4, 4), [0, 1, 2, 3], {}, [refused])
    assert run([refused, refused], 4, stride) == ((3, 4), [1, 2, 3], {"refused": 1}, [refused] * 2)
    assert run([refused, None, refused], 2, stride) == ((2, 2), [0, 1], {}, [refused] * 2)


@pytest.mark.parametrize("stride", [0, 1, BATCH])
def test_a_full_kernel_ends_the_work(stride):
    assert run([None, None, errno.EAGAIN], 5, stride) == ((2, 2), [0, 1], {}, [])
    assert run([None] * 70 + [errno.EAGAIN], 150, stride) == ((70, 70), list(range(70)), {}, [])


def test_an_interrupted_call_is_repeated():
    assert run([errno.EINTR], 4) == ((4, 4), [0, 1, 2, 3], {}, [])


def one(*script, target=None):
    sock, stats, reports = Wire(*script), UdpStats(), []
    result = send_one(sock, b"hello", target, stats, reports.append)
    return result, len(sock.sent), {k: v for k, v in stats.tx_dropped.items() if v}, len(reports)


def test_single_datagrams_are_treated_alike():
    assert one() == (True, 1, {}, 0)
    assert one(target=("127.0.0.1", 1)) == (True, 1, {}, 0)
    assert one(errno.EAGAIN) == (None, 0, {}, 0)
    assert one(errno.EMSGSIZE) == (False, 0, {"oversize": 1}, 0)
    assert one(errno.EPERM) == (False, 0, {"socket": 1}, 1)
    assert one(errno.ECONNREFUSED) == (True, 1, {}, 1)
    assert one(errno.ECONNREFUSED, errno.ECONNREFUSED) == (False, 0, {"refused": 1}, 2)
    assert one(errno.ECONNREFUSED, errno.EAGAIN) == (None, 0, {}, 1)


def test_the_queue_is_bounded_by_packets_and_bytes():
    queue, stats = SendQueue(), UdpStats()
    for number in range(QUEUE_PACKETS + 5):
        queue.push(number.to_bytes(4, "big"), None, stats)
    assert (len(queue), stats.tx_dropped["queue"]) == (QUEUE_PACKETS, 5)
    for _ in range(QUEUE_BYTES // 60_000 + 1):
        queue.push(bytes(60_000), None, stats)
    assert len(queue) == QUEUE_BYTES // 60_000
    total = QUEUE_PACKETS + 5 + QUEUE_BYTES // 60_000 + 1
    assert stats.tx_dropped["queue"] == total - len(queue)


def test_the_queue_keeps_what_the_kernel_refuses_for_now():
    queue, stats, sock = SendQueue(), UdpStats(), Wire(None, errno.EMSGSIZE, None, errno.EAGAIN)
    for number in range(5):
        queue.push(number.to_bytes(4, "big"), ("127.0.0.1", 9), stats)
    queue.flush(sock, stats, pytest.fail)
    assert (numbers(sock), len(queue)) == ([0, 2], 2)
    queue.flush(sock, stats, pytest.fail)
    assert (numbers(sock), len(queue)) == ([0, 2, 3, 4], 0)
    assert {target for _, target in sock.sent} == {("127.0.0.1", 9)}
    assert stats.tx_dropped["oversize"] == 1


def test_one_flush_is_bounded():
    queue, stats, sock = SendQueue(), UdpStats(), Wire()
    for _ in range(BATCH + 1):
        queue.push(b"x", None, stats)
    queue.flush(sock, stats, pytest.fail)
    assert len(queue) == 1
    queue.drop_all(stats)
    assert (len(queue), stats.tx_dropped["queue"]) == (0, 1)


def test_datagrams_can_be_split_and_taken_one_by_one():
    address = Address("192.0.2.1", 7)
    names = np.frombuffer(pack_sockaddr(address) * 4, np.uint8).reshape(4, 28)
    part = numbered(4)._replace(names=names, peers=[1, 2, 3, 4]).part(1, 3)
    assert [(bytes(payload), target) for payload, target in part.each(0)] == [
        (b"\0\0\0\1", tuple(address)),
        (b"\0\0\0\2", tuple(address)),
    ]
    assert len(part.names) == len(part.spans.starts) == 2
    assert part.peers == [2, 3]
    assert numbered(4).part(1, 3).peers is None
    assert [(bytes(payload), target) for payload, target in numbered(4).each(3)] == [(b"\0\0\0\3", None)]
