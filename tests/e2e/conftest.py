"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
