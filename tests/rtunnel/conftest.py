"""A stage for every test, with reconnects that do not wait for long."""

import pytest

from rtun_core.wire import rtunnel_redial
from tests.rtunnel.stage import Stage


@pytest.fixture
async def stage(monkeypatch):
    monkeypatch.setattr(rtunnel_redial, "SPACING", 0.02)
    stage = Stage()
    yield stage
    await stage.close()
