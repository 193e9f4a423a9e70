import asyncio

import pytest
import yarl

from rtun_core.errors import UsageError
from rtun_core.rtunnel.config import ConnectConfig
from rtun_core.rtunnel.dialer import Dialer, DialError
from tests.rtunnel.stage import LOOPBACK


@pytest.fixture
async def make():
    dialers = []

    def make(url, **options):
        options.setdefault("connect_timeout", 2.0)
        dialers.append(Dialer(ConnectConfig(url=yarl.URL(url), listen=LOOPBACK, **options)))
        dialers[-1].open()
        return dialers[-1]

    yield make
    for dialer in dialers:
        await dialer.close()


@pytest.mark.parametrize("scheme", ["ws", "http"])
async def test_test_gives_a_round_trip(stage, make, scheme):
    server = await stage.serve()
    dialer = make(f"{scheme}://{server.address}/")
    assert 0 < await dialer.test(5.0) < 5
    assert not server.snapshot().tunnels


async def test_dial_agrees_on_half_close(stage, make):
    server = await stage.serve()
    link, half_close = await make(f"ws://{server.address}/").dial("s1", resume=False)
    assert half_close
    assert link.remote == str(server.address)
    link.abort()


@pytest.mark.parametrize(
    ("options", "reason", "lost", "hopeless"),
    [
        ({"resume": True}, "lost", True, True),
        ({"token": b"x"}, "unauthorized", False, True),
        ({"paused": True}, "status-503", False, False),
    ],
)
async def test_refusals(stage, make, options, reason, lost, hopeless):
    server = await stage.serve(token=options.get("token"))
    server.pause(paused="paused" in options)
    with pytest.raises(DialError) as caught:
        await make(f"ws://{server.address}/").dial("s1", resume="resume" in options)
    error = caught.value
    assert (error.reason, error.lost, error.hopeless) == (reason, lost, hopeless)


async def test_nobody_there(make):
    with pytest.raises(
        DialError, match=r"cannot connect to ws://127\.0\.0\.1:1: Connection refused"
    ) as caught:
        await make("ws://user:secret@127.0.0.1:1/x?key=secret").dial("s1", resume=False)
    assert caught.value.lost
    assert "secret" not in str(caught.value)


async def test_something_else_there(stage, make):
    address = await stage.target()
    with pytest.raises(DialError) as caught:
        await make(f"ws://{address}/").dial("s1", resume=False)
    assert caught.value.reason == "unreachable"


@pytest.mark.parametrize("how", ["dial", "test"])
async def test_silence(stage, make, how):
    async def silent(reader, _writer):
        await reader.read(-1)

    address = await stage.target(silent)
    dialer = make(f"ws://{address}/", connect_timeout=0.1 if how == "dial" else 5.0)
    with pytest.raises(DialError, match=r"no answer from .* within 0\.1 s"):
        await (dialer.dial("s1", resume=False) if how == "dial" else dialer.test(0.1))
    assert not dialer._responses


async def test_plain_server_behind_a_tls_url(stage, make):
    server = await stage.serve()
    with pytest.raises(DialError, match="no TLS with"):
        await make(f"wss://{server.address}/").dial("s1", resume=False)


async def test_bad_ca_file(make, tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        make("wss://127.0.0.1:1/", ca=tmp_path / "none.pem")


async def test_cancelled_dial_leaves_nothing(stage, make):
    async def silent(reader, _writer):
        await reader.read(-1)

    dialer = make(f"ws://{await stage.target(silent)}/")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await dialer.dial("s1", resume=False)
    assert not dialer._responses
