"""The engine: owns the services, answers for their life, and is where snapshots and commands come from.

Everything here belongs to the engine's loop. A run is `start`, `run_until_stopped`, `stop`, in this
order, and `stop` also after a failure of one of the others. What ends a run: `request_stop`, the Quit
command, or a service that ends by itself.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import chain

import msgspec

from rtun_core import __version__
from rtun_core.bus import EventBus
from rtun_core.commands import Command, CommandResult, Quit, told
from rtun_core.engine.merge import grown, merge, total
from rtun_core.engine.rate_meter import RateMeter
from rtun_core.engine.select_flows import with_flows
from rtun_core.engine.service import CommandHandler, HasPast, Service
from rtun_core.errors import CommandRefused, RtunError
from rtun_core.events import (
    CommandDone,
    CommandWasRefused,
    Drops,
    EngineStarted,
    EngineStopping,
    Faults,
    Notice,
)
from rtun_core.model import Snapshot, Traffic, add_counts
from rtun_core.net.tasks import TaskOwner
from rtun_core.view.history import History, HistoryPicture

SNAPSHOT_AGE = 0.25  # seconds that a snapshot is given out again
TICK = 1.0  # seconds between two reports of drops and faults
DRAIN_LIMIT = 8.0  # seconds that a service may take to drain
CLOSE_LIMIT = 3.0  # seconds that a service may take to close without draining


class Engine:
    """Runs services until asked to stop. `drain_limit` bounds the orderly end of each, in seconds."""

    def __init__(
        self,
        services: Sequence[Service],
        bus: EventBus,
        *,
        drain_limit: float = DRAIN_LIMIT,
        wall: Callable[[], float] = time.time,
        mono: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bus = bus
        self.status = 0
        self.console_frames_dropped = 0
        self.handlers: list[CommandHandler] = []  # what carries out commands beside the services
        self.recording = ""  # the file that is recorded into
        self._services = tuple(services)
        self._running: list[Service] = []
        self._drain_limit = drain_limit
        self._wall = wall
        self._mono = mono
        self._begin = mono()
        self._tasks = TaskOwner("engine", self._task_failed)
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._stopped = False
        self._reason = ""
        self._error: BaseException | None = None
        self._starting: asyncio.Timeout | None = None
        self._cached: tuple[float, Snapshot] | None = None
        self._meter = RateMeter()
        self._history = History()
        self.history: HistoryPicture = self._history.picture()
        self._reported: tuple[dict[str, int], dict[str, int]] = ({}, {})
        self._faults: dict[str, int] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the services."""
        return tuple(service.name for service in self._services)

    @property
    def is_up(self) -> bool:
        """Whether every service has started."""
        return len(self._running) == len(self._services)

    @property
    def stopping(self) -> bool:
        """Whether an end was asked for."""
        return self._stop.is_set()

    async def start(self) -> None:
        """Start the services in order. What one of them raises is raised here, with nothing left open.

        When a stop is asked for meanwhile, the service that is starting is cancelled and this returns.
        """
        self._begin = self._mono()
        self.bus.emit(EngineStarted(version=__version__, pid=os.getpid(), services=self.names))
        try:
            for service in self._services:
                await self._start_service(service)
        except BaseException as error:
            self._reason = self._reason or str(error) or type(error).__name__
            self.hurry(getattr(error, "exit_status", 1))
            await self.stop()
            raise
        if not self.stopping:
            self._tasks.spawn(self._tick(), "tick")

    async def run_until_stopped(self) -> int:
        """Wait for the end and return the exit status. Raises what a service ended with, if it failed."""
        await self._stop.wait()
        if self._error is not None:
            raise self._error
        return self.status

    def request_stop(self, reason: str, status: int = 0) -> None:
        """Ask for an orderly end. Only the first call gives the reason and the exit status."""
        if self.stopping:
            return
        self._reason = self._reason or reason
        self.status = status
        self._stop.set()
        if self._starting is not None:
            self._starting.reschedule(0)

    def hurry(self, status: int) -> None:
        """Ask for an end without draining, also in the middle of draining."""
        self.request_stop("at once", status)
        self.status = status
        self._hurry.set()

    async def stop(self) -> None:
        """Stop every service, each within a bounded time. Calling it again does nothing."""
        if self._stopped:
            return
        self._stopped = True
        self.request_stop("closed")
        self.bus.emit(EngineStopping(reason=self._reason))
        await asyncio.gather(*(self._stop_service(service) for service in reversed(self._running)))
        self.report_counters()
        await self._tasks.close()

    def snapshot(self, *, fresh: bool = False) -> Snapshot:
        """The picture of every running service, at most `SNAPSHOT_AGE` old, or taken now if `fresh`."""
        now = self._mono()
        if not fresh and self._cached is not None and now - self._cached[0] < SNAPSHOT_AGE:
            return self._cached[1]
        snapshot = self._with_rates(self._take(now))
        self._cached = (now, snapshot)
        return snapshot

    async def execute(self, command: Command, who: str) -> CommandResult:
        """Carry out a command for `who` and put it into the event log.

        Raises CommandRefused, or what else of our own errors the service raises.
        """
        try:
            result = await self._dispatch(with_flows(command, self.snapshot), who)
        except RtunError as error:
            self.bus.emit(CommandWasRefused(who=who, command=told(command), reason=str(error)))
            raise
        self.bus.emit(CommandDone(who=who, command=told(command), result=result.text))
        return result

    def count_fault(self, reason: str) -> None:
        """Count what somebody who came to the engine itself, not to a service, did wrong."""
        add_counts(self._faults, {reason: 1})

    def report_counters(self) -> None:
        """Emit what was dropped, and what peers did wrong, since the last report."""
        counters = [service.counters() for service in self._running]
        drops = total(one for one, _ in counters)
        faults = total((self._faults, *(one for _, one in counters)))
        new_drops, new_faults = grown(drops, self._reported[0]), grown(faults, self._reported[1])
        self._reported = (drops, faults)
        if new_drops:
            self.bus.emit(Drops(counts=new_drops))
        if new_faults:
            self.bus.emit(Faults(counts=new_faults))

    async def _start_service(self, service: Service) -> None:
        if self.stopping:
            return
        if isinstance(service, HasPast):
            self._recall(service)
        try:
            async with asyncio.timeout(None) as self._starting:
                await service.start()
        except TimeoutError:
            if self._starting is None or not self._starting.expired():
                raise
            await service.stop(drain=False)
            return
        finally:
            self._starting = None
        self._running.append(service)
        self._tasks.spawn(self._watch(service), f"watch {service.name}")

    async def _watch(self, service: Service) -> None:
        reason = await service.wait()
        self.request_stop(reason)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self.report_counters()
            self._sample()

    async def _stop_service(self, service: Service) -> None:
        if not self._hurry.is_set() and await self._drained(service):
            return
        closing = self._tasks.spawn(service.stop(drain=False), f"close {service.name}")
        await asyncio.wait({closing}, timeout=CLOSE_LIMIT)

    async def _drained(self, service: Service) -> bool:
        """Whether the service stopped in good order before its time was up."""
        draining = self._tasks.spawn(service.stop(drain=True), f"drain {service.name}")
        hurried = self._tasks.spawn(self._hurry.wait(), f"hurry {service.name}")
        either = {draining, hurried}
        await asyncio.wait(either, timeout=self._drain_limit, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if draining.done():
            return not draining.cancelled() and draining.exception() is None
        draining.cancel()
        await asyncio.wait({draining}, timeout=CLOSE_LIMIT)
        return False

    def _task_failed(self, name: str, error: BaseException) -> None:
        if self.stopping:
            self.bus.emit(Notice(topic="engine", message=f"{name} failed while stopping: {error!r}"))
            return
        self._error = error
        self.request_stop(str(error) or repr(error), getattr(error, "exit_status", 1))

    def _sample(self) -> None:
        """Once a second: what rates and plots are made of, whether somebody looks or not."""
        now = self._mono()
        snapshot = self._take(now, flows=False)
        self._meter.sample(_counters(snapshot), now)
        self._history.observe(self._with_rates(snapshot))
        self.history = self._history.picture()

    def _recall(self, service: HasPast) -> None:
        """Begin the history with what the service knows; what was dropped then is not reported as new."""
        for snapshot in service.past():
            self._history.observe(snapshot)
        self.history = self._history.picture()
        drops, faults = service.counters()
        self._reported = (total((self._reported[0], drops)), total((self._reported[1], faults)))

    def _with_rates(self, snapshot: Snapshot) -> Snapshot:
        rates, replace = self._meter.rates, msgspec.structs.replace
        return replace(
            snapshot,
            rates=rates(_WHOLE),
            rules=tuple(replace(rule, rates=rates(rule.id)) for rule in snapshot.rules),
            tunnels=tuple(replace(tunnel, rates=rates(tunnel.id)) for tunnel in snapshot.tunnels),
        )

    def _take(self, now: float, *, flows: bool = True) -> Snapshot:
        merged = merge(service.snapshot(flows=flows) for service in self._running)
        parts = merged.services
        return Snapshot(
            seq=self.bus.seq,
            ts=self._wall(),
            uptime_s=now - self._begin,
            pid=os.getpid(),
            version=__version__,
            services=self.names,
            signal=tuple(chain.from_iterable(part.signal for part in parts)),
            rules=tuple(chain.from_iterable(part.rules for part in parts)),
            agents=tuple(chain.from_iterable(part.agents for part in parts)),
            tunnels=tuple(chain.from_iterable(part.tunnels for part in parts)),
            flows=merged.flows,
            traffic=merged.traffic,
            drops=merged.drops,
            faults=total((self._faults, merged.faults)),
            console_frames_dropped=self.console_frames_dropped,
            recording=self.recording,
        )

    async def _dispatch(self, command: Command, who: str) -> CommandResult:
        if isinstance(command, Quit):
            self.request_stop(f"{who} asked to quit")
            return CommandResult(text="stopping")
        for handler in (*self.handlers, *self._running):
            if handler.handles(command):
                return await handler.handle(command)
        words = " ".join(command.words)
        raise CommandRefused(
            f"{words!r} is not a command of this process, which runs {', '.join(self.names)}"
        )


_WHOLE = ""  # the key of everything together


def _counters(snapshot: Snapshot) -> Iterator[tuple[Hashable, Traffic]]:
    yield _WHOLE, snapshot.traffic
    for rule in snapshot.rules:
        yield rule.id, rule.traffic
    for tunnel in snapshot.tunnels:
        yield tunnel.id, tunnel.traffic
