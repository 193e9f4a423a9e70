"""The packet path of the flow table in batches: it leaves behind what its datagrams one by one do."""

import errno
from collections import Counter
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtun_core.agent import exit_flows
from rtun_core.agent.exit_flows import ExitFlows
from rtun_core.net.udp import ROOM, UdpStats
from rtun_core.wire.address import Address
from tests.relay.datagrams import batch_of, batches, frames_of, listed

TARGET = Address("192.0.2.1", 53)
LARGEST = 100
COUNTERS = ("flow", "handle", "path", "moves", "idle_timeout", "last")
TRAFFIC = ("up_packets", "up_bytes", "down_packets", "down_bytes")


class Sockets:
    """Stands for the target sockets: keeps what each is given; those in `broken` send nothing."""

    def __init__(self, most):
        self.most, self.broken = most, set()
        self.sent, self.runs = {}, []
        self.stats = UdpStats()

    def open(self, _remote):
        if len(self.sent) == self.most:
            raise OSError(errno.EMFILE, "no")
        handle = len(self.sent) + 1
        self.sent[handle] = []
        return handle

    def send(self, handle, payload):
        if handle not in self.broken:
            self.sent[handle].append(bytes(payload))
        return handle not in self.broken

    def send_spans(self, handle, spans):
        self.runs.append(handle)
        return sum(self.send(handle, payload) for payload in spans.payloads())

    def send_each(self, handles, spans):
        pairs = enumerate(zip(handles, spans.payloads(), strict=True))
        return [index for index, (handle, payload) in pairs if not self.send(handle, payload)]


class Tunnel:
    """Stands for a tunnel: keeps what it is given."""

    def __init__(self, number):
        self.id, self.remote = f"t{number}", Address("127.0.0.1", 1000 + number)
        self.idle_timeout, self.max_payload = 10.0 + number, LARGEST + number
        self.sent, self.drops = [], Counter()

    def downlink(self, frames):
        self.sent += listed(frames)

    def downlink_one(self, flow, payload):
        self.sent.append((flow, payload))

    def drop(self, reason, count):
        self.drops[reason] += count


class Bench:
    """A flow table with three tunnels of one session and one target, without any sockets."""

    def __init__(self, *, max_flows=100, most=100):
        self.now, self.events = 0.0, []
        self.sockets = Sockets(most)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exit_flows, "UdpSocketSet", lambda _on_batch, _on_error: self.sockets)
            self.flows = ExitFlows(max_flows=max_flows, clock=lambda: self.now, emit=self.events.append)
        self.tunnels = [Tunnel(number) for number in range(3)]
        self.at = [self.flows.attach(tunnel, "s", TARGET) for tunnel in self.tunnels]

    def up(self, tunnel, frames, *, singly=False):
        self.now += 1
        if not singly:
            self.flows.uplink(self.at[tunnel], frames_of(frames))
            return
        for flow, payload in frames:
            self.flows.uplink_one(self.at[tunnel], flow, payload, self.now)

    def down(self, answers, *, singly=False):
        """Answers: pairs of the socket's handle and the payload."""
        self.now += 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exit_flows, "SCALAR_ROWS", 1000 if singly else 0)
            batch = batch_of([payload for _, payload in answers])
            self.flows._on_batch(batch, [handle for handle, _ in answers])

    def columns(self, names=COUNTERS + TRAFFIC):
        columns = self.flows.columns
        return {name: getattr(columns, name)[columns.slots()].tolist() for name in names}

    def state(self):
        """Everything that is left behind."""
        tunnels = [(tunnel.sent, tunnel.drops) for tunnel in self.tunnels]
        return self.columns(), self.sockets.sent, tunnels, self.flows.drops, self.events


# ---- up -------------------------------------------------------------------------------------------------

FLOWS = st.sampled_from([0, 1, 2, 3, 2**32 - 1]) | st.integers(0, 40)


@settings(deadline=None, max_examples=100)
@given(
    batches(FLOWS, st.sampled_from([0, 1, 9, 1400]), fewest=1),
    st.lists(st.integers(0, 2), min_size=4, max_size=4),
    st.integers(1, 12),
    st.integers(1, 12),
    st.frozensets(st.integers(1, 12), max_size=3),
)
def test_frames_together_and_one_by_one_give_the_same(shapes, tunnels, max_flows, most, broken):
    whole, single = (Bench(max_flows=max_flows, most=most) for _ in range(2))
    for bench in (whole, single):
        bench.sockets.broken = broken
        for tunnel, frames in zip(tunnels, shapes, strict=False):
            bench.up(tunnel, frames, singly=bench is single)
    assert whole.state() == single.state()
    expected, lost = carried(chain.from_iterable(shapes), min(max_flows, most))
    sent = dict(zip(whole.columns()["flow"], whole.sockets.sent.values(), strict=True))
    assert sent == {
        flow: [] if number in broken else payloads
        for number, (flow, payloads) in enumerate(expected.items(), 1)
    }
    assert whole.flows.drops.total() == lost
    assert set(whole.flows.drops) <= {"flow limit" if max_flows <= most else "no descriptors"}
    counted = whole.columns(TRAFFIC)
    assert counted["up_packets"] == [len(payloads) for payloads in sent.values()]
    assert counted["up_bytes"] == [sum(map(len, payloads)) for payloads in sent.values()]


def carried(frames, most):
    """What a plain loop carries with `most` flows: payloads by flow, in order; and how many are lost."""
    flows, lost = {}, 0
    for flow, payload in frames:
        if flow in flows or len(flows) < most:
            flows.setdefault(flow, []).append(payload)
        else:
            lost += 1
    return flows, lost


def numbered(flows):
    return [(flow, b"%d" % number) for number, flow in enumerate(flows)]


@pytest.mark.parametrize(
    ("flows", "runs"),
    [
        ([5] * 64, [1]),
        ([5, 6] * 32, [1, 2]),
        ([5, 6, 7, 8] * 16, [1, 2, 3, 4]),
        ([5] * 40 + [6, 7, 8], [1, 2, 3, 4]),
        ([5, 6, 7] * 3, []),
        (range(1, 65), []),
    ],
    ids=["one flow", "two in turn", "four in turn", "one and some", "a few of each", "all different"],
)
def test_datagrams_of_few_flows_are_sent_in_runs(flows, runs):
    bench = Bench()
    frames = numbered(flows)
    bench.up(0, frames)
    assert bench.sockets.runs == runs
    for flow, sent in zip(bench.columns()["flow"], bench.sockets.sent.values(), strict=True):
        assert sent == [payload for each, payload in frames if each == flow]


def test_a_batch_binds_each_of_its_flows_to_its_tunnel_once():
    bench = Bench()
    bench.up(0, numbered([1, 2, 3] * 4))
    bench.up(1, numbered([2, 3, 2, 3, 9] * 4))
    bench.up(2, numbered([3, 9] * 4))
    columns = bench.columns()
    assert (columns["flow"], columns["path"]) == ([1, 2, 3, 9], [0, 1, 2, 2])
    assert (columns["moves"], columns["idle_timeout"]) == ([0, 1, 2, 1], [10.0, 11.0, 12.0, 12.0])


# ---- down -----------------------------------------------------------------------------------------------

SIZES = st.sampled_from([0, 1, 9, LARGEST, LARGEST + 1, LARGEST + 2, LARGEST + 3, ROOM, ROOM + 1, 3000])


def spread():
    """Nine flows, two or three on each of three tunnels and two on one that has gone."""
    bench = Bench()
    extra = bench.flows.attach(Tunnel(9), "s", TARGET)
    bench.flows.uplink(extra, frames_of(numbered([8, 9])))
    for tunnel, flows in enumerate([[1, 2, 3], [4, 5], [6, 7]]):
        bench.up(tunnel, numbered(flows))
    bench.flows.detach(extra)
    return bench


@settings(deadline=None, max_examples=100)
@given(batches(st.integers(1, 9), SIZES, fewest=1))
def test_answers_together_and_one_by_one_give_the_same(shapes):
    whole, single = spread(), spread()
    for answers in shapes:
        whole.down(answers)
        single.down(answers, singly=True)
    assert whole.state() == single.state()
    flow_of = dict(zip(*whole.columns(("handle", "flow")).values(), strict=True))
    answers = [(flow_of[handle], payload) for handle, payload in chain.from_iterable(shapes)]
    for tunnel, flows in zip(whole.tunnels, ({1, 2, 3}, {4, 5}, {6, 7}), strict=True):
        mine = [answer for answer in answers if answer[0] in flows]
        assert tunnel.sent == [one for one in mine if 0 < len(one[1]) <= tunnel.max_payload]
        assert tunnel.drops["empty"] == sum(not payload for _, payload in mine)
        assert tunnel.drops["oversize"] == sum(len(payload) > tunnel.max_payload for _, payload in mine)
    assert whole.flows.drops["no tunnel"] == sum(flow in {8, 9} for flow, _ in answers)
    assert sum(whole.columns(["down_packets"])["down_packets"]) == sum(len(t.sent) for t in whole.tunnels)


def test_runs_of_answers_for_several_tunnels_keep_their_order():
    bench = spread()
    handle_of = dict(zip(*bench.columns(("flow", "handle")).values(), strict=True))
    answers = numbered([1, 4, 4, 4, 6, 1, 8, 7] * 16)
    bench.down([(handle_of[flow], payload) for flow, payload in answers])
    for tunnel, flows in zip(bench.tunnels, ({1}, {4}, {6, 7}), strict=True):
        assert tunnel.sent == [answer for answer in answers if answer[0] in flows]
    assert bench.flows.drops == {"no tunnel": 16}
