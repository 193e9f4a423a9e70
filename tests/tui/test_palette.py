import pytest
from rich.style import Style

from rtun_core.model import AgentState, FlowState, RuleState, TunnelState
from rtun_tui.palette import BLOCKS, GROUNDS, MONO, ROLE_NAMES, ROLES, plain_styles, state_role

TABLES = {"agents": AgentState, "tunnels": TunnelState, "flows": FlowState, "rules": RuleState}
STATES = [(table, state.value) for table, states in TABLES.items() for state in states]


def test_names_are_unique_and_explained():
    assert len(ROLE_NAMES) == len(ROLES)
    assert all(role.help for role in ROLES)
    assert ROLE_NAMES >= GROUNDS | BLOCKS


def test_every_chain_of_bases_ends_in_a_role_that_a_theme_must_give():
    bases = {role.name: role.base for role in ROLES}
    for name in ROLE_NAMES:
        for _ in bases:
            name = bases[name]
        assert name in {"text", "background"}


def test_a_palette_refuses_an_unknown_role():
    with pytest.raises(KeyError):
        MONO.style("no-such-role")


def test_mono_has_every_role_and_no_colour():
    for role in ROLES:
        style = MONO.style(role.name)
        assert style.color is None
        assert style.bgcolor is None
        assert not style.italic
        assert not style.blink
    assert not MONO.colour


def test_what_must_be_seen_without_colour_looks_different_in_mono():
    ordinary = MONO.style("text")
    for role in ("cursor", "cursor-idle", "mark", "match", "border-focus", "title-focus", "header-alert"):
        assert MONO.style(role) != ordinary
    assert MONO.style("cursor") != MONO.style("cursor-idle")


@pytest.mark.parametrize(("table", "word"), STATES)
def test_every_state_of_the_model_has_a_role(table, word):
    role = state_role(table, word)
    assert role in ROLE_NAMES
    assert role.startswith("state-")
    assert state_role(table, word.upper()) == role


@pytest.mark.parametrize(
    ("word", "role"),
    [
        ("in use", "state-up"),
        ("up", "state-up"),
        ("active", "state-up"),
        ("ready", "state-ready"),
        ("degraded", "state-warn"),
        ("expiring", "state-warn"),
        ("moving", "state-warn"),
        ("lost", "state-bad"),
        ("closed", "state-bad"),
        ("idle", "state-idle"),
        ("something else", "text"),
    ],
)
def test_roles_of_state_words(word, role):
    assert state_role("tunnels", word) == role


def test_a_rule_that_the_user_stopped_is_nothing_bad():
    assert state_role("rules", "stopped") == "state-idle"
    assert state_role("agents", "stopped") == "state-bad"


def test_plain_styles_leave_the_rest_to_the_terminal():
    styles = plain_styles({"cursor": Style(reverse=True)})
    assert set(styles) == ROLE_NAMES
    assert styles["cursor"] == Style(reverse=True)
    assert styles["text"] == Style()
