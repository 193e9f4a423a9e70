"""Which agent carries the relay: selection, replacement before expiry, and who is out of favour.

Pure: times are Unix milliseconds as on the wire, `now` too. The order is the originals' (wire spec
6.4): latest `expire_at`, then instance id descending, then name and address ascending. Differently
from them a switch before expiry goes only to an agent that expires *later*, so that two agents that
both end soon do not bounce.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from rtun_core.model import AgentId, agent_id
from rtun_core.wire.signal_json import NEVER, AgentEntry

REPLACEMENT_WINDOW_MS = 600_000  # wire spec 10
LOCAL_AGENT = "local"  # the agent inside a signalling server
WORTHWHILE_MS = 10_000  # a replacement must live at least this much longer
BLOCK_FIRST_MS = 10_000
BLOCK_MAX_MS = 160_000


def entry_id(entry: AgentEntry) -> AgentId:
    """The identity of a registry entry."""
    return agent_id(entry.name, entry.instance_id or entry.addr)


def rank(entries: Iterable[AgentEntry]) -> list[AgentEntry]:
    """Entries in the order of preference."""
    by_place = sorted(entries, key=lambda entry: (entry.name, entry.addr))
    return sorted(by_place, key=lambda entry: (entry.expire_at, entry.instance_id or ""), reverse=True)


class AgentPolicy:
    """Remembers the agent in use, what the registry said last, and which agents failed recently."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern
        self._blocked: dict[AgentId, tuple[int, int]] = {}  # until, length of the block
        self.known: list[AgentEntry] = []
        self.current: AgentEntry | None = None
        self.pinned = False

    @property
    def wants_local(self) -> bool:
        """Whether the user asked for the server's built-in agent, by that very name."""
        return self._pattern.pattern == LOCAL_AGENT

    def listed(self, entries: Iterable[AgentEntry]) -> tuple[list[AgentEntry], list[AgentEntry]]:
        """Take in a registry listing; returns the agents that appeared and those that vanished."""
        before = {entry_id(entry): entry for entry in self.known}
        self.known = rank(entry for entry in entries if self._pattern.search(entry.name))
        after = {entry_id(entry): entry for entry in self.known}
        if self.current is not None:
            self.current = after.get(entry_id(self.current), self.current)
        appeared = [entry for key, entry in after.items() if key not in before]
        vanished = [entry for key, entry in before.items() if key not in after]
        return appeared, vanished

    def is_listed(self, entry: AgentEntry) -> bool:
        """Whether the newest listing contains this very instance."""
        return any(entry_id(each) == entry_id(entry) for each in self.known)

    def find(self, name: str, instance: str | None = None) -> AgentEntry | None:
        """The listed agent of that name, best first."""
        for entry in self.known:
            if entry.name == name and instance in (None, entry.instance_id):
                return entry
        return None

    def choose(self, now_ms: int) -> AgentEntry | None:
        """The agent to start with; when all that match are blocked, the blocks are forgotten."""
        alive = [entry for entry in self.known if entry.expire_at > now_ms]
        allowed = [entry for entry in alive if not self._is_blocked(entry, now_ms)]
        if alive and not allowed:
            self._blocked = {key: (0, length) for key, (_, length) in self._blocked.items()}
        usable = allowed or alive
        return usable[0] if usable else None

    def in_replacement_window(self, now_ms: int) -> bool:
        """Whether the agent in use ends within ten minutes."""
        current = self.current
        return current is not None and _ends_within(current, now_ms, REPLACEMENT_WINDOW_MS)

    def replacement(self, now_ms: int) -> AgentEntry | None:
        """A better agent to switch to on our own, or None."""
        current = self.current
        if current is None or self.pinned or not self.in_replacement_window(now_ms):
            return None
        for entry in self.known:
            if entry_id(entry) == entry_id(current) or self._is_blocked(entry, now_ms):
                continue
            if entry.expire_at >= current.expire_at + WORTHWHILE_MS and entry.expire_at > now_ms:
                return entry
        return None

    def failed(self, entry: AgentEntry, now_ms: int) -> None:
        """The agent could not be used: leave it out for a while, longer each time."""
        _, length = self._blocked.get(entry_id(entry), (0, BLOCK_FIRST_MS // 2))
        length = min(length * 2, BLOCK_MAX_MS)
        self._blocked[entry_id(entry)] = (now_ms + length, length)
        while len(self._blocked) > 1024:  # instance ids change at every registration
            del self._blocked[next(iter(self._blocked))]

    def works(self, entry: AgentEntry) -> None:
        """The agent gave a tunnel: forget its failures."""
        self._blocked.pop(entry_id(entry), None)

    def _is_blocked(self, entry: AgentEntry, now_ms: int) -> bool:
        return self._blocked.get(entry_id(entry), (0, 0))[0] > now_ms


def _ends_within(entry: AgentEntry, now_ms: int, window_ms: int) -> bool:
    return entry.expire_at < NEVER and entry.expire_at - now_ms <= window_ms
