"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.consoles import Stage
from tests.e2e.path_proxy import PathProxy
from tests.e2e.processes import Fleet, fleets
from tests.e2e.udp import EchoTarget


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Processes that end with the test."""
    yield from fleets(tmp_path)


@pytest.fixture
def echo() -> Iterator[EchoTarget]:
    """A UDP target that answers with what it gets."""
    target = EchoTarget()
    yield target
    target.close()


@pytest.fixture
def network(fleet: Fleet) -> Iterator[PathProxy]:
    """Server, agent `far`, and a network that can be impaired between it and the relays of the fleet."""
    fleet.server("http")
    fleet.agent("far")
    proxy = PathProxy(fleet.url)
    fleet.url = proxy.url
    yield proxy
    fleet.close()
    proxy.close()


@pytest.fixture(scope="module")
def shared_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """What consoles look at; for the tests of a module together."""
    for fleet in fleets(tmp_path_factory.mktemp("stage")):
        stage = Stage(fleet)
        yield stage
        stage.close()


@pytest.fixture
def stage(shared_stage: Stage) -> Iterator[Stage]:
    """The same, whose consoles end with the test."""
    yield shared_stage
    shared_stage.close_consoles()
