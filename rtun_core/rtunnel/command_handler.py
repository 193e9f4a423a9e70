"""The commands of both ends of an RTunnel, carried out or refused with a reason."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol, get_args

from rtun_core import commands as cmd
from rtun_core.commands import ALL, Command, CommandResult
from rtun_core.errors import CommandRefused, RtunError
from rtun_core.event import counted
from rtun_core.model import FlowId, TunnelId
from rtun_core.rtunnel.book import RULE, Book, Peer
from rtun_core.rtunnel.carrier import DRAIN_LIMIT, Carrier

Known = (
    cmd.ProbeAgent
    | cmd.DrainTunnel
    | cmd.CloseTunnel
    | cmd.RecycleTunnel
    | cmd.CloseFlow
    | cmd.PauseRule
    | cmd.ResumeRule
)
HANDLED: tuple[type[Command], ...] = get_args(Known)

PROBE_TIME = 5.0
_REQUESTED = "closed on request"


class Host(Protocol):
    """The service that commands are for."""

    paused: bool

    def pause(self, *, paused: bool) -> None:
        """Take no new sessions, or take them again."""

    async def probe(self, carrier: Carrier | None, timeout: float) -> float:
        """Seconds of a round trip to a peer. Raises OSError or RtunError."""


class Commands:
    """Translates commands into what sessions offer."""

    def __init__(self, book: Book, host: Host) -> None:
        self._book = book
        self._host = host

    async def handle(self, command: Command) -> CommandResult:
        """Carry out one of `HANDLED`. Raises CommandRefused."""
        match command:
            case cmd.ProbeAgent():
                return await self._probe(command)
            case cmd.CloseFlow():
                return self._close_flows(command.flows)
            case cmd.PauseRule() | cmd.ResumeRule():
                return self._pause(command)
            case cmd.DrainTunnel():
                return self._drain(command.tunnel)
            case cmd.CloseTunnel():
                self._find(command.tunnel).reset(_REQUESTED)
                return CommandResult(text=f"tunnel {command.tunnel} closed")
            case cmd.RecycleTunnel():
                return self._recycle(command.tunnel)
        raise CommandRefused(f"{' '.join(command.words)} is not for this tunnel")

    def _drain(self, tunnel: TunnelId) -> CommandResult:
        carrier = self._find(tunnel)
        if carrier.draining:
            raise CommandRefused(f"tunnel {tunnel} is draining already")
        carrier.drain()
        self._book.draining(carrier)
        return CommandResult(text=f"tunnel {tunnel} draining, its flow has {DRAIN_LIMIT:g} s to end")

    def _recycle(self, tunnel: TunnelId) -> CommandResult:
        carrier = self._find(tunnel)
        if carrier.link is None:
            raise CommandRefused(f"tunnel {tunnel} has no WebSocket at the moment")
        carrier.cut()
        return CommandResult(text=f"tunnel {tunnel} gets a new WebSocket")

    def _find(self, tunnel: TunnelId) -> Carrier:
        carrier = self._book.live.get(tunnel)
        if carrier is None:
            raise CommandRefused(f"there is no tunnel {tunnel}")
        return carrier

    def _close_flows(self, flows: tuple[FlowId, ...]) -> CommandResult:
        carriers = self._select(flows)
        for carrier in carriers:
            carrier.reset(_REQUESTED)
        return CommandResult(text=f"{counted(len(carriers), 'flow')} closed", data={"flows": len(carriers)})

    def _select(self, flows: tuple[FlowId, ...]) -> Sequence[Carrier]:
        live = self._book.live.values()
        if ALL in flows:
            if not live:
                raise CommandRefused("there are no flows")
            return list(live)
        numbers = {_number(flow) for flow in flows}
        carriers = [carrier for carrier in live if carrier.names.number in numbers]
        if not carriers:
            raise CommandRefused(f"there is no flow {', '.join(flows)}")
        return carriers

    def _pause(self, command: cmd.PauseRule | cmd.ResumeRule) -> CommandResult:
        paused = isinstance(command, cmd.PauseRule)
        if command.rule != RULE:
            raise CommandRefused(f"there is no rule {command.rule}; known: {RULE}")
        if self._host.paused is paused:
            raise CommandRefused(f"rule {RULE} is {'paused already' if paused else 'not paused'}")
        self._host.pause(paused=paused)
        self._book.rule_changed("paused" if paused else "active")
        return CommandResult(text=f"rule {RULE} {'paused' if paused else 'resumed'}")

    async def _probe(self, command: cmd.ProbeAgent) -> CommandResult:
        peer = self._peer(command.name)
        linked = (each for each in self._book.linked if each.names.agent == peer.id)
        try:
            rtt = await self._host.probe(next(linked, None), PROBE_TIME)
        except (OSError, RtunError) as error:
            reason = str(error) or f"no answer within {PROBE_TIME:g} s"
            raise CommandRefused(f"the probe of {command.name} failed: {reason}") from None
        peer.rtt, peer.probed_at = rtt, time.time()
        text = f"agent {command.name} answers in {rtt * 1e3:.1f} ms"
        return CommandResult(text=text, data={"rtt_ms": rtt * 1e3})

    def _peer(self, name: str) -> Peer:
        for peer in self._book.peers.values():
            if name in (peer.id, peer.name):
                return peer
        raise CommandRefused(f"there is no agent {name}")


def _number(flow: FlowId) -> int:
    try:
        return int(flow, 16)
    except ValueError:
        raise CommandRefused(f"{flow!r} is not a flow id; accepted: hexadecimal digits, or {ALL}") from None
