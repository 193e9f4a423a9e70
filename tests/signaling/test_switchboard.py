"""The switchboard on its own: tokens, names, targets, time. Its sessions are tested with the server."""

import pytest

from rtun_core.bus import EventBus
from rtun_core.errors import CommandRefused, Unauthorized
from rtun_core.signaling.config import ServerConfig
from rtun_core.signaling.switchboard import Switchboard
from rtun_core.wire.address import Address
from rtun_core.wire.token import make_token


class Local:
    """Stands for the server's own agent."""


def board(*, local=None, bridge_only=False):
    config = ServerConfig(listen=Address("127.0.0.1", 0), secret=b"sec123", bridge_only=bridge_only)
    return Switchboard(config, EventBus(), local=local, clock=lambda: 1_700_000_000_000)


def test_the_right_token_of_any_time_is_accepted():
    for stamp in (0, 1_700_000_000_000, 2**64 - 1):
        board().authorize(make_token(b"sec123", stamp))


@pytest.mark.parametrize(
    ("token", "detail"),
    [(make_token(b"other", 5), "invalid token"), ("AAAA", "token too short"), ("x" * 9999, "invalid token")],
)
def test_other_tokens_are_refused_and_counted(token, detail):
    switchboard = board()
    with pytest.raises(Unauthorized, match=detail):
        switchboard.authorize(token)
    assert switchboard.faults == {"token": 1}


def test_ids_are_all_different():
    switchboard = board()
    ids = {switchboard.new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(each) == 8 for each in ids)


@pytest.mark.parametrize("name", [None, "", "local"])
def test_local_is_the_servers_own_agent_if_there_is_one(name):
    target = board(local=Local()).find(name, None)
    assert (target.record, target.id) == (None, "local")
    for switchboard in (board(), board(local=Local(), bridge_only=True)):
        with pytest.raises(CommandRefused, match=r"not found agent \[local\]"):
            switchboard.find(name, None)


async def test_an_empty_board_shows_nothing():
    switchboard = board()
    assert switchboard.entries() == []
    assert (switchboard.agents(), switchboard.clients()) == ((), ())
    switchboard.purge()
    await switchboard.settle()
    await switchboard.close()
