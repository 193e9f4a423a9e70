"""Switch sessions: many channels over one transport, channel 0 for control (wire spec 6).

A session reads at once whatever arrives, so that a slow channel never delays the control channel. There is
no flow control on the wire; a channel whose reader falls 256 packets behind is closed, alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from contextlib import suppress

from rtun_core.errors import LocalProtocolError, RemoteProtocolError, SignalingError
from rtun_core.net.packet_transport import PacketTransport
from rtun_core.net.tasks import TaskOwner
from rtun_core.wire.switch_packet import CONTROL_CHANNEL, decode_packet, encode_packet

CHANNEL_QUEUE = 256
"""Packets a channel holds for its reader, as many as the programs in the field hold."""

MAX_CHANNELS = 4096
MAX_OUTBOX = 256
"""Control payloads that wait for a transport whose peer does not read."""

_CLOSE_TIMEOUT = 3.0


class Channel:
    """One channel of a session: packets both ways; either side may end it."""

    def __init__(self, session: SwitchSession, channel_id: int) -> None:
        self.id = channel_id
        self.closed = False
        self._session = session
        self._queue: deque[bytes] = deque()
        self._arrived = asyncio.Event()

    async def send(self, payload: bytes) -> None:
        """Send one packet. Raises SignalingError when the channel has ended, LocalProtocolError if empty."""
        if not payload:
            raise LocalProtocolError("an empty payload ends a channel; call close")
        if self.closed:
            raise SignalingError(f"channel {self.id} is closed")
        await self._session.send_packet(self.id, payload)

    async def recv(self) -> bytes:
        """Return the next packet, or b"" when the channel has ended and everything was read."""
        while not self._queue:
            if self.closed:
                return b""
            self._arrived.clear()
            await self._arrived.wait()
        return self._queue.popleft()

    async def close(self) -> None:
        """End the channel and tell the peer; may be called again."""
        if not self.closed:
            self._session.drop_channel(self)
            with suppress(SignalingError):  # the peer is gone, so it knows
                await self._session.send_packet(self.id, b"")

    def push(self, payload: bytes) -> bool:
        """Take a packet from the session; False when the reader is too far behind."""
        if len(self._queue) >= CHANNEL_QUEUE:
            return False
        self._queue.append(payload)
        self._arrived.set()
        return True

    def end(self) -> None:
        """Take the end of the channel from the session."""
        self.closed = True
        self._arrived.set()


class SwitchSession:
    """What both kinds of session share: the reader, the channels, the end.

    `closed` is set once, with the reason in `close_reason`. `faults` counts by reason what the peer did
    wrong: "unknown channel", "channel overflow", and the reason of the error that ended the session.
    """

    def __init__(self, transport: PacketTransport, *, name: str = "switch") -> None:
        self.closed = asyncio.Event()
        self.close_reason = ""
        self.faults: Counter[str] = Counter()
        self.peer = transport.peer
        self._transport = transport
        self._channels: dict[int, Channel] = {}
        self._last_id = 0
        self._tasks = TaskOwner(name, on_failure=self._task_failed)
        self._started = False
        self._closer: asyncio.Task[None] | None = None
        self._outbox: deque[bytes] = deque()
        self._outbox_changed = asyncio.Event()

    def start(self) -> None:
        """Begin to read; the session ends by itself when the transport does. May be called again."""
        if not self._started and not self.closed.is_set():
            self._started = True
            self._tasks.spawn(self._read(), "reader")
            self._tasks.spawn(self._write_control(), "control writer")
            self._on_start()

    def channel(self, channel_id: int) -> Channel:
        """Open the channel with this id on our side; its packets are kept from now on.

        Raises LocalProtocolError if it is open already, is 0, or too many are open.
        """
        if channel_id == CONTROL_CHANNEL or channel_id in self._channels:
            raise LocalProtocolError(f"channel {channel_id} is in use")
        if len(self._channels) >= MAX_CHANNELS:
            raise LocalProtocolError(f"{MAX_CHANNELS} channels are open")
        channel = self._channels[channel_id] = Channel(self, channel_id)
        if self.closed.is_set():
            self.drop_channel(channel)
        return channel

    def new_channel(self) -> Channel:
        """Open the channel with the next free id, from 1 upwards."""
        self._last_id += 1
        while self._last_id in self._channels:
            self._last_id += 1
        return self.channel(self._last_id)

    async def close(self, reason: str) -> None:
        """End the session and its transport; the first reason stays. Returns in a bounded time."""
        self.end(reason)
        if self._closer is not None and self._closer is not asyncio.current_task():
            await asyncio.wait([self._closer])
        await self._tasks.close()

    def end(self, reason: str) -> None:
        """End the session without waiting for the transport, which is closed in the background."""
        if self.closed.is_set():
            return
        self.close_reason = reason
        self.closed.set()
        for channel in list(self._channels.values()):
            self.drop_channel(channel)
        self._on_end(reason)
        self._closer = self._tasks.spawn(self._close_transport(), "closer")

    async def send_packet(self, channel_id: int, payload: bytes) -> None:
        """Send one packet. Raises SignalingError when the session has ended."""
        if self.closed.is_set():
            raise SignalingError(self.close_reason)
        await self._transport.send(encode_packet(channel_id, payload))

    def drop_channel(self, channel: Channel) -> None:
        """Forget a channel and let its reader see the end."""
        if self._channels.get(channel.id) is channel:
            del self._channels[channel.id]
        channel.end()

    def _on_start(self) -> None:
        """Called once when reading begins."""

    def _on_end(self, reason: str) -> None:
        """Called once when the session has ended."""

    def _on_control(self, payload: bytes) -> None:
        """Take a payload of the control channel. Raises RemoteProtocolError to end the session."""
        raise NotImplementedError

    def _send_control(self, payloads: list[bytes]) -> None:
        """Send payloads on the control channel, in order, without waiting for the transport."""
        self._outbox.extend(payloads)
        if len(self._outbox) > MAX_OUTBOX:
            self.faults["flood"] += 1
            self.end("the peer does not read its answers")
        self._outbox_changed.set()

    async def _flush_control(self) -> None:
        while self._outbox and not self.closed.is_set():
            self._outbox_changed.clear()
            await self._outbox_changed.wait()

    async def _write_control(self) -> None:
        while not self.closed.is_set():
            while self._outbox:
                await self._send_quietly(CONTROL_CHANNEL, self._outbox[0])
                self._outbox.popleft()
                self._outbox_changed.set()
            self._outbox_changed.clear()
            await self._outbox_changed.wait()

    async def _read(self) -> None:
        try:
            while not self.closed.is_set():
                self._dispatch(await self._transport.recv())
        except SignalingError as error:
            self.end(str(error))
        except RemoteProtocolError as error:
            self.faults[error.reason] += 1
            self.end(str(error))

    def _dispatch(self, data: bytes) -> None:
        packet = decode_packet(data)
        if packet.channel == CONTROL_CHANNEL:
            self._on_control(packet.payload)
            return
        channel = self._channels.get(packet.channel)
        if channel is None:
            self.faults["unknown channel"] += 1
        elif not packet.payload:
            self.drop_channel(channel)
        elif not channel.push(packet.payload):
            self.faults["channel overflow"] += 1
            self.drop_channel(channel)
            self._tasks.spawn(self._send_quietly(channel.id, b""), "channel end")

    async def _send_quietly(self, channel_id: int, payload: bytes) -> None:
        # The reader reports the end of the transport; a writer that notices it first has nothing to add.
        with suppress(SignalingError):
            await self.send_packet(channel_id, payload)

    async def _close_transport(self) -> None:
        with suppress(TimeoutError, SignalingError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._transport.close()

    def _task_failed(self, name: str, error: BaseException) -> None:
        self._report(f"task {name}", error)
        self.end(f"{name} failed: {error}")

    def _report(self, what: str, error: BaseException) -> None:
        loop = asyncio.get_running_loop()
        loop.call_exception_handler({"message": f"{what} failed", "exception": error})
