"""Which agent all rules use: watches the registry, keeps the signalling session, switches agents.

The data plane does not depend on it: channels live on while signalling is lost, and an agent is given
up only when no channel to it is alive any more. A switch is make-before-break: every rule that carries
something now has a channel to the new agent before the old one is let go.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from rtun_core.bus import EventBus
from rtun_core.errors import CommandRefused, RtunError, SignalingError
from rtun_core.events import (
    AgentExpiring,
    AgentLost,
    AgentSeen,
    AgentSelected,
    AgentSwitchDone,
    AgentSwitchFailed,
    AgentSwitchProbed,
    AgentSwitchStarted,
    SignalConnected,
    SignalLost,
)
from rtun_core.model import AgentId, RuleId, RuleState
from rtun_core.net.endpoint import SignalEndpoint
from rtun_core.net.signal_client import list_agents
from rtun_core.net.tasks import wait_any
from rtun_core.relay.agent_choice import LOCAL_AGENT, AgentPolicy, entry_id
from rtun_core.relay.agent_link import AgentLink
from rtun_core.relay.channel import Channel
from rtun_core.relay.pool import OPEN_TIMEOUT
from rtun_core.relay.rule_relay import RuleRelay
from rtun_core.wire.signal_json import NEVER, AgentEntry

POLL_STEADY = 5.0  # seconds between looks at the registry while all is well
POLL_SEEKING = 1.0
POLL_FIRST = 0.2  # the first looks come sooner: at start-up, agents often register a moment later
GIVE_UP_FAILURES = 2  # attempts of every rule that failed before another agent is tried


class Director:
    """Chooses the agent for all rules and tells them. Times on the wire are milliseconds."""

    def __init__(
        self, endpoint: SignalEndpoint, policy: AgentPolicy, rules: Sequence[RuleRelay], bus: EventBus
    ) -> None:
        self.policy = policy
        self.link: AgentLink | None = None
        self.switching: AgentId | None = None
        self.registry_answers = False  # to the last look
        self.signal_reason = ""
        self.signal_since = time.time()
        self.probes: dict[AgentId, tuple[float, float]] = {}  # round trip in seconds, when
        self._endpoint, self._rules, self._bus = endpoint, rules, bus
        self._lock = asyncio.Lock()
        self._news = asyncio.Event()
        self._told_lost = self._told_expiring = False
        self._seeking = 0  # looks in a row that found things not as they should be

    @property
    def signal_connected(self) -> bool:
        """Whether the signalling session with the agent in use is up."""
        return self.link is not None and self.link.connected

    async def run(self) -> None:
        """Keep an agent in use, for ever."""
        while True:
            if await self._refresh():
                async with self._lock:
                    await self._steer()
            await self._pause()

    def nudge(self) -> None:
        """Look at once: a channel was lost, so the agent may be gone."""
        self._news.set()

    async def close(self) -> None:
        """End the signalling session."""
        if self.link is not None:
            await self.link.close()

    # ---- the registry ---------------------------------------------------------------------------

    async def _refresh(self) -> bool:
        """Ask the server for its agents; what it says is remembered."""
        try:
            entries = await list_agents(self._endpoint)
        except SignalingError as error:
            self._signal_lost(str(error))
            self.registry_answers = False
            return False
        self.registry_answers = True
        if self.link is None:
            self.signal_reason = ""
        if self.policy.wants_local:
            entries = [*entries, self._local_agent()]
        appeared, vanished = self.policy.listed(entries)
        for entry in appeared:
            self._bus.emit(AgentSeen(agent=entry_id(entry), address=entry.addr))
        for entry in vanished:
            self.probes.pop(entry_id(entry), None)
            self._bus.emit(AgentLost(agent=entry_id(entry), reason="no longer registered"))
        return True

    def _local_agent(self) -> AgentEntry:
        """The server's built-in agent, which is in no list (wire spec 6.4)."""
        return AgentEntry(name=LOCAL_AGENT, addr=str(self._endpoint.url.address), expire_at=NEVER)

    async def _pause(self) -> None:
        """Sleep until the next look; the end of the session wakes at once."""
        link = self.link
        steady = self.signal_connected and (self._alive() or not any(map(_wants_tunnels, self._rules)))
        self._seeking = 0 if steady else self._seeking + 1
        seconds = POLL_STEADY if steady else min(POLL_SEEKING, POLL_FIRST * self._seeking)
        seconds *= random.uniform(0.8, 1.2)
        self._news.clear()
        waits: list[Coroutine[Any, Any, Any]] = [self._news.wait()]
        if link is not None and link.connected:
            waits.append(link.wait_lost())
        await wait_any(*waits, timeout=seconds)
        if link is not None and link is self.link and not link.connected:
            self._signal_lost(link.why_lost)

    def _signal_lost(self, reason: str) -> None:
        self.signal_reason = reason
        if not self._told_lost:
            self._told_lost = True
            self.signal_since = time.time()
            self._bus.emit(SignalLost(url=str(self._endpoint.url), reason=reason))

    def _signal_up(self, link: AgentLink) -> None:
        self._told_lost = False
        self.signal_reason, self.signal_since = "", time.time()
        self._bus.emit(SignalConnected(url=str(self._endpoint.url), agent=link.id))

    # ---- steering -------------------------------------------------------------------------------

    async def _steer(self) -> None:
        """One look at where we are and what to do about it."""
        if self.link is not None and self._hopeless(self.link):
            await self._give_up(self.link)
        if self.link is None:
            await self._start()
            return
        if self._alive():
            self.policy.works(self.link.entry)
        if not self.link.connected:
            await self._reconnect(self.link)
        else:
            await self._replace_in_time()

    def _alive(self) -> bool:
        return any(rule.pool.usable() for rule in self._rules)

    def _hopeless(self, link: AgentLink) -> bool:
        """No channel to this agent lives, and it is gone or gives none."""
        if self._alive():
            return False
        if not self.policy.is_listed(link.entry):
            return True
        return all(rule.pool.failures >= GIVE_UP_FAILURES for rule in self._rules)

    async def _give_up(self, link: AgentLink, reason: str = "") -> None:
        """Let go of an agent. That one is no longer registered was told when the list said so."""
        if self.policy.is_listed(link.entry):
            reason = reason or next((rule.pool.reason for rule in self._rules if rule.pool.reason), "")
            self.policy.failed(link.entry, _now_ms())
            self._bus.emit(AgentLost(agent=link.id, reason=reason or "it gives no tunnel"))
        self.link = self.policy.current = None
        for rule in self._rules:
            rule.use(None)
        await link.close()

    async def _start(self) -> None:
        """Take the best agent there is."""
        entry = self.policy.choose(_now_ms())
        if entry is None:
            self._signal_reason_no_agent()
            return
        link = AgentLink(self._endpoint, entry)
        try:
            await link.connect()
        except SignalingError as error:
            self.policy.failed(entry, _now_ms())
            self._signal_lost(str(error))
            return
        self._adopt(link)
        for rule in self._rules:
            rule.use(link)

    def _signal_reason_no_agent(self) -> None:
        for rule in self._rules:
            rule.pool.reason = "no agent that matches is registered"

    def _adopt(self, link: AgentLink) -> None:
        self.link, self.policy.current = link, link.entry
        self._told_expiring = False
        self._signal_up(link)
        expires = None if link.entry.expire_at >= NEVER else link.entry.expire_at / 1e3
        self._bus.emit(AgentSelected(agent=link.id, expires_at=expires))

    async def _reconnect(self, link: AgentLink) -> None:
        """Signalling came back: find the same agent, perhaps registered anew, behind the live channels."""
        self._signal_lost(link.why_lost)
        entry = link.entry if self.policy.is_listed(link.entry) else self.policy.find(link.entry.name)
        if entry is None:
            return
        if entry_id(entry) != link.id:
            self._told_expiring = False
        link.entry = self.policy.current = entry
        try:
            await link.connect()
        except SignalingError as error:
            self._signal_lost(str(error))
            if not self._alive():
                await self._give_up(link, str(error))
            return
        self._signal_up(link)

    async def _replace_in_time(self) -> None:
        """Before the agent in use expires, go to one that expires later."""
        current, now_ms = self.policy.current, _now_ms()
        if current is None or not self.policy.in_replacement_window(now_ms):
            return
        if not self._told_expiring:
            self._told_expiring = True
            left = max(0.0, (current.expire_at - now_ms) / 1e3)
            self._bus.emit(AgentExpiring(agent=entry_id(current), seconds_left=left))
        entry = self.policy.replacement(now_ms)
        if entry is None:
            return
        try:
            await self._switch(entry, "the agent in use expires soon")
        except RtunError:
            self.policy.failed(entry, now_ms)

    # ---- switching ------------------------------------------------------------------------------

    def find(self, name: str, instance: str | None) -> AgentEntry:
        """The registered agent of that name. Raises CommandRefused."""
        entry = self.policy.find(name, instance)
        if entry is None:
            known = ", ".join(sorted({each.name for each in self.policy.known})) or "none"
            what = f"{name}/{instance}" if instance else name
            raise CommandRefused(f"agent {what} is not registered or does not match; known: {known}")
        return entry

    async def switch(self, entry: AgentEntry, *, force: bool) -> int:
        """Switch on request; returns how many flows moved. Raises CommandRefused."""
        if self.switching is not None:
            raise CommandRefused("another agent switch is under way")
        async with self._lock:
            if self.link is not None and entry_id(entry) == self.link.id:
                raise CommandRefused(f"agent {self.link.id} is in use already")
            try:
                return await self._switch(entry, "requested", force=force)
            except RtunError as error:
                raise CommandRefused(str(error)) from None

    async def probe(self, entry: AgentEntry) -> float:
        """Open and close a channel to an agent; returns its round trip in seconds. Raises RtunError."""
        link = AgentLink(self._endpoint, entry)
        try:
            answered = await link.connect()
            channel = await self._rules[0].pool.open(link, "probe", timeout=OPEN_TIMEOUT)
            rtt = channel.health.rtt or answered
            self._rules[0].pool.remove(channel, "probe done")
        finally:
            await link.close()
        self.probes[entry_id(entry)] = (rtt, time.time())
        return rtt

    async def _switch(self, entry: AgentEntry, reason: str, *, force: bool = False) -> int:
        old = self.link
        link = AgentLink(self._endpoint, entry)
        old_id = None if old is None else old.id
        self.switching = link.id
        self._bus.emit(AgentSwitchStarted(old=old_id, new=link.id, reason=reason))
        try:
            await link.connect()
            prepared = await self._prepare(link, force=force)
        except BaseException as error:
            reason = str(error) or "no longer wanted"
            self._bus.emit(AgentSwitchFailed(old=old_id, new=link.id, reason=reason))
            await link.close()
            raise
        finally:
            self.switching = None
        self._adopt(link)
        flows = sum(rule.commit(link, channel) for rule, channel in zip(self._rules, prepared, strict=True))
        self.policy.works(entry)
        self._bus.emit(AgentSwitchDone(old=old_id, new=link.id, flows=flows))
        if old is not None:
            await old.close()
        return flows

    async def _prepare(self, link: AgentLink, *, force: bool) -> list[Channel | None]:
        """A channel to the new agent for every rule; all or nothing unless forced. Raises RtunError."""
        opened: dict[RuleId, Channel] = {}

        async def prepare(rule: RuleRelay) -> None:
            opened[rule.id] = await rule.pool.open(link, "switch", timeout=OPEN_TIMEOUT)

        try:
            results = await asyncio.gather(*map(prepare, self._rules), return_exceptions=True)
            self._judge([error for error in results if error is not None], opened, force=force)
        except BaseException:
            for rule in self._rules:
                if rule.id in opened:
                    rule.pool.remove(opened[rule.id], "agent switch failed")
            raise
        rtts = [each.health.rtt for each in opened.values() if each.health.rtt is not None]
        if rtts:
            self.probes[link.id] = (min(rtts), time.time())
            self._bus.emit(AgentSwitchProbed(new=link.id, rtt_ms=min(rtts) * 1e3))
        return [opened.get(rule.id) for rule in self._rules]

    def _judge(self, errors: list[BaseException], opened: dict[RuleId, Channel], *, force: bool) -> None:
        """Raise what stands against a switch: a bug, no channel at all, or a rule that would be cut off."""
        foreign = [error for error in errors if not isinstance(error, RtunError)]
        cut_off = any(rule.id not in opened and rule.pool.usable() for rule in self._rules)
        if foreign or not opened or (cut_off and not force):
            raise (foreign or errors)[0]


def _wants_tunnels(rule: RuleRelay) -> bool:
    return rule.state is RuleState.WAITING


def _now_ms() -> int:
    return int(time.time() * 1000)
