"""Egress rules: what is read, what is refused, and what may be reached."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.agent.egress import EgressPolicy, EgressRule, parse_egress_rule
from rtun_core.wire.address import Address


def policy(*, allow=(), deny=()):
    return EgressPolicy(
        tuple(parse_egress_rule(text) for text in allow), tuple(parse_egress_rule(text) for text in deny)
    )


@pytest.mark.parametrize(
    ("text", "network", "ports"),
    [
        ("10.0.0.0/8", "10.0.0.0/8", ()),
        ("8.8.8.8:53", "8.8.8.8/32", ((53, 53),)),
        ("8.8.8.8", "8.8.8.8/32", ()),
        ("10.0.0.0/8:53,1000-2000", "10.0.0.0/8", ((53, 53), (1000, 2000))),
        ("[2001:db8::]/32:53", "2001:db8::/32", ((53, 53),)),
        ("[2001:db8::/32]:53", "2001:db8::/32", ((53, 53),)),
        ("[2001:db8::1]", "2001:db8::1/128", ()),
        ("2001:db8::/32", "2001:db8::/32", ()),
        ("[::ffff:127.0.0.0/104]:53", "127.0.0.0/8", ((53, 53),)),
        ("0.0.0.0/0:1-65535", "0.0.0.0/0", ((1, 65535),)),
    ],
)
def test_rules_are_read(text, network, ports):
    rule = parse_egress_rule(text)
    assert rule == EgressRule(ipaddress.ip_network(network), ports)
    assert parse_egress_rule(str(rule)) == rule


@pytest.mark.parametrize(("text", "ports"), [("*", ()), ("*:53", ((53, 53),))])
def test_a_star_is_every_address(text, ports):
    assert parse_egress_rule(text) == EgressRule(None, ports)
    assert str(parse_egress_rule(text)) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "accepted: CIDR"),
        ("dns.example:53", "'dns.example'"),
        ("10.0.0.0/33", "'10.0.0.0/33'"),
        ("10.0.0.1/8", "did you mean 10.0.0.0/8?"),
        ("[2001:db8::1]/32", "did you mean 2001:db8::/32?"),
        ("2001:db8::1:53", "without brackets"),
        ("2001:db8::/32:53", "without brackets"),
        ("[2001:db8::1", "without brackets"),
        ("[2001:db8::/32]/32", "'2001:db8::/32/32'"),
        ("8.8.8.8:", "the ports ''"),
        ("8.8.8.8:0", "the ports '0'"),
        ("8.8.8.8:65536", "from 1 to 65535"),
        ("8.8.8.8:20-10", "the ports '20-10'"),
        ("8.8.8.8:53,", "the ports ''"),
        ("8.8.8.8:dns", "the ports 'dns'"),
        ("*:-1", "the ports '-1'"),
    ],
)
def test_bad_rules_get_one_sentence(text, says):
    with pytest.raises(ValueError) as caught:
        parse_egress_rule(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(alphabet="0123456789abf.:/[]*,-%x", max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        rule = parse_egress_rule(text)
    except ValueError:
        return
    assert parse_egress_rule(str(rule)) == rule


def test_without_rules_everything_is_allowed():
    assert EgressPolicy().permits(Address("127.0.0.1", 53)) is None
    assert EgressPolicy().permits(Address("2001:db8::1", 1)) is None


def test_deny_wins_over_allow():
    rules = policy(allow=["10.0.0.0/8"], deny=["10.1.0.0/16:53"])
    assert rules.permits(Address("10.1.0.1", 54)) is None
    reason = rules.permits(Address("10.1.0.1", 53))
    assert reason == "target 10.1.0.1:53 is denied by the egress rule 10.1.0.0/16:53 of this agent"


def test_with_an_allow_rule_the_rest_is_refused():
    rules = policy(allow=["*:53", "[2001:db8::/32]"])
    assert rules.permits(Address("192.0.2.1", 53)) is None
    assert rules.permits(Address("2001:db8::5", 99)) is None
    reason = rules.permits(Address("192.0.2.1", 54))
    assert reason == "target 192.0.2.1:54 is not among the targets that this agent allows"


def test_a_name_is_never_permitted():
    assert "only an IP address" in (EgressPolicy().permits(Address("dns.example", 53)) or "")


@pytest.mark.parametrize("host", ["::ffff:127.0.0.1", "0.0.0.0", "127.0.0.1", "::ffff:0.0.0.0"])
def test_no_spelling_of_this_host_gets_around_a_rule(host):
    assert policy(deny=["127.0.0.0/8"]).permits(Address(host, 53)) is not None


def test_the_unspecified_ipv6_address_is_loopback():
    assert policy(deny=["[::1]"]).permits(Address("::", 53)) is not None


def test_a_mapped_address_is_allowed_as_ipv4():
    assert policy(allow=["192.0.2.0/24"]).permits(Address("::ffff:192.0.2.1", 53)) is None
