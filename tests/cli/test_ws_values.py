import pytest

from rtun_core.cli.ws_values import (
    MAX_HEADER_FILE,
    parse_bind,
    parse_headers,
    parse_listen,
    parse_target,
    parse_targets,
    parse_tunnel_url,
)
from rtun_core.errors import RtunError, UsageError
from rtun_core.wire.address import Address

EVERYWHERE = "0.0.0.0"


@pytest.mark.parametrize(
    ("text", "bind", "address"),
    [
        ("8080", None, Address(EVERYWHERE, 8080)),
        (":8080", None, Address(EVERYWHERE, 8080)),
        ("0", None, Address(EVERYWHERE, 0)),
        ("192.0.2.1:8080", None, Address("192.0.2.1", 8080)),
        ("localhost:8080", None, Address("127.0.0.1", 8080)),
        ("[::1]:8080", None, Address("::1", 8080)),
        ("8080", "192.0.2.1", Address("192.0.2.1", 8080)),
        (":8080", "::", Address("::", 8080)),
        ("192.0.2.1:8080", "192.0.2.1", Address("192.0.2.1", 8080)),
    ],
)
def test_listen(text, bind, address):
    assert parse_listen(text, EVERYWHERE, bind) == address


@pytest.mark.parametrize(
    "text", ["", "x", "99999", "-1", "host.example:1", "::1", "1:2:3", "8080 ", "ssh", ":ssh"]
)
def test_what_is_no_place_to_listen(text):
    with pytest.raises(UsageError, match=r"^LISTEN: .*; accepted: "):
        parse_listen(text, EVERYWHERE)


def test_listen_and_bind_that_disagree():
    with pytest.raises(UsageError, match=r"^--bind: 192\.0\.2\.1 is not the host of "):
        parse_listen("127.0.0.1:1", EVERYWHERE, "192.0.2.1")


@pytest.mark.parametrize(
    ("text", "host"), [("192.0.2.1", "192.0.2.1"), ("::", "::"), ("[2001:DB8::1]", "2001:db8::1")]
)
def test_bind(text, host):
    assert parse_bind(text) == host


@pytest.mark.parametrize("text", ["", "localhost", "1", "192.0.2.1:80", "fe80::1%eth0", "[::1"])
def test_what_cannot_be_bound(text):
    with pytest.raises(UsageError, match=r"^--bind: .* is no IP address; accepted: an IPv4 or IPv6 address$"):
        parse_bind(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("22", Address("127.0.0.1", 22)),
        (":22", Address("127.0.0.1", 22)),
        ("db.example:5432", Address("db.example", 5432)),
        ("[::1]:22", Address("::1", 22)),
        ("db.example:ssh", Address("db.example", 22)),
        (":ssh", Address("127.0.0.1", 22)),
    ],
)
def test_target(text, address):
    assert parse_target(text) == address


@pytest.mark.parametrize(
    "text", ["", "0", "h:0", "h", "ssh", "99999", "::1", "h:", "h:no-such-service", "h:2²"]
)
def test_what_is_no_target(text):
    with pytest.raises(UsageError, match=r"^TARGET: .*; accepted: "):
        parse_target(text)


def test_targets_by_path():
    assert parse_targets("22", ()) == {"": Address("127.0.0.1", 22)}
    assert parse_targets("none", ("/=22", "/a/b-c.d/=db.example:1")) == {
        "/": Address("127.0.0.1", 22),
        "/a/b-c.d/": Address("db.example", 1),
    }


@pytest.mark.parametrize(
    ("default", "paths", "sentence"),
    [
        ("none", (), "TARGET: 'none' leaves nothing to serve; accepted: HOST:PORT, or at least one --path"),
        ("22", ("a=22",), "--path: 'a=22' is no path and target; accepted: /PATH=HOST:PORT"),
        ("22", ("/a",), "--path: '/a' is no path and target"),
        ("22", ("/a//b=22",), "--path: '/a//b=22' is no path"),
        ("22", ("/../b=22",), "--path: '/../b=22' is no path"),
        ("22", ("/a?b=22",), "--path: '/a[?]b=22' is no path"),
        ("22", ("/a%20b=22",), "--path: '/a%20b=22' is no path"),
        ("22", ("/a=22", "/a=23"), "--path: /a has two targets; accepted: one for each path"),
        ("22", ("/a=x",), "--path: 'x' has no port"),
    ],
)
def test_targets_that_make_no_sense(default, paths, sentence):
    with pytest.raises(UsageError, match=f"^{sentence}"):
        parse_targets(default, paths)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("ws://h", "ws://h/"),
        ("WSS://h.example:8443", "wss://h.example:8443/"),
        ("https://h/a%2Fb/c?d=%20&e", "https://h/a%2Fb/c?d=%20&e"),
        ("http://[::1]:80/?x", "http://[::1]/?x"),
    ],
)
def test_url(text, url):
    assert str(parse_tunnel_url(text)) == url


@pytest.mark.parametrize(
    "text",
    ["", "h", "h:80", "ftp://h", "ws://", "ws:///x", "ws://h:0", "ws://h:x", "ws://h:99999", "ws://h/#f",
     "ws://h/a b", "ws://::1/", "ws://h_/é", "ws://h/\n"],
)  # fmt: skip
def test_what_is_no_url(text):
    with pytest.raises(UsageError, match=r"^URL: .*; accepted: "):
        parse_tunnel_url(text)


@pytest.mark.parametrize("text", ["wss://user:hunter2@h/", "ftp://user:hunter2@h", "wss://hunter2@h/ x"])
def test_a_password_in_the_url_is_refused_and_not_repeated(text):
    with pytest.raises(UsageError, match=r"^URL: it contains a user or password; ") as caught:
        parse_tunnel_url(text)
    assert "hunter2" not in str(caught.value)


def test_headers(tmp_path):
    file = tmp_path / "headers"
    file.write_text("Cookie: a=b; c=d\r\n\nHost:gw.example\n")
    assert parse_headers(("X-A:1", f"@{file}", "x-empty:")) == (
        ("X-A", "1"),
        ("Cookie", "a=b; c=d"),
        ("Host", "gw.example"),
        ("x-empty", ""),
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Authorization", "a header has no colon; accepted: NAME:VALUE or @FILE"),
        (":x", "'' is no name of a header"),
        ("a b:x", "'a b' is no name of a header"),
        ("X-A:hunter2\r\nX-B: 1", "the value of X-A has special characters; accepted: printable ASCII"),
        ("X-A:hunter2é", "the value of X-A has special characters"),
        ("Upgrade:hunter2", "Upgrade belongs to the tunnel itself; accepted: other headers"),
        ("sec-websocket-key:hunter2", "sec-websocket-key belongs to the tunnel itself"),
        ("X-Session-ID:hunter2", "X-Session-ID belongs to the tunnel itself"),
        ("X-Rtun-Token:hunter2", "X-Rtun-Token belongs to the tunnel itself"),
    ],
)
def test_bad_headers(text, sentence):
    with pytest.raises(UsageError, match=f"^--header: {sentence}") as caught:
        parse_headers((text,))
    assert "hunter2" not in str(caught.value)


def test_header_files_that_cannot_be_used(tmp_path):
    with pytest.raises(RtunError, match=r"^--header: cannot read the file .*: No such file") as caught:
        parse_headers((f"@{tmp_path / 'none'}",))
    assert caught.value.exit_status == 1
    (tmp_path / "long").write_bytes(b"X-A: 1\n" * MAX_HEADER_FILE)
    with pytest.raises(UsageError, match="is too long; accepted: up to 65536 bytes"):
        parse_headers((f"@{tmp_path / 'long'}",))
