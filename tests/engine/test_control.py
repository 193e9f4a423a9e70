import asyncio
import socket
import stat

import aiohttp
import pytest

from rtun_core.engine.control import ControlServer, is_alive, listen
from rtun_core.engine.control_routes import MAX_CONNECTIONS, ControlRoutes
from rtun_core.engine.paths import control_socket, runtime_dir
from rtun_core.errors import BindError


async def test_connections_have_a_bound(server, http, until):
    crowd = [await asyncio.open_unix_connection(str(server.path)) for _ in range(MAX_CONNECTIONS)]
    await until(lambda: len(server._runner.server.connections) == MAX_CONNECTIONS)
    with pytest.raises(aiohttp.ClientError):
        await http.get("/hello")
    for _reader, writer in crowd:
        writer.close()
        await writer.wait_closed()
    await until(lambda: not server._runner.server.connections)
    async with http.get("/hello") as response:
        assert response.status == 200


async def test_another_user_is_turned_away(http, monkeypatch):
    monkeypatch.setattr("rtun_core.engine.control.os.geteuid", lambda: 12345)
    monkeypatch.setattr("rtun_core.engine.control._CREDENTIALS", Strangers())
    async with http.get("/hello") as response:
        assert response.status == 403


class Strangers:
    """Every peer is the user 4711."""

    size = 12

    def unpack(self, data):
        return 1, 4711, 1


async def test_socket_is_for_its_owner_and_removed(server, engine):
    assert stat.S_IMODE(server.path.stat().st_mode) == 0o600
    engine.bus.close()
    await server.stop()
    assert not server.path.exists()


async def test_a_socket_that_was_replaced_is_left_alone(server, engine):
    server.path.unlink()
    server.path.write_bytes(b"")
    (server.path.parent / "keep the inode").write_bytes(b"")
    server._inode = -1
    await server.stop()
    assert server.path.exists()


async def test_default_directory_is_made_for_the_owner_only(engine):
    server = ControlServer(control_socket(), ControlRoutes(engine))
    await server.start()
    assert stat.S_IMODE(runtime_dir().stat().st_mode) == 0o700
    await server.stop()


def test_a_stale_socket_is_replaced(tmp_path):
    path = tmp_path / "c.sock"
    listen(path).close()
    assert path.exists()
    assert not is_alive(path)
    with listen(path):
        assert is_alive(path)


def test_a_living_socket_is_not_taken(tmp_path):
    path = tmp_path / "c.sock"
    with listen(path), pytest.raises(BindError, match="another process listens on"):
        listen(path)


def test_another_kind_of_file_is_not_removed(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(BindError, match="exists and is not a socket"):
        listen(path)
    assert path.read_text() == "data"


@pytest.mark.parametrize("name", ["no/c.sock", "x" * 200])
def test_a_path_that_cannot_be_bound(tmp_path, name):
    with pytest.raises(BindError, match="--control: cannot listen on"):
        listen(tmp_path / name)


def test_a_directory_that_is_a_link_is_not_used(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    runtime_dir().symlink_to(elsewhere)
    with pytest.raises(BindError, match="is not ours"):
        listen(control_socket())


def test_a_directory_that_cannot_be_made(tmp_path):
    runtime_dir().write_text("a file is in the way")
    with pytest.raises(BindError, match="cannot make the directory"):
        listen(control_socket())


def test_alive_with_nobody_at_all(tmp_path):
    assert not is_alive(tmp_path / "nothing")
    busy = socket.socket(socket.AF_UNIX)
    busy.bind(str(tmp_path / "b"))
    assert not is_alive(tmp_path / "b")
    busy.close()
