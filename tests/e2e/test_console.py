"""The console at work: what is done by keys happens to a real relay, and nothing is lost by it."""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path

import pytest

from rtun_core.engine.recording_reader import RecordingReader
from rtun_core.errors import RtunError
from tests.e2e.consoles import Console, Stage
from tests.e2e.processes import SECRET

SLOW = pytest.mark.slow


def use(console: Console, agent: str) -> None:
    """Switch the agent, by keys."""
    console.point_at("1", "Agents", agent)
    console.send("a")
    console.wait_for(f"Use agent {agent}/")
    console.wait_for("y / n")
    console.send("y")
    console.wait_for(lambda screen: f"agent {agent}/" in screen.line(0))


def other(state: dict) -> str:
    """The agent that is not in use."""
    return next(agent["name"] for agent in state["agents"] if agent["state"] != "in use")


def has_pictures(recording: Path) -> bool:
    """Whether there is something to show already."""
    try:
        with closing(RecordingReader(recording)) as reader:
            return reader.count > 0
    except RtunError:
        return False


# ---- the demo -------------------------------------------------------------------------------------------


def test_the_agent_of_the_demo_is_switched_by_keys(stage: Stage) -> None:
    console = stage.run("demo", "--tui", "--clients", "10", "--rate", "200")
    console.wait_for(lambda screen: "alpha" in screen.text() and "beta" in screen.text())
    console.wait_for(lambda screen: "tunnels 2/2" in screen.line(0))
    use(console, "beta")
    console.wait_for("10 flows moved")
    before = console.snapshot()["traffic"]["down_packets"]
    state = console.wait_state(lambda state: state["traffic"]["down_packets"] > before + 50)
    assert state["drops"] == {}
    console.send("q")
    console.wait_for("10 flows would end")
    console.send("n")
    console.wait_for(lambda screen: "would end" not in screen.text())
    console.send("q")
    console.wait_for("10 flows would end")
    console.send("y")
    assert console.wait_end() == 0
    console.assert_left_clean()
    assert not console.control.exists()


@SLOW
def test_nothing_is_lost_by_switching_by_keys(stage: Stage) -> None:
    console = stage.run("demo", "--tui", "--seconds", "12", "--rate", "500")
    console.wait_for(lambda screen: "agent alpha/" in screen.line(0) and "tunnels 2/2" in screen.line(0))
    use(console, "beta")
    console.wait_for(lambda screen: "agent alpha/" in screen.line(0))  # the demo itself, after 40 %
    use(console, "beta")
    assert console.wait_end(30) == 0
    console.assert_left_clean()
    assert "answered   6000, lost 0 (0.00%), changed 0" in console.text()
    assert "switches   3 of the agent, " in console.text()


def test_the_first_frame_comes_soon(stage: Stage) -> None:
    console = stage.run("demo", "--simulate", "--tui", cold=True)
    console.wait_for("1 Agents", timeout=10)  # 1 s on a quiet machine


# ---- a relay --------------------------------------------------------------------------------------------


def test_the_keys_of_a_relay(stage: Stage) -> None:
    console = stage.relay(agent="alpha", rules=2)
    clients = [stage.client(console, rule) for rule in (0, 1)]
    shown = [client.address for client in clients]
    console.wait_for(lambda screen: all(address in screen.text() for address in shown))

    console.send("/")
    console.wait_for("Esc undo")
    console.send(f"src:{shown[0]}")
    # The title may be read before the rows below it, which are of the same frame.
    console.wait_for(
        lambda screen: (
            "3 Flows 1 of 2" in (text := screen.text()) and shown[0] in text and shown[1] not in text
        )
    )
    console.send("\r")
    console.wait_for(lambda screen: "Esc undo" not in screen.text())
    console.send("\x1b")
    console.wait_for(shown[1])

    console.point_at("5", "Rules", "r1")
    console.send("r")
    console.wait_for("Pause rule r1?")
    console.send("y")
    console.wait_state(lambda state: state["rules"][0]["state"] == "paused")
    console.wait_for(lambda screen: "PAUSED" in screen.text())
    assert not clients[0].round_trip(timeout=0.3)
    assert clients[1].round_trip()
    console.send("r")
    console.wait_state(lambda state: state["rules"][0]["state"] == "active")
    assert clients[0].round_trip()
    console.signal(15)
    assert console.wait_end() == 0


@SLOW
def test_tunnels_are_drained_and_flows_moved_by_keys(stage: Stage) -> None:
    console = stage.relay("--p2p-min-channels", "2", "--p2p-max-channels", "3", agent="alpha")
    client = stage.client(console)
    state = console.wait_state(lambda state: len(state["tunnels"]) == 2)
    first = state["flows"][0]["tunnel"]
    second = next(tunnel["id"] for tunnel in state["tunnels"] if tunnel["id"] != first)
    console.wait_for(
        lambda screen: client.address in screen.text() and f"{second}   127.0.0.1" in screen.text()
    )

    console.point_at("3", "Flows", state["flows"][0]["id"][:8])
    console.send("m")
    console.wait_for("to which tunnel?")
    console.send("\r")
    console.wait_state(lambda state: state["flows"][0]["tunnel"] == second)
    assert client.round_trip()

    console.point_at("2", "Tunnels", second)
    console.send("x")
    console.wait_for(f"Drain tunnel {second}?")
    console.send("y")

    def drained() -> bool:
        state = console.snapshot()
        ended = all(each["id"] != second or each["state"] == "draining" for each in state["tunnels"])
        return ended and state["flows"][0]["tunnel"] != second

    made, answered = client.keep_on(drained)
    assert made == answered
    assert len({tunnel for flow in console.snapshot()["flows"] for tunnel in [flow["tunnel"]]}) == 1


@SLOW
def test_an_agent_that_is_killed_is_shown_and_replaced(stage: Stage) -> None:
    stage.relay().signal(15)  # both agents are there
    doomed = stage.fleet.agent("doomed")
    console = stage.relay("--p2p-min-channels", "1", agent="doomed|alpha")
    client = stage.client(console)
    console.wait_for(lambda screen: "doomed" in screen.text() and "alpha" in screen.text())
    if other(console.snapshot()) == "doomed":
        use(console, "doomed")
    assert client.until_answered()
    doomed.kill()
    console.wait_for(lambda screen: "agent alpha/" in screen.line(0), timeout=30)
    assert client.until_answered() < 10
    console.wait_for(lambda screen: "LOST" in screen.text() or "doomed" not in screen.text(), timeout=30)
    console.send("q")
    console.wait_for("1 flow would end")
    console.send("y")
    assert console.wait_end() == 0
    console.assert_left_clean()


def test_a_recording_is_shown_in_the_console_that_made_it_and_left_again(stage: Stage) -> None:
    console = stage.simulated(size=(160, 50))
    made = stage.folder / "made.rec"
    console.send(f":record start --path {made}\r")
    console.wait_for("recording into")
    console.wait_for(lambda _: has_pictures(made))
    console.send(f":replay {made.parent / 'missing.rec'}\r")
    console.wait_for("No such file or directory")
    console.wait_for("LIVE")
    console.send(f":replay {made}\r")
    console.wait_for("REPLAY: ")
    console.wait_for("q live")
    console.send("X")
    console.wait_for("this is a recording: nothing can be changed; :live goes back")
    console.send("q")
    console.wait_for("LIVE")
    console.wait_for("q quit")
    console.signal(signal.SIGTERM)
    assert console.wait_end() == 0
    console.assert_left_clean()


# ---- what cannot be ---------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_told_after_the_screen_is_restored(stage: Stage) -> None:
    rule = f"{stage.echo.address}?to=127.0.0.1:9"
    console = stage.run("relay", "-L", rule, "http://127.0.0.1:9", "--secret", SECRET, "--tui")
    assert console.wait_end() == 3
    console.assert_left_clean()
    assert f"Error: cannot bind UDP {stage.echo.address}: Address already in use" in console.text()


def test_a_log_file_that_cannot_be_written_is_told(stage: Stage, tmp_path: Path) -> None:
    console = stage.run("demo", "--simulate", "--tui", "--log-file", str(tmp_path))
    assert console.wait_end() == 1
    console.assert_left_clean()
    assert "Error: --log-file: cannot write the file" in console.text()
