"""A Unix socket in front of another one: a link that a test can cut, shut and listen to."""

import asyncio
import contextlib


class Gate:
    """Passes bytes between `path` and `behind`. `open` False: who comes is sent away."""

    def __init__(self, path, behind):
        self.path = path
        self.behind = behind
        self.open = True
        self.passed = 0
        self._server = None
        self._links = set()

    async def start(self):
        self._server = await asyncio.start_unix_server(self._join, self.path)

    async def stop(self):
        self.cut()
        self._server.close()
        await self._server.wait_closed()

    def cut(self):
        """End every connection at once."""
        for writer in list(self._links):
            writer.transport.abort()

    async def _join(self, reader, writer):
        if not self.open:
            writer.transport.abort()
            return
        self.passed += 1
        there_reader, there_writer = await asyncio.open_unix_connection(self.behind)
        self._links |= {writer, there_writer}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, there_writer))
                group.create_task(self._pass(there_reader, writer))
        finally:
            self._links -= {writer, there_writer}
            writer.close()
            there_writer.close()

    async def _pass(self, reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(ConnectionError, RuntimeError):
            writer.close()
