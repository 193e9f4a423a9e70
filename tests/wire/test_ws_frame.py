import asyncio

import pytest
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader
from aiohttp.base_protocol import BaseProtocol

from rtun_core.wire.rtunnel_packet import encode_data
from rtun_core.wire.ws_frame import plain_frames

HELLO = encode_data(1, [b"hello"], 5)


def test_the_vector_of_the_original() -> None:
    assert b"".join(plain_frames([HELLO])).hex() == "821a" + HELLO.hex()


def test_a_full_packet_of_the_original_starts_as_its_own_do() -> None:
    packet = encode_data(2, [b"A" * 16_384], 16_384)
    header, message = plain_frames([packet])
    assert (header.hex(), message) == ("827e4015", packet)
    assert message is packet


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 131_072])
async def test_the_library_reads_what_is_written(size: int) -> None:
    loop = asyncio.get_running_loop()
    queue = WebSocketDataQueue(BaseProtocol(loop), 1 << 20, loop=loop)
    reader = WebSocketReader(queue, 1 << 20, False, True)
    messages = [bytes([number]) * size for number in range(3)]
    reader.feed_data(b"".join(plain_frames(messages)))
    assert [(await queue.read()).data for _ in messages] == messages
