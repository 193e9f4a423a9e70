import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.wire.address import Address
from rtun_core.wire.relay_rule import RelayRule, parse_relay_rule


@pytest.mark.parametrize(
    ("text", "listen", "target"),
    [
        ("127.0.0.1:53?to=8.8.8.8:53", "127.0.0.1:53", "8.8.8.8:53"),
        ("udp://0.0.0.0:0?to=8.8.8.8:53", "0.0.0.0:0", "8.8.8.8:53"),
        ("UDP://127.0.0.1:53?TO=8.8.8.8:53", "127.0.0.1:53", "8.8.8.8:53"),
        ("udp://127.0.0.1:53/?to=8.8.8.8%3A53", "127.0.0.1:53", "8.8.8.8:53"),
        ("udp://[::1]:53?to=[2001:DB8::1]:53", "[::1]:53", "[2001:db8::1]:53"),
        ("[::]:53?to=%5B2001:db8::1%5D:53", "[::]:53", "[2001:db8::1]:53"),
        ("127.0.0.1:53?to=dns.example:53", "127.0.0.1:53", "dns.example:53"),
    ],
)
def test_accepts(text: str, listen: str, target: str) -> None:
    rule = parse_relay_rule(text)
    assert (str(rule.listen), str(rule.target)) == (listen, target)
    assert str(rule) == f"udp://{listen}?to={target}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "bad listen address"),
        ("tcp://127.0.0.1:53?to=8.8.8.8:53", "the protocol 'tcp'"),
        ("://127.0.0.1:53?to=8.8.8.8:53", "the protocol ''"),
        ("localhost:53?to=8.8.8.8:53", "bad listen address"),
        ("127.0.0.1?to=8.8.8.8:53", "bad listen address.*no port"),
        ("::1:53?to=8.8.8.8:53", "bad listen address.*brackets"),
        ("127.0.0.1:53/x?to=8.8.8.8:53", "bad listen address"),
        ("127.0.0.1:53", "exactly one 'to'"),
        ("127.0.0.1:53?", "exactly one 'to'"),
        ("127.0.0.1:53?too=8.8.8.8:53", "exactly one 'to'"),
        ("127.0.0.1:53?to=8.8.8.8:53&to=8.8.4.4:53", "exactly one 'to'"),
        ("127.0.0.1:53?to=8.8.8.8:53&x=1", "exactly one 'to'"),
        ("127.0.0.1:53?to=", "bad target"),
        ("127.0.0.1:53?to=8.8.8.8", "bad target.*no port"),
        ("127.0.0.1:53?to=8.8.8.8:0", "target port 0"),
        ("127.0.0.1:53?to=8.8.8.8:65536", "bad target"),
        ("127.0.0.1:53?to=%ff:53", "bad target"),
    ],
)
def test_rejects(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_relay_rule(text)
    assert str(caught.value).startswith(f"the rule {text!r} has ")
    assert "accepted: " in str(caught.value)


literals = st.ip_addresses().map(str).filter(lambda host: "%" not in host)
listens = st.builds(Address, literals, st.integers(0, 65535))
targets = st.builds(Address, literals | st.sampled_from(["a", "dns.example", "x_y.z"]), st.integers(1, 65535))


@given(st.builds(RelayRule, listens, targets))
def test_print_and_parse(rule: RelayRule) -> None:
    assert parse_relay_rule(str(rule)) == rule


@given(st.text() | st.text().map("127.0.0.1:1?to={}".format) | st.text(alphabet="udp:/?to=[]%&0."))
def test_any_text_is_a_rule_or_a_value_error(text: str) -> None:
    try:
        rule = parse_relay_rule(text)
    except ValueError:
        return
    assert parse_relay_rule(str(rule)) == rule
