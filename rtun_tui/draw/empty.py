"""What stands in a table without rows: why there are none, as far as the snapshot knows."""

from __future__ import annotations

from rtun_core.model import RuleState, Snapshot
from rtun_core.view.cells import visible
from rtun_core.view.columns import TableId
from rtun_core.view.units import Look, masked_text

LOST = "lost"  # the state of a signalling connection that was there, or could not be made


def empty_text(table: TableId, snapshot: Snapshot, look: Look) -> str:
    """One sentence without a full stop; what came from elsewhere in it is safe to draw."""
    match table:
        case "agents":
            text = _no_agents(snapshot)
        case "tunnels":
            text = _no_tunnels(snapshot)
        case "flows":
            text = _no_flows(snapshot)
        case _:
            text = "no rules"
    return masked_text(visible(text)) if look.private else visible(text)


def _no_agents(snapshot: Snapshot) -> str:
    reason = next((signal.reason for signal in snapshot.signal if signal.state == LOST), "")
    return f"no agent is known: {reason}" if reason else "no agent is registered"


def _no_tunnels(snapshot: Snapshot) -> str:
    reason = next((rule.reason for rule in snapshot.rules if rule.reason), "")
    return f"no tunnel yet: {reason}" if reason else "no tunnel yet"


def _no_flows(snapshot: Snapshot) -> str:
    open_rules = [rule for rule in snapshot.rules if rule.state not in (RuleState.PAUSED, RuleState.STOPPED)]
    if not open_rules:
        return "no flows: every rule is paused" if snapshot.rules else "no flows yet"
    more = f" and {len(open_rules) - 1} more" if len(open_rules) > 1 else ""
    return f"no flows yet: {open_rules[0].id} listens on {open_rules[0].listen}{more}"
