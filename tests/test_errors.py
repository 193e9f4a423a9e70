import pytest

from rtun_core import errors
from rtun_core.errors import (
    BindError,
    CommandRefused,
    NoAgentError,
    ProtocolError,
    RemoteProtocolError,
    RtunError,
    SignalingError,
    Unauthorized,
    UsageError,
)


def kinds():
    return [value for value in vars(errors).values() if isinstance(value, type)]


def test_one_tree():
    assert all(issubclass(kind, RtunError) for kind in kinds() if kind.__module__ == errors.__name__)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (RtunError, 1),
        (UsageError, 2),
        (BindError, 3),
        (NoAgentError, 4),
        (SignalingError, 1),
        (Unauthorized, 1),
        (CommandRefused, 1),
        (ProtocolError, 1),
    ],
)
def test_exit_status(kind, status):
    assert kind("text").exit_status == status


def test_the_tree_in_the_docstring_names_every_error():
    documented = errors.__doc__ or ""
    assert all(kind.__name__ in documented for kind in kinds() if kind.__module__ == errors.__name__)


def test_a_remote_error_has_a_reason_to_count_by():
    assert RemoteProtocolError("text").reason == "protocol"
    error = RemoteProtocolError("text", reason="tag")
    assert (str(error), error.reason) == ("text", "tag")
