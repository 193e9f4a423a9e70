"""Who is registered: one record per agent name, and what happens when names and instances collide.

Pure bookkeeping on Unix milliseconds of the server's clock (wire spec 6.4).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from rtun_core.errors import CommandRefused
from rtun_core.wire.signal_json import NEVER, AgentEntry, agent_not_found, instance_mismatch

GRACE_MS = 60_000
"""An expired agent stays this long: clients compare its expiry with clocks of their own."""

MAX_NAME = 255

Session = TypeVar("Session")


@dataclass(frozen=True, eq=False, kw_only=True)
class AgentRecord(Generic[Session]):
    """One registration. `uid` counts registrations; `session` is whatever reaches the agent."""

    name: str
    instance: str
    address: str
    expire_at: int  # Unix ms, NEVER if it does not expire
    ver: str | None
    session: Session = field(repr=False)
    uid: int

    def entry(self) -> AgentEntry:
        """The record as clients see it."""
        return AgentEntry(self.name, self.address, self.expire_at, self.instance, self.ver)


class Registry(Generic[Session]):
    """The agents by name. A name belongs to the agent that registered it last."""

    def __init__(self, max_agents: int) -> None:
        self._max_agents = max_agents
        self._records: dict[str, AgentRecord[Session]] = {}
        self._uid = 0

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[AgentRecord[Session]]:
        return iter(list(self._records.values()))

    def check(self, name: str) -> None:
        """Raise CommandRefused, with a text for the agent, if `name` could not be registered now."""
        if not name or len(name) > MAX_NAME or not name.isprintable():
            raise CommandRefused(f"bad agent name; accepted: 1 to {MAX_NAME} printable characters")
        if name not in self._records and len(self._records) >= self._max_agents:
            raise CommandRefused(f"too many agents; accepted: up to {self._max_agents}")

    def register(
        self,
        *,
        name: str,
        instance: str,
        address: str,
        expire_at: int,
        ver: str | None,
        session: Session,
    ) -> tuple[AgentRecord[Session], AgentRecord[Session] | None]:
        """Enter an agent; returns its record and the one it replaces, whose session is to be kicked.

        Raises CommandRefused as `check` does.
        """
        self.check(name)
        self._uid += 1
        record = AgentRecord(
            name=name,
            instance=instance,
            address=address,
            expire_at=expire_at,
            ver=ver,
            session=session,
            uid=self._uid,
        )
        replaced = self._records.get(name)
        self._records[name] = record
        return record, replaced

    def remove(self, record: AgentRecord[Session]) -> bool:
        """Forget an agent unless another one has taken its name; whether it was there."""
        if self._records.get(record.name) is not record:
            return False
        del self._records[record.name]
        return True

    def purge(self, now_ms: int) -> list[AgentRecord[Session]]:
        """Forget and return the agents that expired more than a minute ago."""
        gone = [record for record in self if record.expire_at + GRACE_MS <= now_ms]
        for record in gone:
            self.remove(record)
        return gone

    def find(self, name: str, instance: str | None) -> AgentRecord[Session]:
        """The agent of this name, if it is this instance. Raises CommandRefused with the wire's reason."""
        record = self._records.get(name)
        if record is None:
            raise CommandRefused(agent_not_found(name))
        if instance is not None and record.instance != instance:
            raise CommandRefused(instance_mismatch(name, instance, record.instance))
        return record

    def entries(self) -> list[AgentEntry]:
        """Every agent as clients see it."""
        return [record.entry() for record in self]


def expire_at(now_ms: int, expire_in_ms: int | None) -> int:
    """When an agent expires that announces `expire_in_ms` now (Unix ms); NEVER without an announcement."""
    return NEVER if expire_in_ms is None else min(NEVER, now_ms + expire_in_ms)
