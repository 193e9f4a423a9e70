"""Which relay requests are accepted, and what the refused ones are told."""

import asyncio

import pytest

from rtun_core.agent import relay_request
from rtun_core.agent.egress import EgressPolicy, parse_egress_rule
from rtun_core.agent.relay_request import RelayRequest, check_request
from rtun_core.errors import RtunError
from rtun_core.wire.address import Address
from rtun_core.wire.pb import rtun_pb2 as pb

ICE = pb.P2PIceArgs(
    ufrag="AbCdEfGh", pwd="01234567", candidates=["candidate:1 1 udp 2130706175 192.0.2.10 40000 typ host"]
)
ANYTHING = EgressPolicy()


def args(target="192.0.2.1:53", **fields):
    return pb.UdpRelayArgs(**{"ice": ICE, "target_addr": target, "obfs_seed": 7} | fields)


async def refusal(request, egress=ANYTHING):
    with pytest.raises(RtunError) as caught:
        await check_request(request, egress)
    return str(caught.value)


def resolver(monkeypatch, hosts):
    """Let every name stand for `hosts`."""

    async def getaddrinfo(host, port, *, type):  # noqa: A002  (the loop's own name)
        if isinstance(hosts, Exception):
            raise hosts
        return [(0, type, 17, "", (address, port)) for address in hosts]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


async def test_a_plain_request_of_a_foreign_relay():
    request = await check_request(args(idle_timeout_secs=30, max_payload=1442), ANYTHING)
    assert isinstance(request, RelayRequest)
    assert request.target == Address("192.0.2.1", 53)
    assert request.idle_timeout == 30
    assert (request.terms.seed, request.terms.max_payload, request.terms.agreed) == (7, 1442, False)
    assert (request.session_id, request.features, request.reports) == (None, 0, False)
    assert request.remote.ufrag == "AbCdEfGh"
    assert not request.hard_nat


async def test_an_idle_time_out_of_0_is_the_default():
    assert (await check_request(args(), ANYTHING)).idle_timeout == 120


async def test_the_extension_is_read_and_unknown_features_are_left_out():
    ext = pb.RelayExtension(session_id=b"12345678", features=0xFF)
    request = await check_request(args(ext=ext), ANYTHING)
    assert (request.session_id, request.features) == (b"12345678", 1)
    assert request.terms.agreed
    assert request.reports


async def test_an_extension_without_session_id_gives_none():
    request = await check_request(args(ext=pb.RelayExtension()), ANYTHING)
    assert request.session_id is None
    assert request.terms.agreed


async def test_a_long_session_id_is_refused():
    ext = pb.RelayExtension(session_id=bytes(65))
    assert "65 bytes; accepted: up to 64" in await refusal(args(ext=ext))


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"obfs_seed": 0, "max_payload": 1445}, 1444),
        ({"max_payload": 1444}, 1442),
        ({"max_payload": 0xFFFFFFFF}, 1442),
        ({"max_payload": 1443, "ext": pb.RelayExtension()}, 1442),
    ],
)
async def test_a_payload_that_does_not_fit_is_refused(fields, limit):
    says = await refusal(args(**fields))
    assert says == (
        f"udp max payload [{fields['max_payload']}] exceed p2p limit [{limit}], please set <= {limit}"
    )


@pytest.mark.parametrize("fields", [{"obfs_seed": 0, "max_payload": 1444}, {"max_payload": 1443}])
async def test_the_largest_payload_of_a_shorter_header_is_accepted(fields):
    request = await check_request(args(**fields), ANYTHING)
    assert request.terms.max_payload == fields["max_payload"]


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("", "udp target '' has no port"),
        ("192.0.2.1", "has no port"),
        ("192.0.2.1:0", "has the port 0"),
        ("192.0.2.1:65536", "'65536'"),
        ("192.0.2.256:53", "'192.0.2.256'"),
        ("2001:db8::1:53", "without brackets"),
        ("bad host:53", "'bad host'"),
    ],
)
async def test_bad_targets_are_refused(target, says):
    assert says in await refusal(args(target))


async def test_an_ipv6_target_is_accepted():
    assert (await check_request(args("[2001:db8::1]:53"), ANYTHING)).target == Address("2001:db8::1", 53)


async def test_missing_credentials_are_refused():
    assert "ufrag" in await refusal(args(ice=pb.P2PIceArgs(pwd="x")))


async def test_a_host_name_is_looked_up(monkeypatch):
    resolver(monkeypatch, ["192.0.2.7", "192.0.2.8"])
    assert (await check_request(args("dns.example:53"), ANYTHING)).target == Address("192.0.2.7", 53)


async def test_the_first_permitted_address_of_a_name_is_taken(monkeypatch):
    resolver(monkeypatch, ["127.0.0.1", "192.0.2.8"])
    egress = EgressPolicy(deny=(parse_egress_rule("127.0.0.0/8"),))
    assert (await check_request(args("dns.example:53"), egress)).target == Address("192.0.2.8", 53)


async def test_a_name_with_only_denied_addresses_is_refused(monkeypatch):
    resolver(monkeypatch, ["127.0.0.1"])
    egress = EgressPolicy(deny=(parse_egress_rule("127.0.0.0/8"),))
    assert "127.0.0.1:53 is denied by the egress rule 127.0.0.0/8" in await refusal(
        args("x.example:53"), egress
    )


async def test_a_denied_address_is_refused():
    egress = EgressPolicy(allow=(parse_egress_rule("*:54"),))
    assert "not among the targets" in await refusal(args(), egress)


@pytest.mark.parametrize("error", [OSError("no such name"), UnicodeError("label too long")])
async def test_a_name_that_does_not_resolve_is_refused(monkeypatch, error):
    resolver(monkeypatch, error)
    assert f"could not be looked up: {error}" in await refusal(args("x.example:53"))


async def test_a_name_without_addresses_is_refused(monkeypatch):
    resolver(monkeypatch, [])
    assert "has no address" in await refusal(args("x.example:53"))


async def test_a_slow_lookup_is_given_up(monkeypatch):
    async def never(*_args, **_options):
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never)
    monkeypatch.setattr(relay_request, "RESOLVE_TIMEOUT", 0.01)
    assert "could not be looked up in 0.01 s" in await refusal(args("x.example:53"))


async def test_hard_nat_is_noticed():
    request = await check_request(args(hard_nat=pb.P2PHardNatArgs(mode=2)), ANYTHING)
    assert request.hard_nat
