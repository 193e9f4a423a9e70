import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.wire.address import Address, is_ip, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1:53", Address("192.0.2.1", 53)),
        ("192.0.2.1:0", Address("192.0.2.1", 0)),
        ("[2001:DB8:0::1]:65535", Address("2001:db8::1", 65535)),
        ("dns.example:53", Address("dns.example", 53)),
        ("dns.example.:53", Address("dns.example.", 53)),
        ("_x-y.z:1", Address("_x-y.z", 1)),
        ("4ever:1", Address("4ever", 1)),
    ],
)
def test_accepts(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no port"),
        ("192.0.2.1", "no port"),
        (":53", "no host"),
        ("192.0.2.1:", "the port ''"),
        ("192.0.2.1:65536", "the port '65536'"),
        ("192.0.2.1:-1", "the port '-1'"),
        ("192.0.2.1:\uff15\uff13", "the port"),
        ("192.0.2.1:000080", "the port '000080'"),
        ("192.0.2:53", "the host '192.0.2'"),
        ("192.0.2.256:53", "the host"),
        ("[192.0.2.1]:53", "the host"),
        ("::1:53", "without brackets"),
        ("[::1]", "the port '1]'"),
        ("[::1]x:53", "without brackets"),
        ("[]:53", "the host ''"),
        ("[fe80::1%eth0]:53", "the host 'fe80::1%eth0'"),
        ("-a:53", "the host"),
        ("a-.b:53", "the host"),
        ("a..b:53", "the host"),
        ("a b:53", "the host"),
        ("a\n:53", "the host"),
        ("bücher.example:53", "the host"),
        ("a" * 64 + ":53", "the host"),
        ("a." * 127 + "a:53", "the host"),
    ],
)
def test_rejects(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("[", r"\[")) as caught:
        parse_address(text)
    assert "accepted: " in str(caught.value)


def test_names_can_be_refused() -> None:
    assert parse_address("[::1]:53", names=False) == Address("::1", 53)
    with pytest.raises(ValueError, match="accepted: IP:PORT or"):
        parse_address("localhost:53", names=False)


def test_kinds() -> None:
    assert Address("::1", 1).is_ip
    assert Address("::1", 1).is_ipv6
    assert Address("192.0.2.1", 1).is_ip
    assert not Address("192.0.2.1", 1).is_ipv6
    assert not Address("a.example", 1).is_ip
    assert not is_ip("fe80::1%eth0")
    assert not is_ip("[::1]")


literals = st.ip_addresses().map(str).filter(lambda host: "%" not in host)
labels = st.from_regex(r"[a-z][a-z0-9_-]{0,8}[a-z0-9]", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=4).map(".".join)


@given(st.builds(Address, literals | names, st.integers(0, 65535)))
def test_print_and_parse(address: Address) -> None:
    assert parse_address(str(address)) == address


@given(st.text() | st.text(alphabet="[]:.%a1-"))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert parse_address(str(address)) == address
