"""Noticing that the machine at the other end of a TCP connection is gone, not only its process."""

from __future__ import annotations

import socket


def end_when_lost(connection: socket.socket, seconds: int) -> None:
    """Have the system end a connection after so long (6 and more) without a sign of the other machine.

    Set on a listening socket it holds for what that accepts. Some systems have only part of the options,
    and notice it later.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    pause = seconds // 6
    options = {
        "TCP_KEEPIDLE": seconds - 3 * pause,
        "TCP_KEEPINTVL": pause,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": seconds * 1000,
    }
    for name, value in options.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
