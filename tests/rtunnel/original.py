"""The model of the original program at the end of real WebSockets, in both roles."""

import asyncio
import random
from contextlib import suppress
from time import monotonic

import aiohttp
from aiohttp import web

from tests.wire.rtunnel_go_peer import GoPeer


async def drive(peer, socket, *, stop=lambda: False):
    """The loops of the original on one WebSocket, until it is gone."""
    peer.attach()
    try:
        while not stop():
            peer.read_tcp()
            peer.tick(monotonic())
            for message in peer.write_socket():
                await socket.send_bytes(message)
            if not peer.attached:
                return  # it has sent or received FIN, and drops the WebSocket without a word
            with suppress(TimeoutError):
                message = await socket.receive(0.01)
                if message.type is not aiohttp.WSMsgType.BINARY:
                    return
                peer.receive(message.data, monotonic())
    except (OSError, RuntimeError, aiohttp.ClientError):
        return
    finally:
        if not peer.closed:
            peer.lose()


class OriginalServer:
    """Sessions by id. `prepare(peer)` says what the target of a new one does."""

    def __init__(self, prepare):
        self.prepare = prepare
        self.peers = {}
        self.headers = []
        self.sockets = []
        self._stopped = False

    async def start(self):
        self._web = web.Server(self._handle)
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._web, "127.0.0.1", 0)
        return self._listener.sockets[0].getsockname()[1]

    async def close(self):
        self._stopped = True
        self._listener.close()
        await self._web.shutdown(0.5)

    async def _handle(self, request):
        socket = web.WebSocketResponse(compress=False, timeout=0.1)
        await socket.prepare(request)
        name = request.headers["X-Session-Id"]
        if name == "test-connection":
            async for _ in socket:
                pass
            return socket
        self.headers.append(dict(request.headers))
        self.sockets.append(request.transport)
        if name not in self.peers:
            self.peers[name] = GoPeer(random.Random(1))
            self.prepare(self.peers[name])
        await drive(self.peers[name], socket, stop=lambda: self._stopped)
        request.transport.close()
        return socket


async def original_client(peer, url, *, name="0f8fad5b-d9cb-469f-a165-70867728950e", done):
    """One session of the original client: it dials again whenever the WebSocket is lost."""
    async with aiohttp.ClientSession() as http:
        while not (peer.closed or done()):
            socket = await http.ws_connect(url, headers={"X-Session-Id": name})
            await drive(peer, socket, stop=done)
            socket._response.close()
            await asyncio.sleep(0.02)
