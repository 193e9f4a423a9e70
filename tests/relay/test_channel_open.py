"""Opening a channel: what is asked of the agent, what its answer means, and that nothing is left open."""

import asyncio
import dataclasses

import psutil
import pytest

from rtun_core.errors import RemoteProtocolError, RtunError, SignalingError
from rtun_core.net.ice import IceSession
from rtun_core.relay.channel_open import DETECT_TIMEOUT, FEATURE_REPORTS, ChannelWish, open_channel
from rtun_core.wire.address import Address
from rtun_core.wire.control import error_p2p, ok_status
from rtun_core.wire.pb import rtun_pb2 as pb
from rtun_core.wire.relay_frame import CodecKind
from tests.relay.world import ICE, until

TARGET = Address("127.0.0.1", 9)
WISH = ChannelWish(target=TARGET, ice=ICE, idle_timeout=30.0, session_id=b"s" * 16)


def wish(**changes):
    return dataclasses.replace(WISH, **changes)


@pytest.fixture
async def open_path(make_link):
    """Opens channels to agents of this process and closes them; returns path and last request."""
    paths = []

    async def call(link=None, **changes):
        link = link or make_link()
        opened = await open_channel(link, wish(**changes), timeout=5.0)
        paths.append(opened.path)
        return opened, link.agent.asked[-1]

    yield call
    for path in paths:
        path.socket.close()


@pytest.fixture
def nothing_left():
    """The test leaves as many descriptors open as it found."""
    process = psutil.Process()
    before = process.num_fds()
    yield
    assert process.num_fds() == before


class Saying:
    """A link whose agent says one thing."""

    id = "alpha/1"

    def __init__(self, make_link, *answers, ver="0.1.0.py"):
        self.entry = make_link(ver=ver).entry
        self.answers = list(answers)
        self.asked = []

    async def request(self, request, *, timeout):
        self.asked.append(request.open_p2p.udp_relay)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


async def test_our_own_agents_agree_on_everything(open_path):
    opened, asked = await open_path()
    assert asked.obfs_seed > 0
    assert (asked.target_addr, asked.idle_timeout_secs, asked.max_payload) == ("127.0.0.1:9", 30, 1442)
    assert (asked.ext.session_id, asked.ext.features) == (b"s" * 16, FEATURE_REPORTS)
    assert opened.reports
    assert opened.terms.settled is CodecKind.OBFS_V2
    assert opened.terms.seed == asked.obfs_seed
    assert opened.max_payload == 1442
    assert opened.path.socket.local.host == "127.0.0.1"


async def test_an_original_agent_is_waited_for(open_path, make_link):
    link = make_link()
    link.agent.foreign = True
    opened, _ = await open_path(link)
    assert not opened.reports
    assert opened.terms.settled is None
    assert opened.terms.hold == DETECT_TIMEOUT


@pytest.mark.parametrize(
    ("codec", "payload", "extended"),
    [
        (CodecKind.LEGACY, 1444, True),
        (CodecKind.OBFS_V1, 1443, False),
        (CodecKind.TAGGED_9, 1443, False),
        (CodecKind.OBFS_V2, 1442, True),
    ],
)
async def test_a_codec_that_was_given_is_settled(open_path, codec, payload, extended):
    opened, asked = await open_path(codec=codec)
    assert opened.terms.settled is codec
    assert asked.max_payload == payload
    assert (asked.obfs_seed == 0) is (codec is CodecKind.LEGACY)
    assert asked.HasField("ext") is extended


async def test_a_payload_that_was_given_is_asked_for(open_path):
    opened, asked = await open_path(max_payload=900)
    assert (asked.max_payload, opened.max_payload) == (900, 900)


async def test_an_agent_that_allows_less_is_asked_again(make_link):
    refusal = error_p2p("exceed max payload 1442, please set <= 1400")
    link = Saying(make_link, refusal, error_p2p("still no"))
    with pytest.raises(SignalingError, match="still no"):
        await open_channel(link, WISH, timeout=5.0)
    assert [asked.max_payload for asked in link.asked] == [1442, 1400]


@pytest.mark.parametrize(("limit", "given"), [("0", None), ("1442", None), ("9999", None), ("1400", 1443)])
async def test_a_limit_that_makes_no_sense_or_was_given_is_not_tried_again(make_link, limit, given):
    link = Saying(make_link, error_p2p(f"please set <= {limit}"))
    with pytest.raises(SignalingError, match="please set"):
        await open_channel(link, wish(max_payload=given), timeout=5.0)
    assert len(link.asked) == 1


@pytest.mark.usefixtures("nothing_left")
async def test_a_refusal_is_told_with_its_reason(make_link):
    link = Saying(make_link, error_p2p("not today"))
    with pytest.raises(SignalingError, match=r"agent alpha/1 refused the channel: not today$"):
        await open_channel(link, WISH, timeout=5.0)


@pytest.mark.parametrize(("ver", "hint"), [("0.1.0.py", False), ("1.4.2", True), (None, True)])
async def test_a_host_name_may_be_why_an_original_agent_refuses(make_link, ver, hint):
    link = Saying(make_link, error_p2p(""), ver=ver)
    with pytest.raises(SignalingError, match="no reason given") as caught:
        await open_channel(link, wish(target=Address("dns.example", 53)), timeout=5.0)
    assert ("host names as targets, here dns.example" in str(caught.value)) is hint


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (ok_status(), "answered with"),
        (pb.OpenP2PResponse(args=pb.P2PArgs()), "refused"),
        (SignalingError("the session ended"), "the session ended"),
        (OSError(24, "Too many open files"), "no socket for a channel to agent alpha/1: .*Too many"),
    ],
)
async def test_answers_that_give_no_channel(make_link, answer, message):
    with pytest.raises(SignalingError, match=message):
        await open_channel(Saying(make_link, answer), WISH, timeout=5.0)


@pytest.mark.usefixtures("nothing_left")
async def test_an_answer_without_ice_parameters_is_the_peers_mistake(make_link):
    bare = pb.OpenP2PResponse(args=pb.P2PArgs(udp_relay=pb.UdpRelayArgs(obfs_seed=1)))
    with pytest.raises((RemoteProtocolError, RtunError)):
        await open_channel(Saying(make_link, bare), WISH, timeout=0.2)


async def test_no_more_sockets(make_link, monkeypatch):
    async def gather(config, *, controlling):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(IceSession, "gather", gather)
    with pytest.raises(SignalingError, match="Too many open files"):
        await open_channel(make_link(), WISH, timeout=5.0)


@pytest.mark.usefixtures("nothing_left")
async def test_an_agent_that_does_not_answer_costs_the_time_limit(make_link):
    link = make_link()
    link.agent.gate.clear()
    with pytest.raises(SignalingError, match="no channel to agent alpha/1 within 0 s"):
        await open_channel(link, WISH, timeout=0.05)


@pytest.mark.usefixtures("nothing_left")
async def test_an_attempt_that_is_cancelled_leaves_nothing(make_link):
    link = make_link()
    link.agent.gate.clear()
    attempt = asyncio.get_running_loop().create_task(open_channel(link, WISH, timeout=5.0))
    await until(lambda: link.agent.asked)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
