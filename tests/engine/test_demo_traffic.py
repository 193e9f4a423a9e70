"""The demo's traffic: what is sent follows from the seed, and every answer is judged."""

import asyncio
import contextlib
import random
import socket
import struct

import pytest

from rtun_core.commands import PinAgent
from rtun_core.engine.demo_traffic import DemoTraffic, TrafficReport
from rtun_core.errors import CommandRefused
from rtun_core.model import ServiceSnapshot
from rtun_core.wire.address import Address

HEAD = struct.Struct(">IIQ")


class Target:
    """A socket that the traffic goes to; the test answers."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind(("127.0.0.1", 0))
        self.address = Address(*self.sock.getsockname())

    async def recv(self):
        async with asyncio.timeout(5):
            return await asyncio.get_running_loop().sock_recvfrom(self.sock, 2048)

    async def take(self, count):
        return [await self.recv() for _ in range(count)]

    def send(self, data, to):
        self.sock.sendto(data, to)

    def waiting(self):
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.sock.recvfrom(2048))
        return found


@pytest.fixture
def target():
    target = Target()
    yield target
    target.sock.close()


@pytest.fixture
async def start(target):
    """Starts traffic towards the target."""
    started = []

    async def build(*, seed=1, clients=3, rate=100.0):
        started.append(DemoTraffic(target.address, seed=seed, clients=clients, rate=rate))
        await started[-1].start()
        return started[-1]

    yield build
    for traffic in started:
        await traffic.stop(drain=True)


def send(traffic, count):
    """Send so many datagrams at once, from the clients in turn."""
    for number in range(count):
        traffic._send(number % traffic._clients)


async def judged(traffic, until, condition):
    await until(lambda: condition(traffic.counters()[1].get("wrong answer", 0)))


# ---- the report -----------------------------------------------------------------------------------------


def report(**changes):
    return TrafficReport(10, 10, 0, 0, [0.001 * number for number in range(1, 11)])._replace(**changes)


def test_a_perfect_report():
    assert report().perfect
    assert report(twice=3).perfect
    assert report().lost == 0


@pytest.mark.parametrize("changes", [{"answered": 9}, {"wrong": 1}, {"sent": 0, "answered": 0, "rtts": []}])
def test_reports_that_are_not_perfect(changes):
    assert not report(**changes).perfect


def test_lost_is_what_was_never_answered():
    assert report(answered=7).lost == 3


@pytest.mark.parametrize(
    ("share", "rtt"), [(0.0, 0.001), (0.5, 0.006), (0.9, 0.010), (0.99, 0.010), (1.0, 0.010)]
)
def test_percentiles(share, rtt):
    assert report().percentile(share) == pytest.approx(rtt)


def test_percentiles_of_nothing():
    assert report(rtts=[]).percentile(0.5) == 0.0


# ---- sending --------------------------------------------------------------------------------------------


async def test_each_client_numbers_its_datagrams(start, target):
    traffic = await start(clients=2)
    send(traffic, 6)
    seen = {}
    for data, source in await target.take(6):
        client, number, _ = HEAD.unpack_from(data)
        seen.setdefault((client, source), []).append(number)
    assert sorted(seen.values()) == [[0, 1, 2], [0, 1, 2]]
    assert sorted(client for client, _ in seen) == [0, 1]


async def test_contents_follow_from_the_seed(start, target):
    bodies = []
    for seed in (5, 5, 6):
        send(await start(seed=seed), 9)
        bodies.append([data[HEAD.size :] for data, _ in await target.take(9)])
    assert bodies[0] == bodies[1] != bodies[2]
    assert len({len(body) for body in bodies[0]}) > 3
    assert max(map(len, bodies[0])) <= 1184


async def test_the_rate_is_kept_over_all_clients(start, target):
    traffic = await start(rate=200.0)
    await traffic.run(0.3)
    sent = (await traffic.settle(0.0)).sent
    assert 20 <= sent <= 60
    assert len(await target.take(sent)) == sent
    assert target.waiting() == []


async def test_nothing_is_sent_before_it_runs(start, target):
    await start()
    await asyncio.sleep(0)
    assert target.waiting() == []


# ---- judging --------------------------------------------------------------------------------------------


async def test_what_comes_back_unchanged_is_answered(start, target):
    traffic = await start()
    send(traffic, 20)
    answers = await target.take(20)
    random.Random(1).shuffle(answers)
    for data, source in answers:
        target.send(data, source)
    report = await traffic.settle(5.0)
    assert report.perfect
    assert (report.sent, report.answered, report.twice, len(report.rtts)) == (20, 20, 0, 20)
    assert report.rtts == sorted(report.rtts)
    assert 0 < report.rtts[0] < 5
    assert traffic.counters() == ({}, {})


async def test_what_does_not_come_back_is_waited_for_and_then_lost(start, target):
    traffic = await start()
    send(traffic, 3)
    for data, source in (await target.take(3))[1:]:
        target.send(data, source)
    report = await traffic.settle(0.1)
    assert (report.sent, report.answered, report.lost, report.wrong) == (3, 2, 1, 0)


async def test_an_answer_that_comes_while_it_settles_counts(start, target):
    traffic = await start()
    send(traffic, 1)
    (data, source), *_ = await target.take(1)
    settling = asyncio.get_running_loop().create_task(traffic.settle(5.0))
    await asyncio.sleep(0)
    target.send(data, source)
    assert (await settling).perfect


async def test_a_second_answer_is_counted_apart(start, target, until):
    traffic = await start()
    send(traffic, 1)
    (data, source), *_ = await target.take(1)
    for _ in range(3):
        target.send(data, source)
    await until(lambda: traffic._twice == 2)
    report = await traffic.settle(1.0)
    assert (report.answered, report.twice, report.perfect) == (1, 2, True)


async def test_changed_answers_are_wrong(start, target, until):
    traffic = await start(clients=2)
    send(traffic, 40)
    first = {HEAD.unpack_from(data)[:2]: (data, source) for data, source in await target.take(40)}
    data, source = next(pair for pair in first.values() if len(pair[0]) > HEAD.size + 1)
    client, number, sent = HEAD.unpack_from(data)
    other = next(pair[1] for (each, _), pair in first.items() if each != client)
    body = data[HEAD.size :]
    for changed, to in (
        (data[:-1] + bytes([data[-1] ^ 1]), source),
        (data[:-1], source),
        (data + b"x", source),
        (b"short", source),
        (data, other),
        (HEAD.pack(client, 999, sent) + body, source),
        (HEAD.pack(7, number, sent) + body, source),
    ):
        target.send(changed, to)
    await judged(traffic, until, lambda wrong: wrong == 7)
    report = await traffic.settle(0.0)
    assert (report.wrong, report.answered, report.perfect) == (7, 0, False)
    assert traffic.counters() == ({}, {"wrong answer": 7})


# ---- as a service ---------------------------------------------------------------------------------------


async def test_it_has_little_to_show(start):
    traffic = await start()
    assert traffic.snapshot() == ServiceSnapshot(service="traffic")
    assert not traffic.handles(PinAgent())
    with pytest.raises(CommandRefused, match="takes no commands"):
        await traffic.handle(PinAgent())


async def test_it_never_ends_by_itself_and_stops_twice(start):
    traffic = await start()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await traffic.wait()
    await traffic.stop(drain=True)
    await traffic.stop(drain=False)


async def test_stopping_before_it_started(target):
    await DemoTraffic(target.address, seed=1, clients=1, rate=1.0).stop(drain=True)
