"""What the keys that act would do right now: a proposal to confirm, or the reason why not. Pure.

An operation looks at a `Context`, what is shown and chosen at this moment, and answers with a `Proposal`
(a command, what it will affect, whether to ask first), with a `Choice` when something is still to be
chosen, or with a `Refusal`, which is shown in the prompt line. It never acts on rows that are not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rtun_core.commands import (
    ALL,
    CloseFlow,
    CloseTunnel,
    Command,
    DrainTunnel,
    MoveFlow,
    OpenTunnel,
    PauseRule,
    PinAgent,
    PreferTunnel,
    ProbeAgent,
    RecycleTunnel,
    ResumeRule,
    SwitchAgent,
    UnpinAgent,
    is_flow_id,
)
from rtun_core.event import counted
from rtun_core.model import (
    AgentState,
    AgentView,
    FlowId,
    FlowView,
    RuleId,
    RuleState,
    RuleView,
    Snapshot,
    TunnelId,
    TunnelState,
    TunnelView,
)
from rtun_core.view.cells import visible
from rtun_core.view.columns import TableId
from rtun_core.view.units import millis_text, seconds_text
from rtun_tui import consequences

TYPED_FROM = 100  # affected flows above which the name is to be typed
NO_PREFERENCE = TunnelId("none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the user sees: `table` has the focus, `row` is under its cursor.

    `marked` are the marked rows that are shown, sorted; `hidden` is how many others are marked; `rules` are
    those of the marked flows that are in sight.
    """

    snapshot: Snapshot
    table: TableId
    row: Any = None
    marked: tuple[str, ...] = ()
    hidden: int = 0
    rules: frozenset[RuleId] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A command with everything to judge it by. `verb` is what the button says."""

    command: Command
    question: str
    verb: str
    facts: tuple[tuple[str, str], ...] = ()
    ask: bool = True  # harmless things are done at once
    typed: str = ""  # what is to be typed to confirm, if anything


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Something that is to be chosen first; `propose` turns the chosen value into a proposal."""

    question: str
    options: tuple[tuple[str, str], ...]  # value, text
    propose: Callable[[str], Proposal]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a key cannot work now, in one sentence."""

    why: str


Answer = Proposal | Choice | Refusal
Operation = Callable[[Context], Answer]


def use_agent(context: Context) -> Answer:
    """Switch to the agent under the cursor."""
    agent = _row(context, AgentView)
    if agent is None:
        return Refusal("using an agent starts from the Agents pane: choose one there")
    if agent.state is AgentState.IN_USE:
        return Refusal(f"agent {agent.id} is in use already")
    if agent.state is AgentState.LOST:
        return Refusal(f"agent {agent.id} is lost: it is no longer registered")
    if agent.state is AgentState.PROBING:
        return Refusal(f"a switch to agent {agent.id} is under way")
    snapshot = context.snapshot
    old = next((each for each in snapshot.agents if each.state is AgentState.IN_USE), None)
    flows = sum(rule.flows for rule in snapshot.rules)
    wanted = sum(max(rule.tunnels_min, min(rule.tunnels_up, rule.tunnels_max)) for rule in snapshot.rules)
    instead = f" instead of {old.id}" if old is not None else ""
    return Proposal(
        command=SwitchAgent(name=agent.name, instance=agent.instance or None),
        question=f"Use agent {agent.id}{instead}?",
        verb=f"Use {agent.name}",
        facts=(
            ("probe", _probe_text(agent, snapshot.ts)),
            ("new tunnels", f"{max(1, wanted)} will be opened first (make before break)"),
            ("flows", f"{counted(flows, 'flow')} move once every rule has a tunnel"),
            ("expires", "; ".join(_expiry(each, snapshot.ts) for each in (agent, old) if each is not None)),
        ),
        typed=_typed(flows, visible(agent.name).strip() or "use"),
    )


def probe_agent(context: Context) -> Answer:
    """Measure the way to the agent under the cursor."""
    agent = _row(context, AgentView)
    if agent is None:
        return Refusal("probing an agent starts from the Agents pane: choose one there")
    command = ProbeAgent(name=agent.name, instance=agent.instance or None)
    return Proposal(command=command, question=f"Probe agent {agent.id}?", verb="Probe", ask=False)


def pin_agent(context: Context) -> Answer:
    """Stay with the agent in use, or allow automatic switches again."""
    in_use = next((each for each in context.snapshot.agents if each.state is AgentState.IN_USE), None)
    if in_use is None:
        return Refusal("no agent is in use that could be pinned")
    if in_use.pinned:
        return Proposal(
            command=UnpinAgent(), question="Allow automatic switches again?", verb="Unpin", ask=False
        )
    return Proposal(command=PinAgent(), question=f"Stay with agent {in_use.id}?", verb="Pin", ask=False)


def drain_tunnel(context: Context) -> Answer:
    """Move the flows of the tunnel under the cursor elsewhere, then close it."""
    tunnel = _row(context, TunnelView)
    if tunnel is None:
        return Refusal("draining starts from the Tunnels pane: choose a tunnel there")
    if tunnel.state is TunnelState.DRAINING:
        return Refusal(f"tunnel {tunnel.id} is draining already, {counted(tunnel.flows, 'flow')} left")
    if tunnel.state is TunnelState.OPENING:
        return Refusal(f"tunnel {tunnel.id} is still opening")
    return Proposal(
        command=DrainTunnel(tunnel=tunnel.id),
        question=f"Drain tunnel {tunnel.id}?",
        verb=f"Drain {tunnel.id}",
        facts=(*_tunnel_facts(tunnel), ("flows", consequences.of_drain(tunnel, context.snapshot))),
        typed=_typed(tunnel.flows, tunnel.id),
    )


def recycle_tunnel(context: Context) -> Answer:
    """Replace the tunnel under the cursor; what is carried over a WebSocket gets a new one."""
    tunnel = _row(context, TunnelView)
    if tunnel is None:
        return Refusal("replacing a tunnel starts from the Tunnels pane: choose one there")
    if tunnel.state not in (TunnelState.UP, TunnelState.DEGRADED):
        return Refusal(f"tunnel {tunnel.id} is {tunnel.state} and cannot be replaced")
    return Proposal(
        command=RecycleTunnel(tunnel=tunnel.id),
        question=f"Replace tunnel {tunnel.id} by a new one?",
        verb=f"Replace {tunnel.id}",
        facts=(*_tunnel_facts(tunnel), ("flows", consequences.of_recycle(tunnel))),
        ask=tunnel.flows > 0,
        typed=_typed(tunnel.flows, tunnel.id),
    )


def close(context: Context) -> Answer:
    """Close the flows that are chosen, or the tunnel under the cursor."""
    if context.table == "tunnels":
        return _close_tunnel(context)
    flows = _chosen_flows(context)
    if not flows:
        return _no_flows(context, "closing works on flows and tunnels: choose one in its pane")
    what = f"flow {flows[0]}" if len(flows) == 1 else f"{len(flows)} marked flows"
    return Proposal(
        command=CloseFlow(flows=flows),
        question=f"Close {what}?",
        verb="Close",
        facts=(
            ("flows", consequences.of_closed_flows(_row(context, FlowView), context.snapshot)),
            *_left_alone(context),
        ),
        typed=_typed(len(flows), "close"),
    )


def move_flows(context: Context) -> Answer:
    """Move the flows that are chosen to a tunnel that is then to be chosen."""
    flows = _chosen_flows(context)
    if not flows:
        return _no_flows(context, "moving starts from the Flows pane: choose or mark flows there")
    tunnels = _destinations(context, flows)
    if not tunnels:
        return Refusal("there is no other tunnel that could take these flows")
    what = f"flow {flows[0]}" if len(flows) == 1 else f"{len(flows)} marked flows"

    def propose(tunnel: str) -> Proposal:
        return Proposal(
            command=MoveFlow(flows=flows, to=TunnelId(tunnel)),
            question=f"Move {what} to {tunnel}?",
            verb="Move",
            facts=(("target", "keeps seeing the same source port"), *_left_alone(context)),
            ask=len(flows) > 1,
            typed=_typed(len(flows), tunnel),
        )

    options = tuple((tunnel.id, _tunnel_line(tunnel)) for tunnel in tunnels)
    return Choice(question=f"Move {what} to which tunnel?", options=options, propose=propose)


def prefer_tunnel(context: Context) -> Answer:
    """Send new flows to the tunnel under the cursor while it is healthy, or take that back."""
    tunnel = _row(context, TunnelView)
    if tunnel is None:
        return Refusal("preferring starts from the Tunnels pane: choose a tunnel there")
    if tunnel.preferred:
        command, question = PreferTunnel(tunnel=NO_PREFERENCE), f"Prefer {tunnel.id} no longer?"
    elif tunnel.state in (TunnelState.UP, TunnelState.DEGRADED):
        command, question = PreferTunnel(tunnel=tunnel.id), f"Prefer tunnel {tunnel.id}?"
    else:
        return Refusal(f"tunnel {tunnel.id} is {tunnel.state} and takes no new flows")
    return Proposal(command=command, question=question, verb="Prefer", ask=False)


def open_tunnel(context: Context) -> Answer:
    """Open one more tunnel for the rule of the chosen row."""
    rule = _rule_of(context)
    if rule is None:
        return Refusal("there is no rule to open a tunnel for")
    return Proposal(
        command=OpenTunnel(rule=rule.id),
        question=f"Open one more tunnel for rule {rule.id}?",
        verb="Open",
        facts=(("rule", f"{rule.listen} -> {rule.target}"), ("tunnels", f"{rule.tunnels_up} up")),
        ask=False,
    )


def pause_rule(context: Context) -> Answer:
    """Pause or resume the rule of the chosen row."""
    rule = _rule_of(context)
    if rule is None:
        return Refusal("there is no rule to pause")
    facts = (("rule", f"{rule.listen} -> {rule.target}"), ("flows", f"{rule.flows:,}"))
    if rule.state is RuleState.PAUSED:
        return Proposal(
            command=ResumeRule(rule=rule.id),
            question=f"Resume rule {rule.id}?",
            verb="Resume",
            facts=facts,
            ask=False,
        )
    return Proposal(
        command=PauseRule(rule=rule.id),
        question=f"Pause rule {rule.id}?",
        verb="Pause",
        facts=(*facts, ("meanwhile", consequences.of_pause(rule))),
        typed=_typed(rule.flows, rule.id),
    )


OPERATIONS: Mapping[str, Operation] = {
    "act.use-agent": use_agent,
    "act.probe-agent": probe_agent,
    "act.pin": pin_agent,
    "act.drain": drain_tunnel,
    "act.recycle": recycle_tunnel,
    "act.move": move_flows,
    "act.close-flow": close,
    "act.prefer-tunnel": prefer_tunnel,
    "act.open-tunnel": open_tunnel,
    "act.pause-rule": pause_rule,
}


def typed_command(command: Command, snapshot: Snapshot) -> Proposal | None:
    """What to ask about a command that was typed; None: it is done at once.

    Few named flows are what somebody meant. Many, or whatever a filter finds, are asked about.
    """
    if not isinstance(command, MoveFlow | CloseFlow):
        return None
    filters = [each for each in command.flows if not is_flow_id(each)]
    total = sum(rule.flows for rule in snapshot.rules)
    count = total if ALL in filters else len(command.flows)
    if not filters and count <= TYPED_FROM:
        return None
    rest = [each for each in filters if each != ALL]
    what = f"every flow that passes {' or '.join(rest)}" if rest else f"{count:,} flows"
    verb = "Close" if isinstance(command, CloseFlow) else "Move"
    return Proposal(
        command=command,
        question=f"{verb} {what}?",
        verb=verb,
        facts=(("flows", f"there are {total:,} in all"),),
        typed=_typed(count, verb.lower()),
    )


def _close_tunnel(context: Context) -> Answer:
    tunnel = _row(context, TunnelView)
    if tunnel is None:
        return Refusal("there is no tunnel under the cursor")
    return Proposal(
        command=CloseTunnel(tunnel=tunnel.id),
        question=f"Close tunnel {tunnel.id} at once?",
        verb=f"Close {tunnel.id}",
        facts=(*_tunnel_facts(tunnel), ("flows", consequences.of_close(tunnel, context.snapshot))),
        typed=_typed(tunnel.flows, tunnel.id),
    )


def _row(context: Context, kind: type[Any]) -> Any:
    return context.row if isinstance(context.row, kind) else None


def _chosen_flows(context: Context) -> tuple[FlowId, ...]:
    if context.table != "flows":
        return ()
    if context.marked or context.hidden:
        return tuple(FlowId(key) for key in context.marked)
    flow = _row(context, FlowView)
    return () if flow is None else (flow.id,)


def _no_flows(context: Context, why: str) -> Refusal:
    if context.table == "flows" and context.hidden:
        return Refusal("none of the marked flows is shown: change the filter, or take the marks away")
    return Refusal(why)


def _left_alone(context: Context) -> tuple[tuple[str, str], ...]:
    if not context.hidden:
        return ()
    return (("left alone", f"{counted(context.hidden, 'marked flow')} that the filter hides, or that ended"),)


def _destinations(context: Context, flows: Sequence[FlowId]) -> list[TunnelView]:
    """Tunnels that can take flows: of the same rule, as far as it is known, and not where a lone flow is."""
    flow = _row(context, FlowView)
    lone = flow if flow is not None and list(flows) == [flow.id] else None
    return [
        tunnel
        for tunnel in context.snapshot.tunnels
        if tunnel.state in (TunnelState.UP, TunnelState.DEGRADED)
        and (lone is None or (tunnel.rule == lone.rule and tunnel.id != lone.tunnel))
        and (lone is not None or not context.rules or tunnel.rule in context.rules)
    ]


def _rule_of(context: Context) -> RuleView | None:
    """The rule of the row under the cursor; the only one, if there is no more than one."""
    rules = context.snapshot.rules
    row = context.row
    if isinstance(row, RuleView):
        return row
    wanted: RuleId | None = row.rule if isinstance(row, TunnelView | FlowView) else None
    if wanted is None:
        return rules[0] if len(rules) == 1 else None
    return next((rule for rule in rules if rule.id == wanted), None)


def _tunnel_facts(tunnel: TunnelView) -> tuple[tuple[str, str], ...]:
    rtt = "" if tunnel.rtt_ms is None else f", {millis_text(tunnel.rtt_ms)}"
    return (("tunnel", f"{tunnel.state}{rtt}, to {tunnel.remote or '-'}"),)


def _tunnel_line(tunnel: TunnelView) -> str:
    rtt = "-" if tunnel.rtt_ms is None else millis_text(tunnel.rtt_ms)
    return f"{tunnel.id:<5}{tunnel.state:<10}{rtt:>8}  {counted(tunnel.flows, 'flow')}"


def _probe_text(agent: AgentView, now: float) -> str:
    if agent.rtt_ms is None or agent.probed_at is None:
        return "not probed yet; the switch probes first"
    return f"ok, {millis_text(agent.rtt_ms)}, {seconds_text(max(0.0, now - agent.probed_at))} ago"


def _expiry(agent: AgentView, now: float) -> str:
    if agent.expires_at is None:
        return f"{agent.name} never"
    return f"{agent.name} in {seconds_text(max(0.0, agent.expires_at - now))}"


def _typed(flows: int, word: str) -> str:
    return word if flows > TYPED_FROM else ""
