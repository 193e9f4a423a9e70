"""`rtun demo`: everything on loopback in one process, and an honest summary of it."""

import asyncio
import json
import socket

import psutil
import pytest

from rtun_core.bus import EventBus
from rtun_core.cli import demo as demo_module
from rtun_core.cli import demo_stage
from rtun_core.cli.demo import summary_text
from rtun_core.cli.demo_stage import DemoPlan, DemoStage
from rtun_core.cli.main import main
from rtun_core.commands import PinAgent, Quit
from rtun_core.errors import BindError, CommandRefused, NoAgentError, RtunError
from rtun_core.events import AgentSwitchDone, CommandDone, DemoSummary
from tests.lazy import encode_lazy

PLAN = DemoPlan(seconds=0.5, seed=1, clients=5, rate=200.0, rotate=2.0, switch_after=0.2)


def summary(**changes):
    fields = {
        "seconds": 2.0,
        "sent": 200,
        "answered": 200,
        "wrong": 0,
        "duplicates": 0,
        "rtt_p50_ms": 0.5,
        "rtt_p90_ms": 1.25,
        "rtt_p99_ms": 2.0,
        "rtt_max_ms": 3.0,
        "switches": 1,
        "rotations": 2,
    }
    return DemoSummary(**(fields | changes))


@pytest.fixture
async def stage():
    stage = DemoStage(PLAN)
    yield stage
    await stage.stop(drain=False)


# ---- the command ----------------------------------------------------------------------------------------


@pytest.fixture
def run(capfd):
    """Run a command line in this process, with what it writes to the descriptors themselves."""

    def call(*words):
        status = main(words)
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return call


def test_it_runs_and_everything_comes_back(run):
    status, out, err = run("demo", "--seconds", "1", "--clients", "5", "--rate", "200")
    assert status == 0, err
    sent, answered, rtt, switches = out.splitlines()
    assert sent.endswith("datagrams in 1 s")
    assert "lost 0 (0.00%), changed 0" in answered
    assert rtt.startswith("rtt ms     p50 ")
    assert switches.startswith("switches   1 of the agent")
    assert "agent switched alpha/" in err


def test_with_json_the_summary_is_an_event(run):
    status, out, _ = run("demo", "--seconds", "1", "--clients", "3", "--rate", "100", "--json", "--quiet")
    assert status == 0
    events = [json.loads(line) for line in out.splitlines()]
    (told,) = [event for event in events if event["type"] == "demo.summary"]
    assert told["sent"] == told["answered"] > 50
    assert (told["wrong"], told["switches"]) == (0, 1)
    assert 0 < told["rtt_p50_ms"] <= told["rtt_p99_ms"] <= told["rtt_max_ms"]


def test_lost_traffic_is_a_failure_with_a_summary(run, monkeypatch):
    monkeypatch.setattr(demo_stage, "SETTLE", 0.1)
    monkeypatch.setattr(demo_stage, "EchoService", Silent)
    status, out, err = run("demo", "--seconds", "1", "--clients", "2", "--rate", "20")
    assert status == 1
    assert "lost " in out
    assert "(100.00%)" in out
    assert "datagrams did not come back, 0 were changed" in err


class Silent:
    """A target that answers nothing."""

    def __init__(self, listen):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((listen.host, 0))
        self.address = listen._replace(port=self._socket.getsockname()[1])

    def close(self):
        self._socket.close()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--seconds", "0.5"),
        ("--seconds", "-1"),
        ("--seconds", "x"),
        ("--clients", "0"),
        ("--rate", "0"),
        ("--seed", "-1"),
    ],
)
def test_bad_values_are_named(refuse, option, value):
    sentence = refuse("demo", option, value)
    assert option in sentence
    assert value in sentence


def test_options_reach_the_plan(run, monkeypatch):
    plans = []
    monkeypatch.setattr(demo_stage, "DemoStage", lambda plan: plans.append(plan) or DemoStage(plan))
    monkeypatch.setattr(demo_module, "run_engine", lambda services, *_: services(EventBus()) and 0)
    assert run("demo", "--seconds", "7", "--seed", "9", "--clients", "3", "--rate", "50") == (0, "", "")
    assert run("demo") == (0, "", "")
    assert plans == [
        DemoPlan(seconds=7.0, seed=9, clients=3, rate=50.0, rotate=7 / 3, switch_after=7 * 0.4),
        DemoPlan(seconds=10.0, seed=1, clients=40, rate=400.0, rotate=10 / 3, switch_after=4.0),
    ]


def test_with_the_console_it_plays_until_it_is_ended(run, monkeypatch):
    plans = []
    monkeypatch.setattr(demo_stage, "DemoStage", lambda plan: plans.append(plan) or DemoStage(plan))
    monkeypatch.setattr(demo_module, "run_engine", lambda services, *_: services(EventBus()) and 0)
    assert run("demo", "--tui") == (0, "", "")
    assert (plans[0].seconds, plans[0].switch_after) == (86400.0, None)


# ---- simulated ------------------------------------------------------------------------------------------


@pytest.fixture
def simulated(monkeypatch):
    """The services that a run would have got."""
    services = []
    monkeypatch.setattr(
        demo_module, "run_engine", lambda factory, *_: services.extend(factory(EventBus())) or 0
    )
    return services


def test_a_simulated_relay(run, simulated):
    assert run("demo", "--simulate", "--seed", "5", "--flows", "70", "--seconds", "3") == (0, "", "")
    (service,) = simulated
    assert service.name == "relay"
    assert len(service.snapshot().flows) == 70


@pytest.mark.parametrize("words", [(), ("--seconds", "0")])
def test_it_goes_on_until_stopped(run, simulated, words):
    assert run("demo", "--simulate", *words) == (0, "", "")
    (service,) = simulated
    assert service.seconds is None
    assert len(service.snapshot().flows) == 1284


@pytest.mark.parametrize(("flows", "seconds"), [("70", 300), ("200000", 30)])
def test_its_plots_begin_filled_and_that_takes_no_longer_for_many_flows(run, simulated, flows, seconds):
    assert run("demo", "--simulate", "--flows", flows) == (0, "", "")
    (service,) = simulated
    first = next(iter(service.past()))
    assert round(service.world._start - first.ts) == seconds - 1


@pytest.mark.parametrize("value", ["-1", "200001", "many"])
def test_how_many_flows_there_can_be(refuse, value):
    sentence = refuse("demo", "--simulate", "--flows", value)
    assert sentence == f"--flows: '{value}' is not accepted; accepted: a whole number from 0 to 200000"


def test_a_console_and_none_exclude_each_other(refuse):
    assert refuse("demo", "--tui", "--no-tui") == "--no-tui: not together with --tui; accepted: one of them"


def test_real_flows_have_real_clients(refuse):
    assert "only with --simulate" in refuse("demo", "--flows", "5")


# ---- the summary ----------------------------------------------------------------------------------------


def test_summary_text():
    assert summary_text(summary(answered=150, wrong=2)).splitlines() == [
        "sent       200 datagrams in 2 s",
        "answered   150, lost 50 (25.00%), changed 2",
        "rtt ms     p50 0.50  p90 1.25  p99 2.00  max 3.00",
        "switches   1 of the agent, 2 of a tunnel",
    ]


def test_summary_of_nothing():
    assert "lost 0 (0.00%)" in summary_text(summary(sent=0, answered=0))


# ---- the stage ------------------------------------------------------------------------------------------


async def test_the_stage_plays_and_leaves_nothing(stage):
    descriptors, tasks = psutil.Process().num_fds(), len(asyncio.all_tasks())
    bus = EventBus()
    told = bus.subscribe(4096)
    assert stage.on(bus) == [stage]
    await stage.start()
    assert await stage.wait() == "the demo is over"
    assert stage.summary.sent == stage.summary.answered > 0
    events = [stamped.event for stamped in told.drain()]
    assert [event for event in events if isinstance(event, DemoSummary)] == [stage.summary]
    (done,) = [event for event in events if isinstance(event, CommandDone)]
    assert (done.who, done.command) == ("demo", "agent use beta")
    assert [event.new.split("/")[0] for event in events if isinstance(event, AgentSwitchDone)] == ["beta"]
    snapshot = stage.snapshot()
    assert snapshot.service == "relay"
    assert encode_lazy(snapshot.flows)
    assert stage.counters()[1] == {}
    assert stage.handles(PinAgent())
    assert not stage.handles(Quit())
    assert (await stage.handle(PinAgent())).text
    await stage.stop(drain=True)
    assert psutil.Process().num_fds() <= descriptors
    assert len(asyncio.all_tasks()) <= tasks


async def test_the_agents_outlive_the_plan(stage):
    stage.plan = DemoPlan(seconds=80_000.0, seed=1, clients=1, rate=1.0)
    await stage.start()
    ends = [agent.snapshot().agents[0].expires_at for agent in stage._agents]
    starts = stage._relay.director.signal_since
    assert min(ends) - starts > 80_000


async def test_before_it_started(stage):
    assert stage.snapshot().agents == ()
    assert stage.counters() == ({}, {})
    assert not stage.handles(PinAgent())


async def test_a_start_that_fails_leaves_nothing(stage, monkeypatch):
    descriptors, tasks = psutil.Process().num_fds(), len(asyncio.all_tasks())

    async def refuse(traffic):
        raise BindError("no more sockets")

    monkeypatch.setattr(demo_stage.DemoTraffic, "start", refuse)
    with pytest.raises(BindError):
        await stage.start()
    assert psutil.Process().num_fds() <= descriptors
    assert len(asyncio.all_tasks()) <= tasks


async def test_no_tunnel_in_time_is_told_as_such(stage, monkeypatch):
    monkeypatch.setattr(demo_stage, "FIRST_TUNNEL", 0.1)
    monkeypatch.setattr(demo_stage, "AGENTS", {})
    await stage.start()
    with pytest.raises(NoAgentError, match="no agent that matches is registered"):
        await stage.wait()


async def test_a_switch_that_is_refused_ends_the_demo_with_its_reason(stage, monkeypatch):
    async def refuse(relay, command):
        raise CommandRefused("not now")

    monkeypatch.setattr(demo_stage.RelayService, "handle", refuse)
    await stage.start()
    with pytest.raises(CommandRefused, match="not now"):
        await stage.wait()
    assert stage.summary is None


async def test_wrong_answers_fail_it(stage, monkeypatch):
    settle = demo_stage.DemoTraffic.settle

    async def with_one_wrong(traffic, seconds):
        return (await settle(traffic, seconds))._replace(wrong=1)

    monkeypatch.setattr(demo_stage.DemoTraffic, "settle", with_one_wrong)
    await stage.start()
    with pytest.raises(RtunError, match=r"0 of .* did not come back, 1 were changed"):
        await stage.wait()
    assert stage.summary.wrong == 1
