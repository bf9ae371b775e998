"""A made-up exchange that behaves like a real one: for first runs and for tests.

* `streams.simulator.flow`: a seeded market, fitted to a recording (`fitted`).
* `streams.simulator.episodes`: what goes wrong on purpose.
* `streams.simulator.exchange`: markets and episodes on one clock, without sockets.
* `streams.simulator.server`: the same on HTTP and websockets, in a venue's dialect.
"""

from streams.simulator.exchange import Exchange
from streams.simulator.server import SimulatedExchange

__all__ = ["Exchange", "SimulatedExchange"]
