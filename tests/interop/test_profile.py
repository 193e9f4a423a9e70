"""The interoperability profile: each test is one rule that an original program relies on.

Our programs run in this process over real loopback sockets; their peers are the models of this folder,
which are written from the wire spec and share no codec with us. Sections are named as `rtun.md` has them.
"""

import asyncio
import json
import re
import secrets
import time
from base64 import b64decode
from urllib.parse import parse_qs

import aiohttp
import pytest
from aioquic import tls as quic_tls
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from rtun_core.commands import DrainTunnel
from rtun_core.errors import SignalingError, Unauthorized
from rtun_core.net import signal_client
from rtun_core.net.signal_client import list_agents, open_sub
from rtun_core.net.tls import self_signed
from rtun_core.wire.pb import rtun_pb2 as pb
from tests.interop import original_wire as wire
from tests.interop.conftest import SECRET, endpoint, until
from tests.interop.original_agent import VER
from tests.interop.original_path import BASE, GENERATIONS, HEAD, TAGGED9, OriginalIce, RawUdp
from tests.interop.original_signal import (
    MAX_MESSAGE,
    Refused,
    ask_http,
    ask_quic,
    connect_pub,
    connect_sub,
    quic_connect,
)
from tests.interop.original_signal import list_agents as original_list

PING = bytes.fromhex("220708") + bytes.fromhex("80d095ffbc31")
PONG = bytes.fromhex("0880d095ffbc31")
KICK = bytes.fromhex("2a2508ffffffffffffffffff0112187265706c616365206279206f746865722073657373696f6e")
STATUS_OK = bytes.fromhex("12026f6b")
NEVER = 2**63 - 1
NO_MORE = 0.3  # seconds in which something that must not come would have come, on loopback

by_name = pytest.mark.parametrize("generation", GENERATIONS, ids=lambda each: each.name)
both_schemes = pytest.mark.parametrize("scheme", ["http", "quic"])


def relay_request(args):
    """The payload of an `open_p2p` for a relay."""
    return pb.C2ARequest(open_p2p=pb.P2PArgs(udp_relay=args)).SerializeToString()


def ping(timestamp):
    """The payload of a ping."""
    return pb.C2ARequest(ping=pb.Ping(timestamp=timestamp)).SerializeToString()


def plain_args(target, **fields):
    """A relay request whose ICE credentials lead nowhere."""
    ice = pb.P2PIceArgs(ufrag="AbCdEfGh", pwd="01234567", candidates=[wire.host_candidate(("127.0.0.1", 9))])
    return pb.UdpRelayArgs(**({"ice": ice, "target_addr": target, "obfs_seed": 7} | fields))


async def next_payload(packets):
    """The next payload of channel 0."""
    data = await asyncio.wait_for(packets.recv(), 10)
    assert data is not None, "the session ended"
    channel, payload = wire.read_packet(data)
    assert channel == 0
    return payload


async def answer_of(packets, payload):
    """Ask on channel 0."""
    await packets.send(wire.packet(0, payload))
    return await next_payload(packets)


# ---- 3.3 token --------------------------------------------------------------------------------------


@both_schemes
async def test_token_form(stage, scheme):
    server = await stage.original_server()
    url = server.http_url if scheme == "http" else server.quic_url
    before = time.time_ns() // 1_000_000
    await stage.agent(url)
    sent = (
        parse_qs(server.queries[0][1])["token"][0]
        if scheme == "http"
        else json.loads(server.json_requests[0])["token"]
    )
    assert re.fullmatch(r"[A-Za-z0-9+/]{54}", sent)
    assert not wire.token_fault(SECRET, sent)
    nonce = int.from_bytes(b64decode(sent + "==")[:8], "big")
    assert before <= nonce <= time.time_ns() // 1_000_000


async def test_token_is_form_urlencoded_in_urls(stage, monkeypatch):
    server = await stage.original_server()
    vector = "AAAAAAAAAACqz9M/Y+RSK025B9VTU6zfV0NjlrQCzjf4shf0daNFvQ"
    monkeypatch.setattr(signal_client, "make_token", lambda *_: vector)
    with pytest.raises(Unauthorized):
        await open_sub(endpoint(server.http_url), agent="a", instance=None)
    assert f"token={vector.replace('/', '%2F').replace('+', '%2B')}" in server.queries[0][1].split("&")


@both_schemes
async def test_token_of_an_original_is_accepted_at_any_age(stage, scheme):
    server = await stage.server(scheme)
    packets, name = await connect_pub(
        server.url, wire.token(SECRET, 1700000000000), agent="old", expire_in=None, ver=VER
    )
    assert name == "old"
    await packets.leave()


async def test_refused_token_is_status_401_without_body(stage):
    server = await stage.server()
    for bad in (wire.token("other"), wire.token(SECRET) + "==", "AAAA"):
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{server.url}/pub/ws", params={"token": bad}) as response,
        ):
            assert (response.status, await response.read()) == (401, b"")


async def test_missing_token_is_status_400(stage):
    server = await stage.server()
    with pytest.raises(Refused, match="400"):
        await ask_http(server.url, "/pub/ws", {"agent": "a"})


async def test_refused_token_is_a_reason_on_quic(stage):
    server = await stage.server("quic")
    with pytest.raises(Refused, match=r"^unauthorized: invalid token$"):
        await connect_pub(server.url, wire.token("other"), agent="a", expire_in=None, ver=None)
    with pytest.raises(Refused, match=r"^unauthorized: token too short$"):
        await connect_sub(server.url, "AAAA", agent="a", instance=None)


@both_schemes
async def test_refusal_of_an_original_server_is_understood(stage, scheme):
    server = await stage.original_server()
    url = server.http_url if scheme == "http" else server.quic_url
    with pytest.raises(Unauthorized):
        await open_sub(endpoint(url, "other"), agent="a", instance=None)
    with pytest.raises(SignalingError, match=r"not found agent \[a\]"):
        await open_sub(endpoint(url), agent="a", instance=None)


# ---- 4 HTTP and WebSocket ----------------------------------------------------------------------------


async def test_agent_name_header_is_set_before_upgrade(stage):
    server = await stage.server()
    packets, headers = await ask_http(server.url, "/pub/ws", {"token": wire.token(SECRET), "agent": "beta"})
    assert headers["agent_name"] == "beta"
    await packets.leave()


@both_schemes
async def test_nameless_agents_get_eight_characters(stage, scheme):
    server = await stage.server(scheme)
    packets, name = await connect_pub(server.url, wire.token(SECRET), agent=None, expire_in=None, ver=None)
    assert re.fullmatch(r"[A-Za-z0-9]{8}", name)
    await packets.leave()


async def test_name_is_read_from_the_header(stage):
    server = await stage.original_server()
    agent = await stage.agent(server.http_url, name=None)
    session = await server.agent()
    assert [row.name for row in agent.service.snapshot().agents] == [session.name]


async def test_name_that_fits_no_header_is_status_400(stage):
    server = await stage.server()
    with pytest.raises(Refused, match="400"):
        await ask_http(server.url, "/pub/ws", {"token": wire.token(SECRET), "agent": "b\u00e4r"})


async def test_text_message_ends_the_session(stage):
    server = await stage.server()
    packets, _ = await ask_http(server.url, "/pub/ws", {"token": wire.token(SECRET), "agent": "beta"})
    await packets._socket.send_str("hello")
    assert await asyncio.wait_for(packets.recv(), 5) is None
    await packets.leave()


async def test_messages_above_4_mib_are_taken(stage):
    server = await stage.server(bridge_only=False)
    packets = await connect_sub(server.url, wire.token(SECRET), agent=None, instance=None)
    await packets.send(wire.packet(9, bytes(5 * 1024 * 1024)))  # a channel that nobody has opened
    assert await answer_of(packets, PING) == PONG
    await packets.leave()


@both_schemes
async def test_listing_needs_no_token(stage, scheme):
    server = await stage.server(scheme)
    await stage.original_agent(server.url)
    assert [each["name"] for each in await original_list(server.url)] == ["original"]


@both_schemes
async def test_agent_entry_json_omits_absent_keys(stage, scheme):
    server = await stage.server(scheme)
    await stage.original_agent(server.url, name="bare", ver=None)
    await stage.original_agent(server.url, name="full", ver=VER, expire_in=600_000)
    entries = {each["name"]: each for each in await original_list(server.url)}
    assert set(entries["bare"]) == {"name", "addr", "expire_at", "instance_id"}
    assert set(entries["full"]) == {"name", "addr", "expire_at", "instance_id", "ver"}
    assert entries["full"]["ver"] == VER
    assert re.fullmatch(r"127\.0\.0\.1:\d+", entries["full"]["addr"])
    assert re.fullmatch(r"[A-Za-z0-9]{8}", entries["full"]["instance_id"])
    assert abs(entries["full"]["expire_at"] - time.time() * 1000 - 600_000) < 10_000


async def test_agent_without_expiry_expires_at_2_to_63_minus_1(stage):
    server = await stage.server()
    await stage.original_agent(server.url, expire_in=None)
    assert [each["expire_at"] for each in await original_list(server.url)] == [NEVER]


@both_schemes
async def test_entries_without_instance_and_version_are_understood(stage, scheme):
    server = await stage.original_server(bare_entries=True)
    url = server.http_url if scheme == "http" else server.quic_url
    await stage.original_agent(url)
    entries = await list_agents(endpoint(url))
    assert [(each.name, each.instance_id, each.ver) for each in entries] == [("original", None, None)]


# ---- 5 QUIC ------------------------------------------------------------------------------------------


@pytest.fixture
def hellos(monkeypatch):
    """What QUIC clients of this process said first."""
    seen = []
    pull = quic_tls.pull_client_hello
    monkeypatch.setattr(quic_tls, "pull_client_hello", lambda buf: seen.append(pull(buf)) or seen[-1])
    return seen


async def test_quic_signalling_offers_no_alpn(stage, hellos):
    server = await stage.original_server()
    await stage.agent(server.quic_url)
    await list_agents(endpoint(server.quic_url))
    assert [hello.alpn_protocols for hello in hellos] == [None, None]


async def test_no_sni_for_ip_hosts(stage, hellos):
    server = await stage.original_server()
    await list_agents(endpoint(server.quic_url))
    assert hellos[0].server_name is None
    await list_agents(endpoint(server.quic_url.replace("127.0.0.1", "localhost")))
    assert hellos[-1].server_name == "localhost"


async def test_quic_is_tls_13_without_early_data(stage, hellos):
    server = await stage.original_server()
    await list_agents(endpoint(server.quic_url))
    assert hellos[0].supported_versions == [quic_tls.TLS_VERSION_1_3]
    assert not hellos[0].early_data


async def test_quic_server_accepts_clients_without_alpn(stage):
    server = await stage.server("quic")
    client, answer = await ask_quic("127.0.0.1", server.port, {"kind": "sessions"})
    assert answer == {"kind": "sessions", "code": 0, "reason": "", "sessions": []}
    await client.leave()


async def test_quic_server_ends_the_stream_behind_a_list(stage):
    server = await stage.server("quic")
    client, _ = await ask_quic("127.0.0.1", server.port, {"kind": "sessions"})
    await until(lambda: client.ended)
    await client.leave()


@pytest.mark.parametrize(
    ("request_json", "answer"),
    [
        (
            {"kind": "pub", "agent": "relay-e2e", "expire_in": 600000, "instance_id": None, "ver": VER},
            b'{"kind":"pub","code":0,"reason":"","agent_name":"relay-e2e"}',
        ),
        ({"kind": "sub", "agent": "there"}, b'{"kind":"sub","code":0,"reason":""}'),
        ({"kind": "sub", "agent": "there", "surplus": [1]}, b'{"kind":"sub","code":0,"reason":""}'),
    ],
)
async def test_quic_answers_are_the_frames_of_the_original(stage, request_json, answer):
    server = await stage.server("quic")
    await stage.original_agent(server.url, name="there")
    client = await quic_connect("127.0.0.1", server.port)
    await client.send(json.dumps({"token": wire.token(SECRET)} | request_json).encode())
    assert await asyncio.wait_for(client.recv(), 5) == answer
    await client.leave()


async def test_quic_requests_are_the_frames_of_the_original(stage, monkeypatch):
    server = await stage.original_server()
    vector = "AAABi8/laADqAx7zedtTcFUXU4ayoaUQBX8KzYhIwGyEScfM3PUNxA"
    monkeypatch.setattr(signal_client, "make_token", lambda *_: vector)
    ours = endpoint(server.quic_url)
    session, _ = await signal_client.open_pub(ours, agent="relay-e2e", expire_in_ms=600000, ver=VER)
    await session.close("seen")
    await list_agents(ours)
    with pytest.raises(SignalingError):
        await open_sub(ours, agent="beta", instance="Zz00Zz00")
    assert [frame.decode() for frame in server.json_requests] == [
        f'{{"kind":"pub","agent":"relay-e2e","token":"{vector}","expire_in":600000,'
        f'"instance_id":null,"ver":"{VER}"}}',
        '{"kind":"sessions"}',
        f'{{"kind":"sub","agent":"beta","token":"{vector}","expire_in":null,'
        '"instance_id":"Zz00Zz00","ver":null}',
    ]


@pytest.mark.parametrize("bad", [b"{}", b"hello", b'{"kind":"pub","agent":"a"}', b'{"kind":"other"}', b""])
async def test_malformed_quic_requests_get_no_answer(stage, bad):
    server = await stage.server("quic")
    client = await quic_connect("127.0.0.1", server.port)
    await client.send(bad)
    assert await asyncio.wait_for(client.recv(), 5) is None
    await client.leave()


async def test_quic_frame_above_16_mib_ends_the_session(stage):
    server = await stage.server("quic", bridge_only=False)
    client = await connect_sub(server.url, wire.token(SECRET), agent=None, instance=None)
    assert await answer_of(client, PING) == PONG
    client.send_raw((MAX_MESSAGE + 1).to_bytes(4, "big"))
    assert await asyncio.wait_for(client.recv(), 5) is None
    await client.leave()


@both_schemes
async def test_empty_frame_is_the_end_of_channel_0(stage, scheme):
    server = await stage.server(scheme, bridge_only=False)
    packets = await connect_sub(server.url, wire.token(SECRET), agent=None, instance=None)
    assert await answer_of(packets, PING) == PONG
    await packets.send(b"")
    assert await asyncio.wait_for(packets.recv(), 5) in (None, b"")
    await packets.leave()


def test_self_signed_certificates_have_the_form_that_the_originals_parse():
    certificate = x509.load_pem_x509_certificate(self_signed(["localhost", "127.0.0.1"])[0])
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert certificate.version is x509.Version.v3
    assert certificate.issuer == certificate.subject
    assert not constraints.ca
    assert ExtendedKeyUsageOID.SERVER_AUTH in usage
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert certificate.public_key().curve.name == "secp256r1"


# ---- 6 switch session and registration ---------------------------------------------------------------


@both_schemes
async def test_sub_without_agent_is_local(stage, scheme):
    server = await stage.server(scheme, bridge_only=False)
    packets = await connect_sub(server.url, wire.token(SECRET), agent=None, instance=None)
    answer = await answer_of(packets, relay_request(plain_args("127.0.0.1:9")))
    assert pb.OpenP2PResponse.FromString(answer).WhichOneof("open_p2p_rsp") == "args"
    await packets.leave()
    assert await original_list(server.url) == []


async def test_sub_without_agent_finds_nobody_at_a_mere_bridge(stage):
    http, quic = await stage.server(), await stage.server("quic")
    with pytest.raises(Refused, match="404"):
        await connect_sub(http.url, wire.token(SECRET), agent=None, instance=None)
    with pytest.raises(Refused, match=r"^not found agent \[local\]$"):
        await connect_sub(quic.url, wire.token(SECRET), agent=None, instance=None)


async def test_sub_names_the_instance_that_is_there(stage):
    server = await stage.server("quic")
    await stage.original_agent(server.url, name="beta")
    actual = (await original_list(server.url))[0]["instance_id"]
    text = rf"^instance mismatch for agent \[beta\], want \[Zz00Zz00\], actual \[{actual}\]$"
    with pytest.raises(Refused, match=text):
        await connect_sub(server.url, wire.token(SECRET), agent="beta", instance="Zz00Zz00")


async def test_control_answers_in_order(stage):
    server = await stage.original_server()
    await stage.agent(server.http_url)
    session = await server.agent()
    slow = session.request_now(relay_request(plain_args("127.0.0.1:9")))
    first, second = await asyncio.gather(slow, session.request_now(PING))
    assert pb.OpenP2PResponse.FromString(first).WhichOneof("open_p2p_rsp") == "args"
    assert second == PONG


@both_schemes
async def test_server_answers_clients_in_order(stage, scheme):
    server = await stage.server(scheme)
    agent = await stage.original_agent(server.url)
    agent.hold.clear()
    packets = await connect_sub(server.url, wire.token(SECRET), agent="original", instance=None)
    await packets.send(wire.packet(0, relay_request(plain_args("not an address"))))
    await packets.send(wire.packet(0, PING))
    await until(lambda: agent.requests)
    agent.hold.set()
    assert pb.OpenP2PResponse.FromString(await next_payload(packets)).status.code == -1
    assert await next_payload(packets) == PONG
    await packets.leave()


async def test_one_request_in_flight_towards_original_agents(stage):
    server = await stage.server()
    agent = await stage.original_agent(server.url)
    agent.hold.clear()
    clients = [
        await connect_sub(server.url, wire.token(SECRET), agent="original", instance=None) for _ in range(3)
    ]
    for client in clients:
        await client.send(wire.packet(0, relay_request(plain_args("not an address"))))
    await until(lambda: agent.requests)
    agent.hold.set()
    for client in clients:
        assert pb.OpenP2PResponse.FromString(await next_payload(client)).status.code == -1
        await client.leave()
    assert len(agent.requests) == 3
    assert not agent.violations


async def test_pings_of_clients_do_not_reach_the_agent(stage):
    server = await stage.server()
    agent = await stage.original_agent(server.url)
    packets = await connect_sub(server.url, wire.token(SECRET), agent="original", instance=None)
    assert await answer_of(packets, PING) == PONG
    await answer_of(packets, relay_request(plain_args("not an address")))
    assert [pb.C2ARequest.FromString(each).WhichOneof("c2a_req_args") for each in agent.requests] == [
        "open_p2p"
    ]
    await packets.leave()


async def test_no_unsolicited_packet_on_channel_0(stage):
    server = await stage.original_server()
    target = stage.target()
    await stage.agent(server.http_url)
    session = await server.agent()
    assert await session.request(PING) == PONG
    relay = await stage.original_relay(server.http_url, target)
    assert await relay.round_trip(b"data") == b"data"
    assert await session.request(PING) == PONG
    assert session.unsolicited == []


async def test_no_empty_response(stage):
    server = await stage.original_server()
    await stage.agent(server.http_url)
    session = await server.agent()
    assert await session.request(ping(0))
    closing = pb.C2ARequest(close_channel=pb.CloseChannelArgs(ch_id=1)).SerializeToString()
    assert await session.request(closing) == STATUS_OK
    assert session.unsolicited == []


async def test_refusals_come_in_the_type_that_the_request_implies(stage):
    server = await stage.original_server()
    await stage.agent(server.http_url)
    session = await server.agent()
    socks = pb.C2ARequest(open_socks=pb.OpenSocksArgs(ch_id=1, peer_addr="127.0.0.1:1")).SerializeToString()
    script = pb.C2ARequest(exec_agent_script=pb.ExecAgentScriptArgs(name="x")).SerializeToString()
    socks_over_p2p = pb.C2ARequest(open_p2p=pb.P2PArgs(quic_socks=pb.QuicSocksArgs())).SerializeToString()
    assert pb.OpenChannelResponse.FromString(await session.request(socks)).status.code == -1
    assert pb.ExecAgentScriptResult.FromString(await session.request(script)).status_code == -1
    assert pb.OpenP2PResponse.FromString(await session.request(socks_over_p2p)).status.code == -1
    assert await session.request(PING) == PONG


async def test_unknown_request_ends_the_session_of_a_service(stage):
    server = await stage.original_server()
    await stage.agent(server.http_url)
    session = await server.agent()
    await session.packets.send(wire.packet(0, wire.field(99, b"?")))
    await asyncio.wait_for(session.closed.wait(), 5)


@both_schemes
async def test_unknown_fields_are_preserved_by_the_bridge(stage, scheme):
    server = await stage.server(scheme)
    packets, _ = await connect_pub(server.url, wire.token(SECRET), agent="raw", expire_in=None, ver=VER)
    client = await connect_sub(server.url, wire.token(SECRET), agent="raw", instance=None)
    args = plain_args("8.8.8.8:53").SerializeToString() + wire.field(77, b"from the future")
    await client.send(wire.packet(0, wire.field(6, wire.field(4, args))))
    assert b"from the future" in await next_payload(packets)
    await packets.send(wire.packet(0, wire.field(1, wire.field(4, args))))
    assert b"from the future" in await next_payload(client)
    await packets.leave()
    await client.leave()


@both_schemes
async def test_kick_text_for_a_replaced_agent(stage, scheme):
    server = await stage.server(scheme)
    old = await stage.original_agent(server.url, name="same")
    await stage.original_agent(server.url, name="same")
    await asyncio.wait_for(old.ended.wait(), 5)
    assert old.kicked == KICK
    assert len(await original_list(server.url)) == 1


@both_schemes
async def test_kicked_agent_answers_and_ends(stage, scheme):
    server = await stage.original_server()
    agent = await stage.agent(server.http_url if scheme == "http" else server.quic_url)
    assert await server.kick(await server.agent()) == STATUS_OK
    reason = await asyncio.wait_for(agent.service.wait(), 5)
    assert "replace by other session" in reason
    assert len(server.history) == 1


@both_schemes
async def test_expire_in_is_the_remaining_time_on_reconnect(stage, scheme):
    server = await stage.original_server()
    await stage.agent(server.http_url if scheme == "http" else server.quic_url, expire_in=60.0)
    first = await server.agent(1)
    await asyncio.sleep(NO_MORE)
    await first.packets.leave()
    second = await server.agent(2)
    sent = [int(parse_qs(query)["expire_in"][0]) for path, query in server.queries if path == "/pub/ws"] or [
        json.loads(frame)["expire_in"] for frame in server.json_requests
    ]
    assert sent[0] in range(58_000, 60_001)
    assert sent[1] <= sent[0] - NO_MORE * 1000
    assert abs(second.entry["expire_at"] - first.entry["expire_at"]) < 500


async def test_reconnecting_agent_keeps_the_name_it_was_given(stage):
    server = await stage.original_server()
    await stage.agent(server.http_url, name=None)
    first = await server.agent(1)
    await first.packets.leave()
    assert (await server.agent(2)).name == first.name


@both_schemes
async def test_relay_attaches_to_the_instance_that_it_chose(stage, scheme):
    server, target = await stage.original_server(), stage.target()
    url = server.http_url if scheme == "http" else server.quic_url
    await stage.original_agent(url)
    await stage.relay(url, target)
    instance = server.sessions["original"].entry["instance_id"]
    if scheme == "http":
        sent = [parse_qs(query) for path, query in server.queries if path == "/sub/ws"]
        assert [(each["agent"], each["instance_id"]) for each in sent] == [(["original"], [instance])]
    else:
        sent = [json.loads(frame) for frame in server.json_requests if b'"sub"' in frame]
        assert [(each["agent"], each["instance_id"]) for each in sent] == [("original", instance)]


async def test_agents_are_preferred_in_the_order_of_the_originals(stage):
    server, target = await stage.server(), stage.target()
    await stage.original_agent(server.url, name="short", expire_in=3_600_000)
    longest = await stage.original_agent(server.url, name="long", expire_in=7_200_000)
    await stage.original_agent(server.url, name="expired", expire_in=1)
    relay = await stage.relay(server.url, target)
    assert relay.director.link.entry.name == "long"
    assert len(longest.tunnels) == 1


# ---- 8 ICE -------------------------------------------------------------------------------------------


async def gathered_by_our_agent(stage, server_url, target="127.0.0.1:9", **fields):
    """What our agent answers to a relay request."""
    client = await connect_sub(server_url, wire.token(SECRET), agent="ours", instance=None)
    stage.keep_async(client.leave)
    answer = await answer_of(client, relay_request(plain_args(target, **fields)))
    return pb.OpenP2PResponse.FromString(answer)


async def test_host_candidate_strings_exact(stage):
    server, target = await stage.server(), stage.target()
    await stage.agent(server.url)
    answer = (await gathered_by_our_agent(stage, server.url)).args.udp_relay
    foreign = await stage.original_agent(server.url, name="foreign")
    await stage.relay(server.url, target, agent=re.compile("foreign"))
    for ice in (answer.ice, foreign.asked[0].ice):
        assert re.fullmatch(r"[A-Za-z0-9]{8}", ice.ufrag)
        assert re.fullmatch(r"[A-Za-z0-9]{8}", ice.pwd)
        pattern = r"candidate:\d+ 1 udp 2130706175 127\.0\.0\.1 \d+ typ host"
        assert [bool(re.fullmatch(pattern, each)) for each in ice.candidates] == [True]


async def test_one_foreign_candidate_that_cannot_be_parsed_does_not_fail(stage):
    server, target = await stage.server(), stage.target()
    await stage.agent(server.url)

    def ice():
        made = OriginalIce(controlling=True)
        aioice_style = f"42 1 udp 2130706431 127.0.0.1 {made.udp.address[1]} typ host generation 0"
        made.candidates = [
            "candidate:1 1 udp 2130706431 f3c9.local 40000 typ host",
            "candidate:1 1 tcp 2130706431 127.0.0.1 9 typ host tcptype active",
            "garbage",
            "",
            aioice_style,
        ]
        return made

    relay = await stage.original_relay(server.url, target, ice=ice)
    assert await relay.round_trip(b"through") == b"through"


async def test_one_candidate_of_an_original_agent_that_cannot_be_parsed_does_not_fail(stage):
    server, target = await stage.server(), stage.target()

    def ice():
        made = OriginalIce(controlling=False)
        made.candidates = ["candidate:1 1 udp 1 f3c9.local 4 typ host", "", *made.candidates]
        return made

    await stage.original_agent(server.url, ice=ice)
    assert await stage.client(await stage.relay(server.url, target)).round_trip() == b"ping"


async def test_checks_have_the_attributes_of_the_original_in_order(stage):
    server, target = await stage.server(), stage.target()
    agent = await stage.original_agent(server.url)
    await stage.relay(server.url, target)
    ice = agent.tunnels[0].ice
    for message, _ in ice.requests:
        nomination = [wire.USE_CANDIDATE] if message.nominates else []
        assert message.order == [
            wire.SOFTWARE, wire.USERNAME, wire.CONTROLLING, *nomination, wire.PRIORITY, wire.INTEGRITY,
        ]  # fmt: skip
        assert message.get(wire.SOFTWARE) == b"rtun"
        assert message.get(wire.PRIORITY) == wire.HOST_PRIORITY.to_bytes(4, "big")
        assert message.get(wire.CONTROLLING) != bytes(8)
        assert message.signed_with(ice.pwd)


async def test_answers_to_checks_have_the_attributes_of_the_original_in_order(stage):
    server, target = await stage.server(), stage.target()
    await stage.agent(server.url)
    relay = await stage.original_relay(server.url, target)
    answers = [message for message, _ in relay.tunnels[0].ice.stun if message.kind == wire.SUCCESS]
    theirs = relay.last_answer.args.udp_relay.ice
    assert answers
    for message in answers:
        assert message.order == [wire.XOR_MAPPED, wire.INTEGRITY, wire.FINGERPRINT]
        assert message.signed_with(theirs.pwd)


async def test_regular_nomination_only(stage):
    server, target = await stage.server(), stage.target()
    agent = await stage.original_agent(server.url)
    await stage.relay(server.url, target)
    messages = [message for message, _ in agent.tunnels[0].ice.requests]
    nominations = {message.transaction for message in messages if message.nominates}
    checks = {message.transaction for message in messages if not message.nominates}
    assert not messages[0].nominates
    assert len(nominations) == 1
    assert checks.isdisjoint(nominations)
    assert agent.tunnels[0].ice.ignored_nominations == 0


async def test_nomination_not_sent_to_unproven_address(stage):
    server, target = await stage.server(), stage.target()
    hole = RawUdp(lambda _data, _source: None)
    stage.keep(hole.close)

    def ice():
        made = OriginalIce(controlling=False)
        made.candidates = [wire.host_candidate(hole.address)]  # our relay learns the true one from checks
        return made

    agent = await stage.original_agent(server.url, ice=ice)
    relay = await stage.relay(server.url, target)
    assert await stage.client(relay).round_trip() == b"ping"
    assert agent.tunnels[0].ice.ignored_nominations == 0
    assert not agent.tunnels[0].ice.requests[0][0].nominates


async def test_nomination_from_an_unproven_address_is_ignored(stage):
    server = await stage.server()
    await stage.agent(server.url)
    ice = OriginalIce(controlling=True)
    stage.keep(ice.close)
    offer = pb.P2PIceArgs(ufrag=ice.ufrag, pwd=ice.pwd, candidates=[wire.host_candidate(("127.0.0.1", 9))])
    theirs = (await gathered_by_our_agent(stage, server.url, ice=offer)).args.udp_relay.ice
    ice.set_remote(theirs.ufrag, theirs.pwd, list(theirs.candidates))
    agent_address = wire.read_candidate(theirs.candidates[0])[0]
    came = asyncio.Queue()
    ice.udp.on_datagram = lambda data, _source: came.put_nowait(wire.read_stun(data))
    ice.udp.start()
    ice.udp.send(ice.request(agent_address, nominate=True)[1], agent_address)
    transaction, check = ice.request(agent_address, nominate=False)
    ice.udp.send(check, agent_address)
    answer = await asyncio.wait_for(came.get(), 5)
    assert (answer.kind, answer.transaction) == (wire.SUCCESS, transaction)
    triggered = await asyncio.wait_for(came.get(), 5)
    assert triggered.kind == wire.REQUEST
    ice.answer(triggered, agent_address)
    nomination, data = ice.request(agent_address, nominate=True)
    ice.udp.send(data, agent_address)
    while (message := await asyncio.wait_for(came.get(), 5)).transaction != nomination:
        assert message.kind == wire.REQUEST
    assert message.kind == wire.SUCCESS


async def test_agent_answers_binding_requests_after_handover(stage):
    server, target = await stage.server(), stage.target()
    await stage.agent(server.url)
    relay = await stage.original_relay(
        server.url, target, ice=lambda: OriginalIce(controlling=True, lose_answers=2)
    )
    assert await relay.round_trip(b"late") == b"late"


async def test_lost_answer_to_our_nomination_is_replaced_by_the_first_heartbeat(stage):
    """An original agent answers no STUN after hand-over, so nothing else can tell us (15.6)."""
    server, target = await stage.server(), stage.target()

    class Forgetful(OriginalIce):
        def answer(self, message, source):
            if not message.nominates:
                super().answer(message, source)

    agent = await stage.original_agent(server.url, ice=lambda: Forgetful(controlling=False))
    relay = await stage.relay(server.url, target)
    assert await stage.client(relay).round_trip() == b"ping"
    assert len(agent.tunnels) == 1


@pytest.mark.parametrize("latency", [0.0, 0.08, 0.25], ids=["loopback", "160ms", "500ms"])
async def test_no_stray_stun_after_handover_to_a_base_agent(stage, latency):
    server, target = await stage.server(), stage.target()
    agent = await stage.original_agent(
        server.url, generation=BASE, ice=lambda: OriginalIce(controlling=False, latency=latency)
    )
    relay = await stage.relay(server.url, target)
    assert await stage.client(relay).round_trip() == b"ping"
    assert agent.tunnels[0].stray_stun == []
    assert agent.tunnels[0].closed is None


@pytest.mark.parametrize("latency", [0.0, 0.08, 0.25], ids=["loopback", "160ms", "500ms"])
async def test_no_stray_stun_after_handover_to_a_base_relay(stage, latency):
    server, target = await stage.server(), stage.target()
    await stage.agent(server.url)
    relay = await stage.original_relay(
        server.url,
        target,
        generation=BASE,
        ice=lambda: OriginalIce(controlling=True, latency=latency),
    )
    assert await relay.round_trip(b"data") == b"data"
    await asyncio.sleep(NO_MORE + latency)  # what was sent before the data has arrived by now
    assert relay.tunnels[0].stray_stun == []
    assert relay.tunnels[0].closed is None


# ---- 9 our relay with original agents ----------------------------------------------------------------


@by_name
@both_schemes
async def test_our_relay_works_with_original_agents_of_each_generation(stage, generation, scheme):
    server, target = await stage.original_server(), stage.target()
    url = server.http_url if scheme == "http" else server.quic_url
    agent = await stage.original_agent(url, generation=generation)
    relay = await stage.relay(url, target)
    client = stage.client(relay)
    for number in range(5):
        assert await client.round_trip(b"%d" % number) == b"%d" % number
    tunnel = agent.tunnels[0]
    assert relay.snapshot().tunnels[0].codec == generation.form
    assert (tunnel.closed, tunnel.undecodable) == (None, [])
    assert not agent.violations


@by_name
async def test_codec_told_apart_by_first_heartbeat(stage, generation):
    """Nothing in the answer names the generation, and `ver` is only a commit."""
    server, target = await stage.server(), stage.target()
    agent = await stage.original_agent(server.url, generation=generation, first_heartbeat=0.5)
    relay = await stage.relay(server.url, target)
    assert relay.snapshot().tunnels[0].codec == generation.form
    assert await stage.client(relay).round_trip() == b"ping"
    assert agent.tunnels[0].undecodable == []


@by_name
async def test_seed_of_the_answer_decides_the_codec(stage, generation):
    server, target = await stage.server(), stage.target()
    agent = await stage.original_agent(server.url, generation=generation, override_seed=0)
    relay = await stage.relay(server.url, target)
    assert relay.snapshot().tunnels[0].codec == "legacy"
    assert await stage.client(relay).round_trip() == b"ping"
    assert agent.asked[0].obfs_seed != 0
    assert agent.tunnels[0].undecodable == []


@by_name
async def test_relay_sends_nothing_before_the_agents_first_heartbeat_to_unknown_generation(stage, generation):
    server, target = await stage.server(), stage.target()
    agent = await stage.original_agent(server.url, generation=generation, first_heartbeat=0.7)
    relay = await stage.relay(server.url, target, up=False)
    client = stage.client(relay)
    client.send(b"early")
    assert await asyncio.wait_for(client.answers.get(), 10) == b"early"
    tunnel = agent.tunnels[0]
    assert tunnel.frames[0].at > tunnel.sent_at[0]


async def test_agent_that_stays_silent_is_spoken_to_in_the_newest_form(stage):
    server, target = await stage.server(), stage.target()
    agent = await stage.original_agent(server.url, generation=HEAD, first_heartbeat=60.0)
    relay = await stage.relay(server.url, target)
    assert await stage.client(relay).round_trip() == b"ping"
    assert agent.tunnels[0].undecodable == []


@by_name
async def test_heartbeat_first_towards_original_agents(stage, generation):
    server, target = await stage.server(), stage.target()
    agent = await stage.original_agent(server.url, generation=generation)
    relay = await stage.relay(server.url, target, up=False)
    assert await stage.client(relay).round_trip() == b"ping"
    first = agent.tunnels[0].frames[0]
    assert (first.flow, first.payload) == (0, b"")


async def test_max_payload_lowered_on_request_of_a_base_agent(stage):
    server, target = await stage.server(), stage.target()
    agent = await stage.original_agent(server.url, generation=BASE)
    relay = await stage.relay(server.url, target)
    client = stage.client(relay)
    assert [args.max_payload for args in agent.asked] == [1442, 1391]
    assert await client.round_trip(bytes(1391)) == bytes(1391)
    client.send(bytes(1392))
    assert await client.round_trip(b"after") == b"after"
    assert max(len(data) for data, _ in target.received) == 1391


async def test_max_payload_that_the_user_chose_is_not_lowered(stage):
    server, target = await stage.server(), stage.target()
    agent = await stage.original_agent(server.url, generation=BASE)
    relay = await stage.relay(server.url, target, up=False, max_payload=1400)
    await until(lambda: "please set <= 1391" in relay.rules[0].pool.reason)
    assert {args.max_payload for args in agent.asked} == {1400}


async def test_seed_of_requests_is_never_zero_by_default(stage):
    server, target = await stage.server(), stage.target()
    agent = await stage.original_agent(server.url)
    await stage.relay(server.url, target, min_channels=3, max_channels=3)
    seeds = [args.obfs_seed for args in agent.asked]
    assert 0 not in seeds
    assert len(set(seeds)) == len(seeds)


async def test_no_report_and_no_payload_on_flow_0_towards_originals(stage):
    server, target = await stage.server(), stage.target()
    agent = await stage.original_agent(server.url, generation=HEAD)
    relay = await stage.relay(server.url, target)
    client = stage.client(relay)
    tunnel = agent.tunnels[0]
    async with asyncio.timeout(10):
        while len(tunnel.heartbeats) < 3:  # two intervals, in which our own agents get reports
            assert await client.round_trip() == b"ping"
            await asyncio.sleep(0.2)
    assert tunnel.flow_0_payloads == []
    assert tunnel.undecodable == []
    assert not agent.violations
    row = relay.snapshot().tunnels[0]
    assert (row.loss_up, row.loss_down) == (None, None)
    gaps = [late - early for early, late in zip(tunnel.heartbeats, tunnel.heartbeats[1:], strict=False)]
    assert all(2.4 < gap < 3.9 for gap in gaps)


async def test_first_frame_of_an_original_is_no_downlink_to_anyone(stage):
    """Payload on flow 0 has no flow; it is dropped, and the tunnel stays."""
    server, target = await stage.server(), stage.target()
    agent = await stage.original_agent(server.url)
    relay = await stage.relay(server.url, target)
    client = stage.client(relay)
    assert await client.round_trip() == b"ping"
    agent.tunnels[0].send(0, b"to nobody")
    agent.tunnels[0].send(999_999, b"to nobody")
    assert await client.round_trip(b"next") == b"next"


@by_name
async def test_garbage_and_stun_do_not_end_a_tunnel_of_our_relay(stage, generation):
    server, target = await stage.server(), stage.target()
    agent = await stage.original_agent(server.url, generation=generation)
    relay = await stage.relay(server.url, target)
    client = stage.client(relay)
    ice = agent.tunnels[0].ice
    for junk in (
        b"",
        b"x",
        bytes(20),
        secrets.token_bytes(60),
        ice.request(("127.0.0.1", 9), nominate=False)[1],
    ):
        ice.udp.send(junk)
    assert await client.round_trip() == b"ping"
    assert len(agent.tunnels) == 1


async def test_sequence_numbers_and_padding_of_frames_are_accepted(stage):
    server, target = await stage.server(), stage.target()
    agent = await stage.original_agent(server.url)
    relay = await stage.relay(server.url, target)
    client = stage.client(relay)
    await client.round_trip()
    flow = agent.tunnels[0].frames[-1].flow
    agent.tunnels[0].send(flow, b"numbered", seq=300)
    assert await asyncio.wait_for(client.answers.get(), 5) == b"numbered"
    agent.tunnels[0].send(flow, b"padded", padding=b"\0" * 40)
    assert await asyncio.wait_for(client.answers.get(), 5) == b"padded"


async def test_empty_local_datagrams_are_not_relayed(stage):
    server, target = await stage.server(), stage.target()
    agent = await stage.original_agent(server.url)
    client = stage.client(await stage.relay(server.url, target))
    client.send(b"")
    assert await client.round_trip(b"full") == b"full"
    assert [frame.payload for frame in agent.tunnels[0].frames if frame.flow] == [b"full"]


async def test_flow_ids_fit_32_bits_and_are_not_0(stage):
    server, target = await stage.server(), stage.target()
    agent = await stage.original_agent(server.url)
    relay = await stage.relay(server.url, target)
    for _ in range(5):
        assert await stage.client(relay).round_trip() == b"ping"
    flows = {frame.flow for frame in agent.tunnels[0].frames if frame.payload}
    assert len(flows) == 5
    assert all(0 < flow < 1 << 32 for flow in flows)


async def test_flow_keeps_its_id_and_source_port_when_it_moves(stage):
    server, target = await stage.server(), stage.target()
    agent = await stage.original_agent(server.url, generation=HEAD)
    relay = await stage.relay(server.url, target, min_channels=2, max_channels=2)
    client = stage.client(relay)
    await client.round_trip(b"before")
    used = relay.snapshot().flows[0].tunnel
    await relay.handle(DrainTunnel(tunnel=used))
    await until(lambda: relay.snapshot().flows[0].tunnel not in (None, used))
    assert await client.round_trip(b"after") == b"after"
    flows = {frame.flow for tunnel in agent.tunnels for frame in tunnel.frames if frame.payload}
    assert len(flows) == 1
    assert len(target.ports) == 1


async def test_tunnel_of_a_vanished_agent_process_is_replaced(stage):
    server, target = await stage.server(), stage.target()
    agent = await stage.original_agent(server.url)
    relay = await stage.relay(server.url, target)
    client = stage.client(relay)
    await client.round_trip()
    agent.tunnels[0].close("gone")
    async with asyncio.timeout(15):
        while len(agent.tunnels) < 2:
            client.send(b"?")  # refused by ICMP, which is how both sides notice
            await asyncio.sleep(0.1)
    async with asyncio.timeout(10):
        while await client.round_trip(b"again") != b"again":
            pass


async def test_host_names_as_targets_are_refused_by_originals_and_explained(stage):
    server = await stage.server()
    await stage.original_agent(server.url)
    relay = await stage.relay(server.url, "dns.example:53", up=False)
    await until(lambda: relay.rules[0].pool.failures)
    assert "invalid socket address syntax" in relay.rules[0].pool.reason
    assert "need an agent of this program" in relay.rules[0].pool.reason


# ---- 9 our agent with original relays ----------------------------------------------------------------


@by_name
@both_schemes
async def test_our_agent_works_with_original_relays_of_each_generation(stage, generation, scheme):
    server, target = await stage.original_server(), stage.target()
    url = server.http_url if scheme == "http" else server.quic_url
    await stage.agent(url)
    relay = await stage.original_relay(url, target, generation=generation)
    for number in range(5):
        assert await relay.round_trip(b"%d" % number) == b"%d" % number
    tunnel = relay.tunnels[0]
    assert (tunnel.closed, tunnel.undecodable, tunnel.stray_stun) == (None, [], [])
    assert not relay.unknown_flows


@by_name
async def test_our_agent_speaks_legacy_when_a_relay_asks_for_it(stage, generation):
    server, target = await stage.server(), stage.target()
    await stage.agent(server.url)
    relay = await stage.original_relay(server.url, target, generation=generation, seed=0)
    assert await relay.round_trip(b"plain") == b"plain"
    assert relay.tunnels[0].undecodable == []


@pytest.mark.parametrize("generation", [TAGGED9, HEAD], ids=lambda each: each.name)
async def test_our_agent_works_with_relays_that_beat_late(stage, generation):
    """The tunnels that an original opens later send their first heartbeat within 3 s only."""
    server, target = await stage.server(), stage.target()
    await stage.agent(server.url)
    relay = await stage.original_relay(server.url, target, generation=generation)
    await relay.open_tunnel()
    await until(lambda: relay.tunnels[1].heartbeats)
    assert await relay.round_trip(b"second", tunnel=1) == b"second"
    assert relay.tunnels[1].undecodable == []


async def test_our_agent_beats_at_once_towards_a_head_relay(stage):
    server, target = await stage.server(), stage.target()
    await stage.agent(server.url)
    relay = await stage.original_relay(server.url, target)
    tunnel = await relay.open_tunnel()  # this one is silent for a while
    await until(lambda: tunnel.heartbeats)
    assert tunnel.sent_at == []


@by_name
async def test_heartbeat_before_data_towards_original_relays(stage, generation):
    server, target = await stage.server(), stage.target()
    await stage.agent(server.url)
    relay = await stage.original_relay(server.url, target, generation=generation)
    await relay.round_trip(b"data")
    first = relay.tunnels[0].frames[0]
    assert (first.flow, first.payload) == (0, b"")


async def test_no_extension_and_no_report_towards_original_relays(stage):
    server, target = await stage.server(), stage.target()
    await stage.agent(server.url)
    relay = await stage.original_relay(server.url, target)
    tunnel = relay.tunnels[0]
    async with asyncio.timeout(10):
        while len(tunnel.heartbeats) < 3:
            assert await relay.round_trip(b"data") == b"data"
            await asyncio.sleep(0.2)
    assert not relay.last_answer.args.udp_relay.HasField("ext")
    assert tunnel.flow_0_payloads == []
    gaps = [late - early for early, late in zip(tunnel.heartbeats, tunnel.heartbeats[1:], strict=False)]
    assert all(2.4 < gap < 3.9 for gap in gaps)


async def test_answer_echoes_what_the_relay_asked(stage):
    server = await stage.server()
    await stage.agent(server.url)
    fields = {"idle_timeout_secs": 7, "max_payload": 1000, "obfs_seed": 0x12345678}
    answer = (await gathered_by_our_agent(stage, server.url, "8.8.8.8:53", **fields)).args.udp_relay
    assert answer.target_addr == "8.8.8.8:53"
    assert {name: getattr(answer, name) for name in fields} == fields
    assert not answer.HasField("hard_nat")


@pytest.mark.parametrize(("seed", "asked", "limit"), [(7, 1453, 1442), (0, 1445, 1444), (7, 65535, 1442)])
async def test_too_large_payload_is_refused_in_the_words_of_the_original(stage, seed, asked, limit):
    server = await stage.server()
    await stage.agent(server.url)
    answer = await gathered_by_our_agent(stage, server.url, obfs_seed=seed, max_payload=asked)
    text = f"udp max payload [{asked}] exceed p2p limit [{limit}], please set <= {limit}"
    assert (answer.status.code, answer.status.reason) == (-1, text)


@pytest.mark.parametrize(("seed", "asked"), [(7, 1391), (7, 1443), (7, 1442), (0, 1444), (7, 0)])
async def test_default_payloads_of_all_generations_are_accepted(stage, seed, asked):
    server = await stage.server()
    await stage.agent(server.url)
    answer = await gathered_by_our_agent(stage, server.url, obfs_seed=seed, max_payload=asked)
    assert answer.WhichOneof("open_p2p_rsp") == "args"


@by_name
async def test_largest_payload_of_each_generation_passes(stage, generation):
    server, target = await stage.server(), stage.target()
    await stage.agent(server.url)
    relay = await stage.original_relay(server.url, target, generation=generation, seed=7)
    largest = bytes(generation.payload_limit(7))
    assert await relay.round_trip(largest) == largest


async def test_answers_above_the_agreed_payload_are_dropped(stage):
    server, target = await stage.server(), stage.target()
    target.reply = lambda _data: [bytes(501), bytes(500)]
    await stage.agent(server.url)
    relay = await stage.original_relay(server.url, target, max_payload=500)
    assert await relay.round_trip(b"?") == bytes(500)


async def test_empty_payload_is_forwarded_and_empty_answers_are_not(stage):
    server, target = await stage.server(), stage.target()
    target.reply = lambda _data: [b"", b"full"]
    await stage.agent(server.url)
    relay = await stage.original_relay(server.url, target)
    assert await relay.round_trip(b"") == b"full"
    assert [data for data, _ in target.received] == [b""]
    assert [frame.payload for frame in relay.tunnels[0].frames if frame.flow] == [b"full"]


async def test_sequence_numbers_and_padding_are_accepted_by_our_agent(stage):
    server, target = await stage.server(), stage.target()
    await stage.agent(server.url)
    relay = await stage.original_relay(server.url, target)
    flow = relay.flow("a")
    relay.tunnels[0].send(flow, b"numbered", seq=2**64 - 1)
    assert await asyncio.wait_for(relay.answers[flow].get(), 5) == b"numbered"
    relay.tunnels[0].send(flow, b"padded", padding=b"\0" * 40)
    assert await asyncio.wait_for(relay.answers[flow].get(), 5) == b"padded"


@by_name
async def test_garbage_does_not_end_a_tunnel_of_our_agent(stage, generation):
    server, target = await stage.server(), stage.target()
    await stage.agent(server.url)
    relay = await stage.original_relay(server.url, target, generation=generation)
    await relay.round_trip(b"before")
    for junk in (b"", b"x", bytes(20), secrets.token_bytes(60)):
        relay.tunnels[0].ice.udp.send(junk)
    assert await relay.round_trip(b"after") == b"after"


async def test_stable_source_port_over_two_tunnels_of_one_original_relay(stage):
    server, target = await stage.server(), stage.target()
    await stage.agent(server.url)
    relay = await stage.original_relay(server.url, target)
    await relay.open_tunnel()
    assert await relay.round_trip(b"one", tunnel=0) == b"one"
    assert await relay.round_trip(b"two", tunnel=1) == b"two"
    assert len(target.ports) == 1


async def test_last_uplink_tunnel_gets_the_answers(stage):
    server, target = await stage.server(), stage.target()
    await stage.agent(server.url)
    relay = await stage.original_relay(server.url, target)
    await relay.open_tunnel()
    for number in (1, 0, 1):
        mark = b"by tunnel %d" % number
        before = len(relay.tunnels[number].frames)
        await relay.round_trip(mark, tunnel=number)
        assert [frame.payload for frame in relay.tunnels[number].frames[before:] if frame.flow] == [mark]


async def test_two_original_relays_with_the_same_flow_id_and_target_do_not_share_answers(stage):
    server, target = await stage.server(), stage.target()
    await stage.agent(server.url)
    one = await stage.original_relay(server.url, target)
    two = await stage.original_relay(
        server.url, target, ice=lambda: OriginalIce(controlling=True, host="127.0.0.2")
    )
    assert one.flow("a") == two.flow("a") == 1
    answers = await asyncio.gather(
        one.round_trip(b"for one", source="a"), two.round_trip(b"for two", source="a")
    )
    assert answers == [b"for one", b"for two"]
    assert len(target.ports) == 2


async def test_tunnels_outlive_the_signalling_session_they_were_opened_in(stage):
    server, target = await stage.original_server(), stage.target()
    await stage.agent(server.http_url)
    relay = await stage.original_relay(server.http_url, target)
    await relay.round_trip(b"before")
    await (await server.agent(1)).packets.leave()
    await server.agent(2)
    assert await relay.round_trip(b"after") == b"after"
    assert len(target.ports) == 1
