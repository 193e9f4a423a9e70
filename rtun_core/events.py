"""What happens in rtun, as one frozen struct each: the JSON lines, the log, the recording and the docs."""

from __future__ import annotations

from typing import ClassVar

from rtun_core.event import Event, Level, counted
from rtun_core.model import AgentId, FlowId, RuleId, TunnelId


class EngineStarted(Event, frozen=True, kw_only=True, tag="engine.started"):
    """The engine runs; its services are about to start."""

    version: str
    pid: int
    services: tuple[str, ...]

    def text(self) -> str:
        return f"rtun {self.version} started ({', '.join(self.services)}), pid {self.pid}"


class EngineStopping(Event, frozen=True, kw_only=True, tag="engine.stopping"):
    """The engine drains and stops."""

    reason: str

    def text(self) -> str:
        return f"stopping: {self.reason}"


class ServiceListening(Event, frozen=True, kw_only=True, tag="service.listening"):
    """A service accepts traffic at an address."""

    service: str
    address: str
    detail: str = ""

    def text(self) -> str:
        return f"{self.service} listening on {self.address}" + (f" {self.detail}" if self.detail else "")


class Notice(Event, frozen=True, kw_only=True, tag="notice"):
    """Something a person should read that has no event of its own."""

    level: ClassVar[Level] = Level.WARNING
    topic: str
    message: str

    def text(self) -> str:
        return self.message


class SignalConnected(Event, frozen=True, kw_only=True, tag="signal.connected"):
    """A signalling session with the server is up."""

    url: str
    agent: str = ""

    def text(self) -> str:
        return f"signalling connected to {self.url}" + (f", agent {self.agent}" if self.agent else "")


class SignalLost(Event, frozen=True, kw_only=True, tag="signal.lost"):
    """The signalling session ended; tunnels live on and signalling reconnects behind them."""

    level: ClassVar[Level] = Level.WARNING
    url: str
    reason: str

    def text(self) -> str:
        return f"signalling with {self.url} lost: {self.reason}"


class AgentSeen(Event, frozen=True, kw_only=True, tag="agent.seen"):
    """An agent appeared in the registry that we watch or serve."""

    agent: AgentId
    address: str = ""

    def text(self) -> str:
        return f"agent {self.agent} seen" + (f" from {self.address}" if self.address else "")


class AgentSelected(Event, frozen=True, kw_only=True, tag="agent.selected"):
    """This agent carries new flows from now on."""

    agent: AgentId
    expires_at: float | None = None

    def text(self) -> str:
        return f"agent {self.agent} selected"


class AgentExpiring(Event, frozen=True, kw_only=True, tag="agent.expiring"):
    """The agent in use ends soon; a later one is being looked for."""

    level: ClassVar[Level] = Level.WARNING
    agent: AgentId
    seconds_left: float

    def text(self) -> str:
        return f"agent {self.agent} expires in {self.seconds_left:.0f} s"


class AgentLost(Event, frozen=True, kw_only=True, tag="agent.lost"):
    """An agent is gone from the registry or from reach."""

    level: ClassVar[Level] = Level.WARNING
    agent: AgentId
    reason: str

    def text(self) -> str:
        return f"agent {self.agent} lost: {self.reason}"


class AgentSwitchStarted(Event, frozen=True, kw_only=True, tag="agent.switch.started"):
    """A switch begins; the old agent carries everything until the new one has tunnels."""

    old: AgentId | None
    new: AgentId
    reason: str

    def text(self) -> str:
        return f"switching agent {self.old or '-'} -> {self.new}: {self.reason}"


class AgentSwitchProbed(Event, frozen=True, kw_only=True, tag="agent.switch.probed"):
    """The server and the new agent answered."""

    new: AgentId
    rtt_ms: float

    def text(self) -> str:
        return f"agent {self.new} probed, {self.rtt_ms:.0f} ms"


class AgentSwitchDone(Event, frozen=True, kw_only=True, tag="agent.switch.done"):
    """Every rule has a tunnel to the new agent and its flows use it."""

    old: AgentId | None
    new: AgentId
    flows: int

    def text(self) -> str:
        return f"agent switched {self.old or '-'} -> {self.new}, {counted(self.flows, 'flow')} moved"


class AgentSwitchFailed(Event, frozen=True, kw_only=True, tag="agent.switch.failed"):
    """The new agent gave no tunnel; the old one goes on."""

    level: ClassVar[Level] = Level.WARNING
    old: AgentId | None
    new: AgentId
    reason: str

    def text(self) -> str:
        return f"agent switch {self.old or '-'} -> {self.new} failed: {self.reason}"


class TunnelOpening(Event, frozen=True, kw_only=True, tag="tunnel.opening"):
    """A tunnel is being opened. `source`: bootstrap, scale-up, rotate, demand-open, switch or command."""

    level: ClassVar[Level] = Level.DEBUG
    tunnel: TunnelId
    rule: RuleId | None
    agent: AgentId | None
    source: str

    def text(self) -> str:
        return f"tunnel {self.tunnel} opening to {self.agent or '-'} ({self.source})"


class TunnelUp(Event, frozen=True, kw_only=True, tag="tunnel.up"):
    """A tunnel carries traffic."""

    tunnel: TunnelId
    rule: RuleId | None
    agent: AgentId | None
    source: str
    remote: str
    codec: str = ""
    rtt_ms: float | None = None

    def text(self) -> str:
        rtt = "" if self.rtt_ms is None else f", rtt {self.rtt_ms:.1f} ms"
        codec = f", codec {self.codec}" if self.codec else ""
        return f"tunnel {self.tunnel} up ({self.source}): {self.agent or '-'} at {self.remote}{codec}{rtt}"


class TunnelDegraded(Event, frozen=True, kw_only=True, tag="tunnel.degraded"):
    """A tunnel became clearly worse; flows may leave it. `recovered` when it is good again."""

    level: ClassVar[Level] = Level.WARNING
    tunnel: TunnelId
    reason: str
    recovered: bool = False

    def text(self) -> str:
        return f"tunnel {self.tunnel} {'recovered' if self.recovered else 'degraded'}: {self.reason}"


class TunnelDraining(Event, frozen=True, kw_only=True, tag="tunnel.draining"):
    """No new flows; the tunnel closes when its flows have left or ended."""

    tunnel: TunnelId
    flows: int
    reason: str

    def text(self) -> str:
        return f"tunnel {self.tunnel} draining, {counted(self.flows, 'flow')} left: {self.reason}"


class TunnelReplaced(Event, frozen=True, kw_only=True, tag="tunnel.replaced"):
    """A tunnel at the end of its lifetime has a successor."""

    tunnel: TunnelId
    by: TunnelId

    def text(self) -> str:
        return f"tunnel {self.tunnel} rotated: replaced by {self.by}"


class TunnelClosed(Event, frozen=True, kw_only=True, tag="tunnel.closed"):
    """A tunnel is gone, or could not be opened (`opened` false)."""

    tunnel: TunnelId
    reason: str
    opened: bool = True

    @property
    def severity(self) -> Level:
        """A tunnel that could not be opened is worth a warning."""
        return Level.INFO if self.opened else Level.WARNING

    def text(self) -> str:
        return f"tunnel {self.tunnel} {'closed' if self.opened else 'not opened'}: {self.reason}"


class PoolScaled(Event, frozen=True, kw_only=True, tag="pool.scaled"):
    """The number of tunnels wanted for a rule changed."""

    level: ClassVar[Level] = Level.DEBUG
    rule: RuleId
    wanted: int
    reason: str

    def text(self) -> str:
        return f"rule {self.rule} wants {counted(self.wanted, 'tunnel')}: {self.reason}"


class FlowOpened(Event, frozen=True, kw_only=True, tag="flow.opened"):
    """A source address spoke for the first time."""

    level: ClassVar[Level] = Level.DEBUG
    flow: FlowId
    rule: RuleId | None
    source: str
    target: str
    tunnel: TunnelId | None

    def text(self) -> str:
        return f"flow {self.flow} opened: {self.source} -> {self.target} on {self.tunnel or '-'}"


class FlowMoved(Event, frozen=True, kw_only=True, tag="flow.moved"):
    """Flows went from one tunnel to another for one reason; `flow` only when it was a single one."""

    level: ClassVar[Level] = Level.DEBUG
    flow: FlowId | None
    count: int
    old: TunnelId | None
    new: TunnelId
    reason: str

    def text(self) -> str:
        what = f"flow {self.flow}" if self.flow else counted(self.count, "flow")
        return f"{what} moved {self.old or '-'} -> {self.new}: {self.reason}"


class FlowClosed(Event, frozen=True, kw_only=True, tag="flow.closed"):
    """Flows ended for one reason; `flow` only when it was a single one."""

    level: ClassVar[Level] = Level.DEBUG
    flow: FlowId | None
    count: int
    reason: str

    def text(self) -> str:
        what = f"flow {self.flow}" if self.flow else counted(self.count, "flow")
        return f"{what} closed: {self.reason}"


class RuleChanged(Event, frozen=True, kw_only=True, tag="rule.changed"):
    """A rule was paused, resumed, or waits for a tunnel."""

    rule: RuleId
    state: str
    reason: str = ""

    def text(self) -> str:
        return f"rule {self.rule} {self.state}" + (f": {self.reason}" if self.reason else "")


class Drops(Event, frozen=True, kw_only=True, tag="drops"):
    """Datagrams dropped since the last such event, by reason; at most one a second."""

    level: ClassVar[Level] = Level.WARNING
    counts: dict[str, int]

    def text(self) -> str:
        return "dropped " + ", ".join(f"{count} {reason}" for reason, count in sorted(self.counts.items()))


class Faults(Event, frozen=True, kw_only=True, tag="faults"):
    """What peers did wrong since the last such event, by reason; at most one a second."""

    level: ClassVar[Level] = Level.WARNING
    counts: dict[str, int]

    def text(self) -> str:
        return "peers: " + ", ".join(f"{count} {reason}" for reason, count in sorted(self.counts.items()))


class CommandDone(Event, frozen=True, kw_only=True, tag="command.done"):
    """A command was carried out. `who`: console, ctl, demo."""

    who: str
    command: str
    result: str = ""

    def text(self) -> str:
        return f"{self.who}: {self.command}" + (f": {self.result}" if self.result else "")


class CommandWasRefused(Event, frozen=True, kw_only=True, tag="command.refused"):
    """A command could not be carried out."""

    level: ClassVar[Level] = Level.WARNING
    who: str
    command: str
    reason: str

    def text(self) -> str:
        return f"{self.who}: {self.command} refused: {self.reason}"


class ConsoleAttached(Event, frozen=True, kw_only=True, tag="console.attached"):
    """A console looks at this engine. `who`: console in this process, or attached through the socket."""

    level: ClassVar[Level] = Level.DEBUG
    who: str = "console"

    def text(self) -> str:
        return f"{self.who} attached"


class ConsoleDetached(Event, frozen=True, kw_only=True, tag="console.detached"):
    """A console looks no more, and was closed in good order."""

    level: ClassVar[Level] = Level.DEBUG
    who: str = "console"
    reason: str

    def text(self) -> str:
        return f"{self.who} detached: {self.reason}"


class ConsoleLost(Event, frozen=True, kw_only=True, tag="console.lost"):
    """A console looks no more, and nobody has closed it: its terminal or its link is gone, or it broke.

    `failed`: by an error of its own, of which a notice tells.
    """

    who: str = "console"
    reason: str
    failed: bool = False

    @property
    def severity(self) -> Level:
        """A failure is an error."""
        return Level.ERROR if self.failed else Level.WARNING

    def text(self) -> str:
        return f"{self.who} lost: {self.reason}"


class DemoSummary(Event, frozen=True, kw_only=True, tag="demo.summary"):
    """What became of the demo's traffic."""

    seconds: float
    sent: int
    answered: int
    wrong: int
    duplicates: int
    rtt_p50_ms: float
    rtt_p90_ms: float
    rtt_p99_ms: float
    rtt_max_ms: float
    switches: int
    rotations: int

    def text(self) -> str:
        return f"demo: {self.answered} of {self.sent} datagrams came back, rtt p50 {self.rtt_p50_ms:.2f} ms"


class BusLagged(Event, frozen=True, kw_only=True, tag="bus.lagged"):
    """This subscriber was too slow; `skipped` events are missing right before this one."""

    level: ClassVar[Level] = Level.WARNING
    skipped: int

    def text(self) -> str:
        return f"{self.skipped} events skipped: the reader is slow"


def event_types() -> dict[str, type[Event]]:
    """Every event type by its tag, for docs, schema and tests."""
    return {str(kind.__struct_config__.tag): kind for kind in Event.__subclasses__()}
