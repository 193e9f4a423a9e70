"""The profile once more against real processes: one round trip in either direction."""

from __future__ import annotations

import asyncio

from tests.e2e.processes import SECRET, fleets, local_address
from tests.interop.conftest import Target
from tests.interop.original_agent import OriginalAgent
from tests.interop.original_path import HEAD, RawUdp
from tests.interop.original_relay import OriginalRelay


async def test_rtun_relay_and_rtun_agent_work_with_originals(tmp_path):
    processes = fleets(tmp_path)
    fleet = next(processes)
    target = Target()
    agent = OriginalAgent(generation=HEAD, name="original")
    relay = OriginalRelay(target.address, agent="ours")
    answers: asyncio.Queue[bytes] = asyncio.Queue()
    client = RawUdp(lambda data, _source: answers.put_nowait(data)).start()
    try:
        await asyncio.to_thread(fleet.server, "http")
        await agent.start(fleet.url, SECRET)
        await asyncio.to_thread(fleet.agent, "ours")
        rule = f"127.0.0.1:0?to={target.address}"
        ours = await asyncio.to_thread(lambda: fleet.relay(rule, args=("--agent", "original")))
        client.send(b"out of a process", local_address(ours))
        assert await asyncio.wait_for(answers.get(), 10) == b"out of a process"
        await relay.start(fleet.url, SECRET)
        assert await relay.round_trip(b"into a process") == b"into a process"
        assert not agent.violations
        assert agent.tunnels[0].undecodable == relay.tunnels[0].undecodable == []
    finally:
        client.close()
        await relay.close()
        await agent.close()
        target.close()
        processes.close()
