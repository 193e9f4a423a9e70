"""What the pictures of the console show: a size, a theme, and what is done before the picture is taken."""

from __future__ import annotations

from dataclasses import dataclass

WIDE, MIDDLE, SMALL = (160, 50), (120, 36), (80, 24)  # columns, lines


@dataclass(frozen=True, slots=True)
class Press:
    """Keys pressed one after the other, by their names."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Type:
    """Text typed into the line that is open; a filter comes into force as if the fingers had rested."""

    text: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Seconds that pass in the simulated relay, with a look at it after each."""

    seconds: int


Step = Press | Type | Wait


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture, `name`.svg and `name`.png."""

    name: str
    about: str
    steps: tuple[Step, ...] = ()
    size: tuple[int, int] = MIDDLE
    theme: str = "rtun-dark"


def press(*keys: str) -> Press:
    """Keys, as a step."""
    return Press(keys)


SCENES = (
    Scene(
        "overview",
        "the whole console on a large terminal",
        (Wait(20), press("down", "down", "space", "down", "space")),
        WIDE,
    ),
    Scene("overview-80x24", "the same on a small terminal", (Wait(20), press("down")), SMALL),
    Scene(
        "drawer",
        "a flow that was just moved to another tunnel, in detail",
        (press("down", "enter"), Wait(35), press("m"), press("enter"), Wait(25)),
    ),
    Scene(
        "confirmation",
        "a switch of the agent, asked about after a probe",
        (press("1", "down", "o"), Wait(3), press("a")),
    ),
    Scene("filter", "a filter while it is typed", (press("slash"), Type("src=10.0.0.0/16 dn>1M"))),
    Scene("palette", "the command palette", (press("ctrl+p"), Type("tunnel"))),
    Scene("light", "the theme rtun-light", (Wait(20), press("2")), theme="rtun-light"),
    Scene("colour-blind", "the theme colour-blind", (Wait(20), press("2")), theme="colour-blind"),
)
