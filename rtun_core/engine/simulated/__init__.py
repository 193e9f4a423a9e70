"""A simulated relay: `SimulatedWorld` is the story, `SimulatedService` plays it in real time."""

from rtun_core.engine.simulated.service import SimulatedService
from rtun_core.engine.simulated.world import SimulatedWorld

__all__ = ["SimulatedService", "SimulatedWorld"]
