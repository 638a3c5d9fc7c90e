"""A Jetstream server on loopback over a synthetic network, for demonstrations, tests and benchmarks.

Knows nothing of the rest of the package, and nothing of the rest knows it.
"""

from jetstream_pipeline.simulator.event import SimulatedEvent
from jetstream_pipeline.simulator.faults import Faults
from jetstream_pipeline.simulator.network import Network
from jetstream_pipeline.simulator.server import Simulator, running
from jetstream_pipeline.simulator.witness import Witness

__all__ = ["Faults", "Network", "SimulatedEvent", "Simulator", "Witness", "running"]
