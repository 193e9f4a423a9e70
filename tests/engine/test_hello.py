import os

import msgspec
import pytest

from rtun_core import __version__
from rtun_core.engine.hello import Hello, check_hello, hello_of
from rtun_core.errors import RtunError
from rtun_core.model import SCHEMA_VERSION


def test_of_an_engine(engine, bus):
    hello = hello_of(engine)
    assert hello == Hello(
        v=SCHEMA_VERSION, version=__version__, pid=os.getpid(), seq=bus.seq, services=("fake",)
    )
    assert check_hello(hello) is None


@pytest.mark.parametrize("version", [SCHEMA_VERSION - 1, SCHEMA_VERSION + 1])
def test_of_another_version(engine, version):
    hello = msgspec.structs.replace(hello_of(engine), v=version, version="9.9")
    with pytest.raises(RtunError, match=rf"is rtun 9.9, which speaks version {version} of the control"):
        check_hello(hello)
