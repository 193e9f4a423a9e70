import socket

import aiohttp
import pytest

from rtun_core.engine.control import listen
from rtun_core.engine.control_place import TcpPlace, UnixPlace, find_place, find_socket
from rtun_core.engine.paths import control_socket, runtime_dir
from rtun_core.errors import RtunError, UsageError
from rtun_core.wire.address import Address

TOKEN = b"0123456789abcdef"


@pytest.mark.parametrize(
    ("which", "address"),
    [
        ("127.0.0.1:7001", Address("127.0.0.1", 7001)),
        (":7001", Address("127.0.0.1", 7001)),
        ("[::1]:7001", Address("::1", 7001)),
        ("relay.example:7001", Address("relay.example", 7001)),
    ],
)
def test_an_address(which, address):
    place = find_place(which, TOKEN)
    assert place == TcpPlace(address, TOKEN)
    assert place.is_far
    assert (str(place), place.url) == (str(address), f"http://{address}")


def test_an_address_needs_a_token():
    with pytest.raises(UsageError, match=r"^127\.0\.0\.1:7001 wants the token of --control-tcp; accepted: "):
        find_place(":7001")


def test_the_token_is_in_no_text():
    assert TOKEN.decode() not in repr(TcpPlace(Address("::1", 1), TOKEN))


def test_a_socket_goes_before_an_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with listen(tmp_path / "relay:7001"):
        place = find_place("relay:7001", TOKEN)
    assert (str(place), place.is_far) == ("the control socket relay:7001", False)
    with listen(control_socket(11)):
        assert find_place(None, TOKEN) == find_place("11") == UnixPlace(control_socket(11))


@pytest.mark.parametrize("which", ["./a:7001", "name:0", "name:70000", "::1:7001", "nothing"])
def test_what_is_no_address_is_a_path(which):
    with pytest.raises(RtunError, match="there is no control socket at"):
        find_place(which, TOKEN)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ConnectionRefusedError(111, "refused"), "nobody listens at 127.0.0.1:7001"),
        (OSError(113, "No route to host"), "cannot connect to 127.0.0.1:7001: No route to host"),
    ],
)
def test_what_no_connection_means(error, sentence):
    place = find_place(":7001", TOKEN)
    assert str(place.lost(aiohttp.ClientConnectorError(None, error))) == sentence


def test_what_else_may_happen_to_a_request(tmp_path):
    place = find_place(":7001", TOKEN)
    assert "is not the control address of an rtun" in str(place.lost(aiohttp.ServerDisconnectedError()))
    assert str(place.lost(TimeoutError())) == "no answer from 127.0.0.1:7001: not in time"
    assert str(place.lost(BrokenPipeError())) == "no answer from 127.0.0.1:7001: BrokenPipeError"
    assert str(UnixPlace("x").lost(TimeoutError("late"))) == "no answer on the control socket x: late"


def test_find_none():
    with pytest.raises(
        RtunError, match=r"no running rtun has a control socket in .*; start it with --control"
    ):
        find_socket(None)


def test_find_the_only_living_one():
    with listen(control_socket(11)) as alive:
        listen(control_socket(12)).close()
        assert find_socket(None) == control_socket(11)
        assert find_socket("11") == control_socket(11)
        assert find_socket(str(control_socket(11))) == control_socket(11)
        with pytest.raises(RtunError, match=r"no process listens on the control socket .*12.sock any more"):
            find_socket("12")
        assert alive.fileno() >= 0


def test_find_several():
    several = pytest.raises(RtunError, match="several rtun run here, say which one: 11, 12")
    with listen(control_socket(11)), listen(control_socket(12)), several:
        find_socket(None)


def test_find_what_is_not_there(tmp_path):
    for which in ("4711", str(tmp_path / "c.sock"), str(tmp_path)):
        with pytest.raises(RtunError, match="there is no control socket at"):
            find_socket(which)


def test_find_with_a_socket_of_another_kind(tmp_path):
    runtime_dir().mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(runtime_dir() / "1.sock"))
        with pytest.raises(RtunError, match="cannot connect to the control socket"):
            find_socket("1")
