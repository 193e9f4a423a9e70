"""What each key that acts would do: propose, offer a choice, or say why not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.commands import (
    CloseFlow,
    CloseTunnel,
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
    parse_command,
    spell,
)
from rtun_core.model import AgentState, RuleState, TunnelState
from rtun_tui.key_actions import KEY_ACTIONS
from rtun_tui.operations import (
    NO_PREFERENCE,
    OPERATIONS,
    TYPED_FROM,
    Choice,
    Context,
    Proposal,
    Refusal,
    close,
    drain_tunnel,
    move_flows,
    open_tunnel,
    pause_rule,
    pin_agent,
    prefer_tunnel,
    probe_agent,
    recycle_tunnel,
    typed_command,
    use_agent,
)
from tests.tui.views import AGENT, FLOW, NOW, OTHER, RULE, SECOND, TUNNEL, but, snapshot


def on(table, row=None, **changes):
    context = {name: changes.pop(name) for name in ("marked", "hidden") if name in changes}
    context["rules"] = frozenset(changes.pop("rules_of_marked", ()))
    return Context(snapshot=snapshot(**changes), table=table, row=row, **context)


def facts(proposal):
    return dict(proposal.facts)


def test_every_key_that_acts_has_its_operation():
    assert set(OPERATIONS) == {action.id for action in KEY_ACTIONS if action.id.startswith("act.")}


MANY = tuple(f"{number:08x}" for number in range(TYPED_FROM + 1))


@pytest.mark.parametrize(
    ("command", "question", "typed"),
    [
        (PinAgent(), None, None),
        (CloseFlow(flows=MANY[1:]), None, None),
        (CloseFlow(flows=MANY), "Close 101 flows?", "close"),
        (MoveFlow(flows=MANY, to="t1"), "Move 101 flows?", "move"),
        (CloseFlow(flows=("@all",)), "Close 1,284 flows?", "close"),
        (CloseFlow(flows=("idle>1m", "00000001")), "Close every flow that passes idle>1m?", ""),
    ],
)
def test_a_line_is_asked_about_if_it_may_be_about_many(command, question, typed):
    proposal = typed_command(command, snapshot(rules=(but(RULE, flows=1284),)))
    if question is None:
        assert proposal is None
    else:
        assert (proposal.question, proposal.typed, proposal.command) == (question, typed, command)
        assert facts(proposal)["flows"] == "there are 1,284 in all"


ROWS = {"agents": OTHER, "tunnels": TUNNEL, "flows": FLOW, "rules": RULE, "nothing": None}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize("table", ROWS)
@pytest.mark.parametrize("empty", [True, False], ids=["empty", "full"])
def test_everywhere_there_is_an_answer(operation, table, empty):
    nothing = {"agents": (), "tunnels": (), "rules": (), "flows": ()} if empty else {}
    answer = operation(on("flows" if table == "nothing" else table, ROWS[table], **nothing))
    if isinstance(answer, Choice):
        answer = answer.propose(answer.options[0][0])
    if isinstance(answer, Refusal):
        assert answer.why
        assert "\n" not in answer.why
        return
    assert answer.question.endswith("?")
    assert answer.verb
    assert parse_command(spell(answer.command)) == answer.command


# -- agents ----------------------------------------------------------------------------------------


def test_use_an_agent():
    answer = use_agent(on("agents", OTHER))
    assert answer.command == SwitchAgent(name="alpha", instance="19d0")
    assert answer.question == "Use agent alpha/19d0 instead of beta/7f3c?"
    assert (answer.verb, answer.ask, answer.typed) == ("Use alpha", True, "")
    assert facts(answer) == {
        "probe": "ok, 21.0ms, 3.0s ago",
        "new tunnels": "2 will be opened first (make before break)",
        "flows": "4 flows move once every rule has a tunnel",
        "expires": "alpha never; beta in 41m00s",
    }


def test_the_first_agent_replaces_none():
    answer = use_agent(on("agents", but(OTHER, rtt_ms=None), agents=(OTHER,), rules=()))
    assert answer.question == "Use agent alpha/19d0?"
    assert facts(answer)["probe"] == "not probed yet; the switch probes first"
    assert facts(answer)["new tunnels"].startswith("1 ")


def test_an_agent_without_instances_is_named_alone():
    assert use_agent(on("agents", but(OTHER, instance=""))).command == SwitchAgent(name="alpha")


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (AgentState.IN_USE, "in use already"),
        (AgentState.LOST, "no longer registered"),
        (AgentState.PROBING, "under way"),
    ],
)
def test_agents_that_cannot_be_used(state, why):
    assert why in use_agent(on("agents", but(OTHER, state=state))).why


def test_many_flows_want_the_name_typed():
    for flows, typed in ((TYPED_FROM, ""), (TYPED_FROM + 1, "alpha")):
        assert use_agent(on("agents", OTHER, rules=(but(RULE, flows=flows),))).typed == typed


@pytest.mark.parametrize(("name", "typed"), [("a\x1b[1mlpha ", "a[1mlpha"), ("\x00", "use")])
def test_what_is_to_be_typed_can_be_typed(name, typed):
    answer = use_agent(on("agents", but(OTHER, name=name), rules=(but(RULE, flows=500),)))
    assert answer.typed == typed


def test_a_probe_is_harmless():
    answer = probe_agent(on("agents", OTHER))
    assert (answer.command, answer.ask) == (ProbeAgent(name="alpha", instance="19d0"), False)


def test_pin_and_unpin():
    assert pin_agent(on("flows")).command == PinAgent()
    assert pin_agent(on("flows", agents=(but(AGENT, pinned=True),))).command == UnpinAgent()
    assert "no agent is in use" in pin_agent(on("agents", OTHER, agents=(OTHER,))).why


@pytest.mark.parametrize("operation", [use_agent, probe_agent])
def test_agents_are_chosen_in_their_own_pane(operation):
    assert "choose one there" in operation(on("flows", FLOW)).why


# -- tunnels ---------------------------------------------------------------------------------------


def test_drain_a_tunnel():
    answer = drain_tunnel(on("tunnels", TUNNEL))
    assert (answer.command, answer.ask, answer.verb) == (DrainTunnel(tunnel="t1"), True, "Drain t1")
    assert facts(answer) == {
        "tunnel": "up, 18.4ms, to 203.0.113.9:41822",
        "flows": "3 flows, moved to t2",
    }


def test_where_the_flows_of_a_tunnel_go():
    assert facts(drain_tunnel(on("tunnels", but(TUNNEL, flows=0))))["flows"] == "none uses it"
    alone = drain_tunnel(on("tunnels", but(TUNNEL, flows=1), tunnels=(TUNNEL,)))
    assert facts(alone)["flows"] == "1 flow, waiting until another tunnel is up"
    many = tuple(but(SECOND, id=f"t{number}") for number in range(2, 7))
    assert facts(drain_tunnel(on("tunnels", TUNNEL, tunnels=many)))["flows"].endswith("t2, t3, t4, ...")


@pytest.mark.parametrize(
    ("state", "why"), [(TunnelState.DRAINING, "3 flows left"), (TunnelState.OPENING, "still opening")]
)
def test_tunnels_that_cannot_be_drained(state, why):
    assert why in drain_tunnel(on("tunnels", but(TUNNEL, state=state))).why


def test_replace_a_tunnel():
    answer = recycle_tunnel(on("tunnels", TUNNEL))
    assert (answer.command, answer.ask, answer.verb) == (RecycleTunnel(tunnel="t1"), True, "Replace t1")
    assert facts(answer)["flows"] == "3 flows, moved when a new tunnel is up (make before break)"
    assert not recycle_tunnel(on("tunnels", but(TUNNEL, flows=0))).ask
    assert recycle_tunnel(on("tunnels", but(TUNNEL, state=TunnelState.DEGRADED))).command
    for state in (TunnelState.DRAINING, TunnelState.OPENING):
        assert "cannot be replaced" in recycle_tunnel(on("tunnels", but(TUNNEL, state=state))).why
    assert "choose one there" in recycle_tunnel(on("flows", FLOW)).why


@pytest.mark.parametrize("operation", [drain_tunnel, recycle_tunnel, close])
def test_many_flows_want_the_tunnel_typed(operation):
    answer = operation(on("tunnels", but(TUNNEL, flows=TYPED_FROM + 1)))
    assert answer.typed == "t1"


def test_close_a_tunnel():
    answer = close(on("tunnels", but(TUNNEL, rtt_ms=None, remote="")))
    assert answer.command == CloseTunnel(tunnel="t1")
    assert facts(answer)["tunnel"] == "up, to -"
    assert "no tunnel under the cursor" in close(on("tunnels")).why


def test_prefer_a_tunnel_and_take_it_back():
    assert prefer_tunnel(on("tunnels", TUNNEL)).command == PreferTunnel(tunnel="t1")
    back = prefer_tunnel(on("tunnels", but(TUNNEL, preferred=True)))
    assert back.command == PreferTunnel(tunnel=NO_PREFERENCE)
    assert not back.ask


def test_a_tunnel_that_takes_no_flows_is_not_preferred():
    assert "is draining" in prefer_tunnel(on("tunnels", but(TUNNEL, state=TunnelState.DRAINING))).why


def test_open_one_more():
    answer = open_tunnel(on("tunnels", TUNNEL))
    assert (answer.command, answer.ask) == (OpenTunnel(rule="r1"), False)
    two = (but(RULE, id="r2"), RULE)
    assert open_tunnel(on("rules", RULE, rules=two)).command == OpenTunnel(rule="r1")
    assert open_tunnel(on("agents", AGENT)).command == OpenTunnel(rule="r1")
    assert "no rule" in open_tunnel(on("agents", AGENT, rules=two)).why
    assert "no rule" in open_tunnel(on("tunnels", but(TUNNEL, rule="gone"))).why


# -- rules -----------------------------------------------------------------------------------------


def test_pause_and_resume_a_rule():
    answer = pause_rule(on("rules", RULE))
    assert (answer.command, answer.ask, answer.typed) == (PauseRule(rule="r1"), True, "")
    assert "dropped and counted" in facts(answer)["meanwhile"]
    assert pause_rule(on("rules", but(RULE, flows=101))).typed == "r1"
    again = pause_rule(on("rules", but(RULE, state=RuleState.PAUSED, flows=101)))
    assert (again.command, again.ask, again.typed) == (ResumeRule(rule="r1"), False, "")
    assert "no rule" in pause_rule(on("agents", rules=())).why


# -- flows -----------------------------------------------------------------------------------------


def marks(count):
    return tuple(f"{number:08x}" for number in range(count))


def test_close_the_flow_under_the_cursor():
    answer = close(on("flows", FLOW))
    assert (answer.command, answer.ask, answer.typed) == (CloseFlow(flows=(FLOW.id,)), True, "")
    assert answer.question == f"Close flow {FLOW.id}?"
    assert "left alone" not in facts(answer)


@pytest.mark.parametrize(("count", "typed"), [(1, ""), (TYPED_FROM, ""), (TYPED_FROM + 1, "close")])
def test_close_marked_flows(count, typed):
    answer = close(on("flows", FLOW, marked=marks(count)))
    assert answer.command == CloseFlow(flows=marks(count))
    assert answer.typed == typed


def test_marked_flows_move_to_tunnels_of_their_rules():
    other = but(SECOND, id="t9", rule="r2")
    tunnels = (TUNNEL, SECOND, other)
    choice = move_flows(on("flows", FLOW, marked=marks(2), tunnels=tunnels, rules_of_marked={"r2"}))
    assert [value for value, _ in choice.options] == ["t9"]
    choice = move_flows(on("flows", FLOW, marked=marks(2), tunnels=tunnels))
    assert [value for value, _ in choice.options] == ["t1", "t2", "t9"]


def test_flows_that_are_marked_but_not_shown_are_left_alone():
    answer = close(on("flows", FLOW, marked=marks(2), hidden=3))
    assert answer.command == CloseFlow(flows=marks(2))
    assert "3 marked flows" in facts(answer)["left alone"]
    choice = move_flows(on("flows", FLOW, marked=marks(2), hidden=1))
    assert "1 marked flow " in facts(choice.propose("t2"))["left alone"]


@pytest.mark.parametrize("operation", [close, move_flows])
def test_when_no_marked_flow_is_shown_not_even_the_cursor_counts(operation):
    assert "none of the marked flows is shown" in operation(on("flows", FLOW, hidden=2)).why


@given(marked=st.sets(st.integers(0, 2**32 - 1), max_size=8), hidden=st.integers(0, 3))
def test_only_what_is_shown_is_ever_named(marked, hidden):
    keys = tuple(sorted(f"{number:08x}" for number in marked))
    context = on("flows", FLOW, marked=keys, hidden=hidden)
    for answer in (close(context), move_flows(context)):
        if isinstance(answer, Choice):
            answer = answer.propose(answer.options[0][0])
        if isinstance(answer, Proposal):
            assert answer.command.flows == (keys or (FLOW.id,))
            assert keys or not hidden
        else:
            assert hidden
            assert not keys


def test_move_a_flow():
    choice = move_flows(on("flows", FLOW))
    assert choice.options == (("t2", "t2   up               -  1 flow"),)
    answer = choice.propose("t2")
    assert (answer.command, answer.ask) == (MoveFlow(flows=(FLOW.id,), to="t2"), False)
    assert choice.question == f"Move flow {FLOW.id} to which tunnel?"


def test_move_marked_flows():
    choice = move_flows(on("flows", FLOW, marked=marks(2)))
    assert [value for value, _ in choice.options] == ["t1", "t2"]
    assert choice.propose("t1").ask
    many = move_flows(on("flows", FLOW, marked=marks(TYPED_FROM + 1)))
    assert many.propose("t2").typed == "t2"


@pytest.mark.parametrize(
    "others",
    [(), (but(SECOND, rule="r2"),), (but(SECOND, state=TunnelState.DRAINING),)],
    ids=["none", "of another rule", "draining"],
)
def test_no_tunnel_to_move_to(others):
    assert "no other tunnel" in move_flows(on("flows", FLOW, tunnels=(TUNNEL, *others))).why


def test_a_degraded_tunnel_can_still_take_flows():
    degraded = but(SECOND, state=TunnelState.DEGRADED)
    assert move_flows(on("flows", FLOW, tunnels=(TUNNEL, degraded))).options[0][0] == "t2"


@pytest.mark.parametrize("table", ["agents", "rules"])
def test_flows_are_chosen_in_their_own_pane(table):
    for operation, words in ((close, "choose one in its pane"), (move_flows, "choose or mark flows there")):
        assert words in operation(on(table, ROWS[table], marked=marks(2))).why


def test_an_expiry_in_the_past_is_now():
    old = but(OTHER, expires_at=NOW - 5)
    assert facts(use_agent(on("agents", old)))["expires"].startswith("alpha in 0.0s")
