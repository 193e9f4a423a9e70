from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.errors import LocalProtocolError
from rtun_core.wire.address import Address
from rtun_core.wire.signal_url import SignalUrl, parse_signal_url

TOKEN = "AAABi8/laADqAx7zedtTcFUXU4ayoaUQBX8KzYhIwGyEScfM3PUNxA"


@pytest.mark.parametrize(
    ("text", "url", "printed"),
    [
        ("http://h.example", SignalUrl("http", "h.example", 80, "", ""), "http://h.example"),
        ("https://H.example:443/p/", SignalUrl("https", "h.example", 443, "/p/", ""), "https://h.example/p/"),
        ("HTTP://192.0.2.1:8080", SignalUrl("http", "192.0.2.1", 8080, "", ""), "http://192.0.2.1:8080"),
        ("https://[2001:DB8::1]", SignalUrl("https", "2001:db8::1", 443, "", ""), "https://[2001:db8::1]"),
        ("quic://[::1]:19888", SignalUrl("quic", "::1", 19888, "", ""), "quic://[::1]:19888"),
        ("quic://h:80?x=1", SignalUrl("quic", "h", 80, "", "x=1"), "quic://h:80?x=1"),
        ("http://h:443/?a=b", SignalUrl("http", "h", 443, "/", "a=b"), "http://h:443/?a=b"),
    ],
)
def test_parse_and_print(text: str, url: SignalUrl, printed: str) -> None:
    assert parse_signal_url(text) == url
    assert str(url) == printed
    assert parse_signal_url(printed) == url


def test_properties() -> None:
    assert parse_signal_url("quic://[::1]:5").address == Address("::1", 5)
    assert parse_signal_url("quic://h:5").is_quic
    assert not parse_signal_url("https://h").is_quic


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "another form"),
        ("h:80", "another form"),
        ("ws://h", "another form"),
        ("http:///p", "another form"),
        ("quic://h", "no port"),
        ("quic://[::1]", "no port"),
        ("http://h:", "the port ''"),
        ("http://h:65536", "the port '65536'"),
        ("quic://h:0", "the port 0"),
        ("http://:80", "no host"),
        ("http://::1/", "without brackets"),
        ("http://[::1", "without brackets|the host"),
        ("http://[::1%25eth0]/", "the host"),
        ("http://999.1.1.1", "the host"),
        ("http://a b/", "space"),
        ("http://h/\n", "space"),
        ("http://h/é", "space"),
        ("http://h/#top", "'#'"),
    ],
)
def test_rejects(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_signal_url(text)
    assert "accepted: " in str(caught.value)


@pytest.mark.parametrize("text", ["http://me:hush@h/", "http://h/?token=hush", "http://h/?a=1&tok%65n=hush"])
def test_secrets_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="contains") as caught:
        parse_signal_url(text)
    assert "hush" not in str(caught.value)


def test_endpoints_of_the_field() -> None:
    url = parse_signal_url("http://h:8080/pre/?k=v")
    params = {
        "agent": "relay-e2e",
        "token": TOKEN,
        "instance_id": None,
        "ver": "0.2.0.8af2851",
        "expire_in": "600000",
    }
    query = f"agent=relay-e2e&token={TOKEN.replace('/', '%2F')}&ver=0.2.0.8af2851&expire_in=600000"
    assert url.endpoint("/pub/ws", params) == f"http://h:8080/pre/pub/ws?k=v&{query}"
    assert url.ws_endpoint("/pub/ws", params) == f"ws://h:8080/pre/pub/ws?k=v&{query}"
    assert TOKEN not in str(url)


def test_endpoints_without_parameters() -> None:
    assert parse_signal_url("https://[::1]:443").endpoint("/pub/sessions", {}) == "https://[::1]/pub/sessions"
    assert parse_signal_url("https://h/?a=1").ws_endpoint("/sub/ws", {"b": None}) == "wss://h/sub/ws?a=1"


def test_our_parameters_win_over_the_query_of_the_url() -> None:
    url = parse_signal_url("http://h?a=1&b=2&&a=3")
    assert url.endpoint("/x", {"a": "+ /&"}) == "http://h/x?b=2&a=%2B+%2F%26"


def test_quic_has_no_endpoints() -> None:
    url = parse_signal_url("quic://h:1")
    for build in (url.endpoint, url.ws_endpoint):
        with pytest.raises(LocalProtocolError, match="no HTTP endpoint"):
            build("/pub/ws", {})


@given(st.dictionaries(st.text(min_size=1), st.none() | st.text(), max_size=4))
def test_parameters_survive_encoding(params: dict[str, str | None]) -> None:
    url = parse_signal_url("http://h/p").endpoint("/e", params)
    given_ = {key: value for key, value in params.items() if value is not None}
    assert dict(parse_qsl(urlsplit(url).query, keep_blank_values=True)) == given_


ports = st.integers(1, 65535)
hosts = st.ip_addresses().map(str).filter(lambda host: "%" not in host) | st.just("a-b.example")
paths = st.from_regex(r"(/[A-Za-z0-9._~%-]{0,5}){0,3}", fullmatch=True)
queries = st.from_regex(r"([a-s]=[A-Za-z0-9%+]{0,5}(&[a-s]=x){0,2})?", fullmatch=True)


@given(st.builds(SignalUrl, st.sampled_from(["http", "https", "quic"]), hosts, ports, paths, queries))
def test_print_and_parse(url: SignalUrl) -> None:
    assert parse_signal_url(str(url)) == url


@given(
    st.text() | st.text().map("http://{}".format) | st.text(alphabet="[]:/?#@%a1.").map("quic://{}".format)
)
def test_any_text_is_a_url_or_a_value_error(text: str) -> None:
    try:
        url = parse_signal_url(text)
    except ValueError:
        return
    assert parse_signal_url(str(url)) == url
