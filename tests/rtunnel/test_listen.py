import pytest

from rtun_core.errors import BindError
from rtun_core.rtunnel.listen import listen_on
from rtun_core.wire.address import Address


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_listening_sockets(host):
    with listen_on(Address(host, 0)) as sock:
        assert sock.getsockname()[1]
        assert not sock.getblocking()


def test_taken_address_is_named():
    with listen_on(Address("127.0.0.1", 0)) as sock:
        address = Address(*sock.getsockname())
        with pytest.raises(BindError, match=f"cannot listen on TCP {address}: Address already in use"):
            listen_on(address)
