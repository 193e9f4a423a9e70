"""The local side of a rule: datagrams become frames of their flow, answers find their source."""

import random
from collections import Counter
from itertools import chain

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from rtun_core.bus import EventBus
from rtun_core.errors import BindError
from rtun_core.events import FlowOpened
from rtun_core.model import RuleId, Traffic
from rtun_core.net.sockaddr import pack_sockaddr, unpack_sockaddr
from rtun_core.net.udp import ROOM
from rtun_core.relay import local_port
from rtun_core.relay.local_port import LocalPort
from rtun_core.wire.address import Address
from rtun_core.wire.relay_rule import RelayRule
from tests.relay.datagrams import batch_of, batches, frames_of, listed
from tests.relay.world import LOCAL, until

RULE = RelayRule(LOCAL, Address("192.0.2.1", 53))
LARGEST = 100


class Recorder:
    """Stands for a channel: keeps what it is given."""

    def __init__(self, number):
        self.id, self.number, self.flows = f"t{number}", number, 0
        self.sent = []

    def send(self, frames):
        self.sent += listed(frames)

    def send_one(self, flow, payload):
        self.sent.append((flow, payload))


class Bench:
    """A port with recorders for channels; new flows take them in turn, `turn` may contain None."""

    def __init__(self, channels=1, *, max_flows=100, bus=None):
        self.channels = [Recorder(number) for number in range(channels)]
        self.turn = list(self.channels)
        self.port = LocalPort(RuleId("r1"), RULE, bus or EventBus(), max_flows=max_flows, choose=self._choose)
        self.port.channels = {channel.number: channel for channel in self.channels}
        self.port.max_payload = LARGEST

    def _choose(self):
        return self.turn[len(self.port.table) % len(self.turn)] if self.turn else None

    def flow_of(self, address):
        """The flow id of a source."""
        table = self.port.table
        (row,) = [row for row in table.rows().tolist() if table.source(row) == address]
        return int(table.ids[row])


def received(datagrams):
    """A batch of pairs of source and payload."""
    batch = batch_of([payload for _, payload in datagrams])
    for row, (source, _) in enumerate(datagrams):
        batch.set_name(row, pack_sockaddr(source))
    batch.ipv6 = any(source.is_ipv6 for source, _ in datagrams)
    return batch


@pytest.fixture(params=[10, 0], ids=["one by one", "in batches"])
def both_ways(request, monkeypatch):
    monkeypatch.setattr(local_port, "SCALAR_ROWS", request.param)


@pytest.fixture
async def bench(bus):
    bench = Bench(2, bus=bus)
    bench.port.bind()
    bench.port.read()
    yield bench
    bench.port.close()


# ---- one by one is the same as in batches ---------------------------------------------------------------

SOURCES = [Address("127.0.0.1", 1000 + number) for number in range(6)]
SOURCES_V6 = [Address("::1", 1000 + number) for number in range(6)]
SIZES = st.sampled_from([0, 1, 9, LARGEST - 1, LARGEST, LARGEST + 1, ROOM, ROOM + 1, 3000])


def admitted(datagrams, max_flows, largest):
    """What a plain loop lets through: payloads by source, in order; and what it drops."""
    flows, drops = {}, Counter()
    for source, payload in datagrams:
        if not 0 < len(payload) <= min(largest, ROOM):
            drops["oversize" if payload else "empty"] += 1
        elif source not in flows and len(flows) == max_flows:
            drops["flow limit"] += 1
        else:
            flows.setdefault(source, []).append(payload)
    return flows, drops


def outcome(received_batches, scalar_rows, *, max_flows, largest, turn, gone):
    """Everything that is left behind by batches; channel `gone` ends after the first of them."""
    random.seed(3)  # where flow ids begin
    bench = Bench(3, max_flows=max_flows)
    bench.turn = [None if number is None else bench.channels[number] for number in turn]
    bench.port.max_payload = largest
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_port, "SCALAR_ROWS", scalar_rows)
        for datagrams in received_batches:
            bench.port._on_batch(received(datagrams))
            bench.port.channels.pop(gone, None)
    table = bench.port.table
    columns = (table.ids, table.channel, table.up_packets, table.up_bytes)
    flows = [(table.source(row), *(int(column[row]) for column in columns)) for row in table.rows().tolist()]
    sent = [channel.sent for channel in bench.channels]
    loads = [channel.flows for channel in bench.channels]
    return bench.port.all_drops(), bench.port.traffic, flows, sent, loads


@settings(deadline=None, max_examples=100)
@given(
    batches(st.integers(0, 5), SIZES),
    st.integers(1, 7),
    st.sampled_from([LARGEST, ROOM]),
    st.sampled_from([[0], [0, 1, 2], [2, 0, None], []]),
    st.sampled_from([None, 0]),
    st.sampled_from([SOURCES, SOURCES_V6]),
)
def test_a_batch_and_its_datagrams_one_by_one_give_the_same(shapes, max_flows, largest, turn, gone, sources):
    arrived = [[(sources[number], payload) for number, payload in shape] for shape in shapes]
    options = {"max_flows": max_flows, "largest": largest, "turn": turn, "gone": gone}
    whole, single = outcome(arrived, 0, **options), outcome(arrived, 1000, **options)
    assert whole == single
    drops, traffic, flows, sent, _ = whole
    expected, expected_drops = admitted(chain.from_iterable(arrived), max_flows, largest)
    counts = {source: (packets, size) for source, _, _, packets, size in flows}
    assert counts == {source: (len(all_), sum(map(len, all_))) for source, all_ in expected.items()}
    assert traffic.up_packets == sum(map(len, sent)) + drops.pop("no tunnel", 0)
    assert drops == expected_drops
    for source, flow, channel, *_ in flows:
        mine = [[payload for each, payload in one if each == flow] for one in sent]
        if turn and None not in turn and gone is None:
            assert mine.pop(channel) == expected[source]
            assert mine == [[], []]


@pytest.mark.parametrize("bad", [b"", bytes(ROOM), bytes(ROOM + 1)], ids=["empty", "too large", "truncated"])
@pytest.mark.parametrize("largest", [LARGEST, ROOM])
def test_one_bad_datagram_among_those_of_known_sources(bad, largest):
    arrived = [(source, b"good") for source in SOURCES for _ in range(3)]
    bench = Bench()
    bench.port.max_payload = largest
    bench.port._on_batch(received(arrived))
    bench.port._on_batch(received([*arrived[:9], (SOURCES[2], bad), *arrived[9:]]))
    _, drops = admitted([(SOURCES[2], bad)], 100, largest)
    assert bench.port.drops == drops
    assert bench.port.traffic.up_packets == len(bench.channels[0].sent) == 37 - drops.total()


class Sink:
    """Stands for the local socket: keeps what it is given."""

    def __init__(self):
        self.sent, self.peers = [], []

    def send(self, payload, address):
        self.sent.append((address, payload))

    def send_spans(self, spans, names, peers):
        sources = [unpack_sockaddr(name.tobytes()) for name in names]
        self.sent += zip(sources, map(bytes, spans.payloads()), strict=True)
        self.peers.append(list(zip(peers, sources, strict=True)))


def answering(sources):
    """A bench that knows sources, with a sink for its socket, and the flow of each source."""
    random.seed(3)
    bench = Bench()
    bench.port._on_batch(received([(source, b"hello") for source in sources]))
    bench.port._socket = Sink()
    return bench, [bench.flow_of(source) for source in sources]


def delivered(deliver, answers, sources):
    """Everything that is left behind by answers: what each source got, in order, and what was counted."""
    bench, flows = answering(sources)
    unknown = max(flows) + 1 & 0xFFFFFFFF
    for batch in answers:
        deliver(bench.port, [([*flows, unknown][number], payload) for number, payload in batch])
    table, sink = bench.port.table, bench.port._socket
    got = {source: [payload for to, payload in sink.sent if to == source] for source in sources}
    counts = [column[: len(sources)].tolist() for column in (table.down_packets, table.down_bytes)]
    return got, counts, bench.port.drops, bench.port.traffic, sink.peers


@settings(deadline=None, max_examples=100)
@given(batches(st.integers(0, 6), st.sampled_from([0, 1, 9, 1400])), st.sampled_from([SOURCES, SOURCES_V6]))
def test_answers_together_and_one_by_one_are_the_same_for_each_source(answers, sources):
    *whole, peers = delivered(deliver_together, answers, sources)
    *single, _ = delivered(deliver_singly, answers, sources)
    assert whole == single
    good = [(number, payload) for number, payload in chain.from_iterable(answers) if number < 6 and payload]
    got = {sources[at]: [payload for number, payload in good if number == at] for at in range(6)}
    assert whole[0] == got
    for batch in peers:  # equal numbers stand for one destination
        assert len(set(batch)) == len({peer for peer, _ in batch}) == len({source for _, source in batch})


def test_answers_of_few_flows_are_sent_in_runs():
    bench, flows = answering(SOURCES[:3])
    answers = [(flow, b"%d" % number) for number in range(20) for flow in flows]
    bench.port.deliver(frames_of(answers))
    ((*batch,),) = bench.port._socket.peers
    assert [peer for peer, _ in batch] == [0] * 20 + [1] * 20 + [2] * 20
    assert [payload for _, payload in bench.port._socket.sent] == [b"%d" % number for number in range(20)] * 3


def test_answers_of_many_flows_are_sent_as_they_came():
    bench, flows = answering(SOURCES)
    answers = [(flow, b"%d" % number) for number in range(3) for flow in flows]
    bench.port.deliver(frames_of(answers))
    assert bench.port._socket.sent == [(source, b"%d" % number) for number in range(3) for source in SOURCES]


# ---- up -------------------------------------------------------------------------------------------------


async def test_each_source_is_a_flow_that_stays_on_its_channel(bench, make_peer, events):
    peers = [make_peer(to=bench.port.local) for _ in range(3)]
    for number in range(4):
        for peer in peers:
            peer.send(b"%d" % number)
    await until(lambda: bench.port.traffic.up_packets == 12)
    assert len(bench.port.table) == 3
    for index, peer in enumerate(peers):
        flow = bench.flow_of(peer.address)
        sent = [payload for each, payload in bench.channels[index % 2].sent if each == flow]
        assert sent == [b"0", b"1", b"2", b"3"]
    opened = {event.source: event for event in events.of(FlowOpened)}
    assert set(opened) == {str(peer.address) for peer in peers}
    first = opened[str(peers[0].address)]
    assert first.flow == f"{bench.flow_of(peers[0].address):08x}"
    assert (first.rule, first.target, first.tunnel) == ("r1", "192.0.2.1:53", "t0")
    assert [channel.flows for channel in bench.channels] == [2, 1]


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize(("size", "reason"), [(0, "empty"), (LARGEST + 1, "oversize"), (3000, "oversize")])
async def test_what_is_empty_or_too_large_is_dropped_and_opens_no_flow(bench, make_peer, size, reason):
    peer = make_peer(to=bench.port.local)
    peer.send(bytes(size))
    peer.send(b"good")
    await until(lambda: bench.port.traffic.up_packets)
    assert bench.port.all_drops() == {reason: 1}
    assert bench.port.traffic == Traffic(1, 4, 0, 0)


@pytest.mark.usefixtures("both_ways")
async def test_only_what_is_bad_opens_nothing(bench, make_peer):
    make_peer(to=bench.port.local).send(bytes(LARGEST + 1))
    await until(lambda: bench.port.drops)
    assert len(bench.port.table) == 0


@pytest.mark.usefixtures("both_ways")
async def test_a_paused_rule_drops_what_comes(bench, make_peer):
    bench.port.paused = True
    peer = make_peer(to=bench.port.local)
    peer.send(b"now")
    await until(lambda: bench.port.drops == {"paused": 1})
    bench.port.paused = False
    peer.send(b"later")
    await until(lambda: bench.port.traffic.up_packets == 1)
    assert [payload for _, payload in bench.channels[0].sent] == [b"later"]


@pytest.mark.usefixtures("both_ways")
def test_above_the_flow_limit_known_sources_go_on():
    bench = Bench(max_flows=2)
    datagrams = [(source, b"x") for source in SOURCES[:4]] * 2
    bench.port._on_batch(received(datagrams))
    assert bench.port.all_drops() == {"flow limit": 4}
    assert bench.port.traffic.up_packets == 4
    assert len(bench.channels[0].sent) == 4


@pytest.mark.usefixtures("both_ways")
def test_without_a_tunnel_the_flow_is_kept_and_its_datagrams_are_dropped():
    bench = Bench()
    bench.turn = []
    bench.port._on_batch(received([(SOURCES[0], b"a"), (SOURCES[1], b"b")]))
    assert bench.port.all_drops() == {"no tunnel": 2}
    assert len(bench.port.table) == 2
    bench.port.table.move(bench.port.table.rows(), 0, 0.0)
    bench.port._on_batch(received([(SOURCES[0], b"c")]))
    assert [payload for _, payload in bench.channels[0].sent] == [b"c"]


# ---- down -----------------------------------------------------------------------------------------------


def deliver_singly(port, answers):
    for flow, payload in answers:
        port.deliver_one(flow, payload)


def deliver_together(port, answers):
    port.deliver(frames_of(answers))


@pytest.mark.parametrize("deliver", [deliver_singly, deliver_together])
async def test_answers_go_to_the_source_of_their_flow(bench, make_peer, deliver):
    peers = [make_peer(to=bench.port.local) for _ in range(2)]
    for peer in peers:
        peer.send(b"hello")
    await until(lambda: bench.port.traffic.up_packets == 2)
    one, two = (bench.flow_of(peer.address) for peer in peers)
    stranger = max(one, two) + 1 & 0xFFFFFFFF
    deliver(bench.port, [(one, b"first"), (two, b"second"), (stranger, b"?"), (one, b""), (one, b"third")])
    assert await peers[0].recv() == (b"first", bench.port.local)
    assert await peers[0].recv() == (b"third", bench.port.local)
    assert await peers[1].recv() == (b"second", bench.port.local)
    assert bench.port.all_drops() == {"no flow": 1, "empty": 1}
    assert bench.port.traffic == Traffic(2, 10, 3, 16)
    assert int(bench.port.table.down_packets.sum()) == 3


@pytest.mark.parametrize("deliver", [deliver_singly, deliver_together])
async def test_answers_for_nobody_are_counted(bench, deliver):
    deliver(bench.port, [(1, b"x"), (2, b"")])
    assert bench.port.all_drops() == {"no flow": 2}
    assert bench.port.traffic == Traffic()


@pytest.mark.parametrize("deliver", [deliver_singly, deliver_together])
async def test_a_closed_port_delivers_nothing(bench, make_peer, deliver):
    peer = make_peer(to=bench.port.local)
    peer.send(b"hello")
    await until(lambda: bench.port.traffic.up_packets)
    bench.port.close()
    deliver(bench.port, [(bench.flow_of(peer.address), b"late")])
    assert bench.port.traffic.down_packets == 0
    assert peer.waiting() == []


async def test_more_answers_than_fit_one_system_call(bench, make_peer):
    peer = make_peer(to=bench.port.local)
    peer.send(b"hello")
    await until(lambda: bench.port.traffic.up_packets)
    flow = bench.flow_of(peer.address)
    bench.port.deliver(frames_of([(flow, b"%03d" % number) for number in range(150)]))
    assert [(await peer.recv())[0] for _ in range(150)] == [b"%03d" % number for number in range(150)]


# ---- reading and not ------------------------------------------------------------------------------------


async def test_nothing_is_read_until_told(make_peer):
    bench = Bench()
    assert not bench.port.is_open
    assert bench.port.local == LOCAL
    bench.port.bind()
    assert bench.port.is_open
    calls = Counter()
    bench.port.hold(lambda: calls.update(["waiting"]))
    peer = make_peer(to=bench.port.local)
    for number in range(3):
        peer.send(b"%d" % number)
    await until(lambda: calls)
    assert bench.port.traffic.up_packets == 0
    bench.port.read()
    await until(lambda: bench.port.traffic.up_packets == 3)
    assert [payload for _, payload in bench.channels[0].sent] == [b"0", b"1", b"2"]
    assert calls == {"waiting": 1}
    bench.port.close()


async def test_a_stopped_port_answers_but_does_not_read_again(bench, make_peer):
    peer = make_peer(to=bench.port.local)
    peer.send(b"hello")
    await until(lambda: bench.port.traffic.up_packets)
    bench.port.stop_reading()
    calls = []
    bench.port.read()
    bench.port.hold(lambda: calls.append("waiting"))
    peer.send(b"too late")
    bench.port.deliver_one(bench.flow_of(peer.address), b"answer")
    assert (await peer.recv())[0] == b"answer"
    assert (bench.port.traffic.up_packets, calls) == (1, [])


async def test_an_address_in_use(bench):
    second = LocalPort(
        RuleId("r2"), RelayRule(bench.port.local, RULE.target), EventBus(), max_flows=1, choose=lambda: None
    )
    with pytest.raises(BindError, match=str(bench.port.local)):
        second.bind()
    assert not second.is_open
    for call in (second.read, second.stop_reading, second.close, lambda: second.hold(lambda: None)):
        call()  # nothing to do, and no harm done
    assert second.all_drops() == {}


async def test_errors_of_the_socket_are_counted(bench):
    bench.port._on_error(OSError("network down"))
    bench.port.drop("nothing", 0)
    assert bench.port.all_drops() == {"local socket": 1}
