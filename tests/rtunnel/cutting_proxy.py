"""A TCP proxy that breaks: it cuts each connection after a number of bytes that a test chooses."""

import asyncio
import socket
import struct
from contextlib import suppress


class CuttingProxy:
    """Forwards to `port`. `budget()` gives the bytes that the next connection may carry, None for any."""

    def __init__(self, port, budget=lambda: None):
        self.target = port
        self.budget = budget
        self.cuts = 0
        self.connections = 0
        self.silent = False  # what comes is lost
        self.flowing = asyncio.Event()  # what comes stays where it is while this is not set
        self.flowing.set()
        self._server = None
        self._open = set()

    async def start(self):
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        self._server = await asyncio.start_server(self._serve, sock=sock)
        return self._server.sockets[0].getsockname()[1]

    async def close(self):
        self.stop_listening()
        self.cut()
        await self._server.wait_closed()

    def stop_listening(self):
        self._server.close()

    def cut(self):
        """Reset every connection on both sides."""
        for writer in list(self._open):
            self._reset(writer)

    def _reset(self, writer):
        sock = writer.get_extra_info("socket")
        if not writer.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def _serve(self, reader, writer):
        self.connections += 1
        left = [self.budget()]
        with suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self._open |= {writer, far_writer}
            with suppress(OSError):
                await asyncio.gather(
                    self._pump(reader, far_writer, left), self._pump(far_reader, writer, left)
                )
            self._open -= {writer, far_writer}
            far_writer.close()
        writer.close()

    async def _pump(self, reader, writer, left):
        while data := await reader.read(16_384):
            await self.flowing.wait()
            if self.silent:
                continue
            if left[0] is not None:
                data = data[: left[0]]
                left[0] -= len(data)
            writer.write(data)
            await writer.drain()
            if left[0] == 0:
                self.cuts += 1
                self.cut()
                return
        writer.write_eof()
