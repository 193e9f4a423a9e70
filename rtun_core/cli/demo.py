"""`rtun demo`: server, two agents, relay, echo target and traffic in one command, on loopback only."""

from __future__ import annotations

import click

from rtun_core.cli.options import UrlCommand, number
from rtun_core.cli.outputs import AUTO, OutputOptions, output_options, run_engine
from rtun_core.events import DemoSummary


@click.command(cls=UrlCommand, bare={"--control": AUTO}, short_help="Show it all on loopback, offline.")
@click.option(
    "--seconds",
    type=str,
    callback=number(float, 1, 86400, "seconds"),
    default="10",
    show_default=True,
    metavar="S",
    help="How long traffic is sent.",
)
@click.option(
    "--seed",
    type=str,
    callback=number(int, 0, 2**63 - 1),
    default="1",
    show_default=True,
    metavar="N",
    help="Of the traffic: sizes, order and contents.",
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
@output_options
def demo(seconds: float, seed: int, clients: int, rate: float, outputs: OutputOptions) -> int:
    """Run server, two agents, a relay and an echo target on 127.0.0.1 and send seeded traffic through.

    On the way a tunnel is rotated and the agent is switched. Status 0 only if everything sent came back.

    Example: rtun demo --seconds 30 --json
    """
    from rtun_core.cli.demo_stage import DemoPlan, DemoStage

    stage = DemoStage(DemoPlan(seconds=seconds, seed=seed, clients=clients, rate=rate))
    try:
        return run_engine(stage.on, outputs)
    finally:
        if stage.summary is not None and not outputs.json:
            click.echo(summary_text(stage.summary))


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
