"""`rtun demo`: server, two agents, relay, echo target and traffic in one command, on loopback only."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from rtun_core.cli.console import ConsoleOptions, console_options
from rtun_core.cli.options import UrlCommand, number
from rtun_core.cli.outputs import AUTO, OutputOptions, output_options
from rtun_core.cli.run import run_engine
from rtun_core.errors import UsageError
from rtun_core.events import DemoSummary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtun_core.bus import EventBus
    from rtun_core.cli.demo_stage import DemoStage
    from rtun_core.engine.service import Service

SECONDS = 10.0  # of traffic, without the console
DAY = 86400.0
ROTATE = 30.0  # seconds that a tunnel lives where nobody said how long it all takes
FLOWS = 1284  # of a simulated relay
PAST = 300.0  # seconds before its start that are made up: 0.3 s of work ...
MANY_FLOWS = 20_000  # ... and where there are more flows, so much less that it is not much more


@click.command(cls=UrlCommand, bare={"--control": AUTO}, short_help="Show it all on loopback, offline.")
@click.option(
    "--seconds",
    type=str,
    callback=number(float, 0, 86400, "seconds"),
    metavar="S",
    help="How long traffic is sent; 0: until stopped.  [default: 10; with the console or --simulate 0]",
)
@click.option(
    "--seed",
    type=str,
    callback=number(int, 0, 2**63 - 1),
    default="1",
    show_default=True,
    metavar="N",
    help="Of all that is left to chance.",
)
@click.option(
    "--clients",
    type=str,
    callback=number(int, 1, 10_000),
    default="40",
    show_default=True,
    metavar="N",
    help="UDP clients, each a flow.",
)
@click.option(
    "--rate",
    type=str,
    callback=number(float, 1, 100_000, "datagrams a second"),
    default="400",
    show_default=True,
    metavar="N",
    help="Datagrams a second over all clients.",
)
@click.option(
    "--simulate", is_flag=True, help="Show a relay that is made up, with many flows and much going on."
)
@click.option(
    "--flows",
    type=str,
    callback=number(int, 0, 200_000),
    metavar="N",
    help="Flows of the simulated relay.  [default: 1284]",
)
@click.option("--no-tui", is_flag=True, help="No console, though this is a terminal.")
@console_options
@output_options
def demo(
    *,
    seconds: float | None,
    seed: int,
    clients: int,
    rate: float,
    simulate: bool,
    flows: int | None,
    no_tui: bool,
    console: ConsoleOptions,
    outputs: OutputOptions,
) -> int:
    """Run server, two agents, a relay and an echo target on 127.0.0.1 and send seeded traffic through.

    On a terminal the console shows it, until you quit. Without a console, or with --seconds, a tunnel is
    rotated on the way and the agent is switched; status 0 only if everything sent came back.

    With --simulate nothing is sent at all: flows, tunnels and agents are made up from the seed, and take
    commands like those of a real relay.

    Example: rtun demo --seconds 30 --json
    """
    if no_tui and console.show:
        raise UsageError("--no-tui: not together with --tui; accepted: one of them")
    console = replace(console, show=console.show or (not no_tui and _is_for_eyes(outputs)))
    if simulate:
        return _simulate(seconds or None, seed, FLOWS if flows is None else flows, outputs, console)
    if flows is not None:
        raise UsageError("--flows is the size of a simulated relay; accepted: only with --simulate")
    if seconds is None:
        seconds = 0.0 if console.show else SECONDS
    if 0 < seconds < 1:
        raise UsageError(f"--seconds: '{seconds:g}' is not accepted; accepted: 0, or from 1 to 86400 seconds")
    return _play(seconds, seed, clients, rate, outputs, console)


def _is_for_eyes(outputs: OutputOptions) -> bool:
    """Whether somebody looks: a terminal on every side, and nothing asked for that would cross the screen."""
    if outputs.json or outputs.quiet or os.environ.get("TERM", "dumb") in ("", "dumb"):
        return False
    return all(each is not None and each.isatty() for each in (sys.stdin, sys.stdout, sys.stderr))


def _play(
    seconds: float, seed: int, clients: int, rate: float, outputs: OutputOptions, console: ConsoleOptions
) -> int:
    stages: list[DemoStage] = []

    def services(bus: EventBus) -> Sequence[Service]:
        # Half a second's imports: behind the first frame, where there is a console.
        from rtun_core.cli.demo_stage import DemoPlan, DemoStage

        plan = DemoPlan(
            seconds=seconds or DAY,
            seed=seed,
            clients=clients,
            rate=rate,
            rotate=max(2.0, seconds / 3) if seconds else ROTATE,
            switch_after=seconds * 0.4 if seconds else None,
        )
        stages.append(DemoStage(plan))
        return stages[0].on(bus)

    try:
        return run_engine(services, outputs, console)
    finally:
        for stage in stages:
            if stage.summary is not None and not outputs.json:
                click.echo(summary_text(stage.summary))


def _simulate(
    seconds: float | None, seed: int, flows: int, outputs: OutputOptions, console: ConsoleOptions
) -> int:

    def services(bus: EventBus) -> Sequence[Service]:
        from rtun_core.engine.simulated import SimulatedService, SimulatedWorld

        world = SimulatedWorld(seed=seed, flows=flows, start=time.time())
        past = PAST * min(1.0, MANY_FLOWS / max(1, flows))
        return [SimulatedService(world, bus, seconds=seconds, past=past)]

    return run_engine(services, outputs, console)


def summary_text(summary: DemoSummary) -> str:
    """The summary for people, a few aligned lines."""
    lost = summary.sent - summary.answered
    share = lost / summary.sent if summary.sent else 0.0
    return "\n".join(
        (
            f"sent       {summary.sent} datagrams in {summary.seconds:g} s",
            f"answered   {summary.answered}, lost {lost} ({share:.2%}), changed {summary.wrong}",
            f"rtt ms     p50 {summary.rtt_p50_ms:.2f}  p90 {summary.rtt_p90_ms:.2f}  "
            f"p99 {summary.rtt_p99_ms:.2f}  max {summary.rtt_max_ms:.2f}",
            f"switches   {summary.switches} of the agent, {summary.rotations} of a tunnel",
        )
    )
