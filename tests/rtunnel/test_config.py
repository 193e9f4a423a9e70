import yarl

from rtun_core.rtunnel.config import ConnectConfig, ServeConfig
from tests.rtunnel.stage import LOOPBACK


def test_secrets_are_not_printed():
    serve = ServeConfig(listen=LOOPBACK, targets={}, token=b"secret")
    connect = ConnectConfig(
        url=yarl.URL("ws://x/"), listen=LOOPBACK, token=b"secret", headers=(("Authorization", "secret"),)
    )
    assert "secret" not in repr(serve) + repr(connect)


def test_defaults():
    serve = ServeConfig(listen=LOOPBACK, targets={})
    assert (serve.max_sessions, serve.idle_timeout, serve.connect_timeout) == (1024, None, 10.0)
