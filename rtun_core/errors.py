"""Every exception of rtun, in one tree, with the exit status beside it.

    RtunError                   1  something went wrong at run time
    ├── UsageError              2  the user asked for something that cannot be
    ├── BindError               3  a listening address could not be bound
    ├── NoAgentError            4  no agent appeared in the time the user gave
    ├── SignalingError          1  the signalling server cannot be reached, refused us, or went away
    │   └── Unauthorized        1  ... because the secret is not the server's
    ├── CommandRefused          1  a command cannot be carried out now; the text says why
    └── ProtocolError           1
        ├── RemoteProtocolError 1  the peer broke the protocol; counted, never fatal to a service
        └── LocalProtocolError  1  we used a state machine wrongly; a bug of ours

The text of an error is one sentence that names the option or field, what was given and what is
accepted. It is rendered in one place, `rtun_core.cli.main`, on stderr.
"""

from typing import ClassVar


class RtunError(Exception):
    """Base of every error that rtun raises on purpose."""

    exit_status: ClassVar[int] = 1


class UsageError(RtunError):
    """Bad input: an option, rule, URL, number, file or regular expression."""

    exit_status = 2


class BindError(RtunError):
    """A local address could not be bound: in use, not ours, or not permitted."""

    exit_status = 3


class NoAgentError(RtunError):
    """No usable agent appeared within the time given by `--wait-agent`."""

    exit_status = 4


class SignalingError(RtunError):
    """The signalling server is unreachable, refused a request, or closed the session."""


class Unauthorized(SignalingError):
    """The signalling server did not accept our token."""


class CommandRefused(RtunError):
    """A command was understood but cannot be carried out; the text says why."""


class ProtocolError(RtunError):
    """The bytes or the order of messages break a protocol. Raised as one of the two kinds below."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow.

    `reason` is a short fixed word that counters and metrics use as a label.
    """

    def __init__(self, message: str, *, reason: str = "protocol") -> None:
        super().__init__(message)
        self.reason = reason


class LocalProtocolError(ProtocolError):
    """Our own code asked a state machine for something it cannot do in its state."""
