"""The simulator's control API, below ``/sim``: what it does, what it sent, and its own books.

* ``GET state``: counts, sessions, injected faults, episodes.
* ``POST episodes`` {name, symbol, in_s, ..}: run a script of `episodes`.
* ``POST faults`` {"rule": TEXT}: let a rule of `fault_rules` hold; ``DELETE faults`` ends all.
* ``GET book?symbol=``: all levels as clients can know them, and the version they hold at.
* ``POST freeze``, ``POST thaw``: markets stand still, sockets stay alive: time to compare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from tapeline.errors import ConfigError

if TYPE_CHECKING:
    from streams.simulator.server import SimulatedExchange


def add_routes(app: web.Application, sim: SimulatedExchange) -> None:
    """Serve ``/sim`` for one exchange."""
    control = _Control(sim)
    app.router.add_get("/sim/state", control.state)
    app.router.add_get("/sim/book", control.book)
    app.router.add_post("/sim/episodes", control.episode)
    app.router.add_post("/sim/faults", control.fault)
    app.router.add_delete("/sim/faults", control.no_faults)
    app.router.add_post("/sim/freeze", control.freeze)
    app.router.add_post("/sim/thaw", control.thaw)


class _Control:
    def __init__(self, sim: SimulatedExchange) -> None:
        self._sim = sim

    async def state(self, _: web.Request) -> web.Response:
        return web.json_response(self._sim.state())

    async def book(self, request: web.Request) -> web.Response:
        self._sim.advance()
        feed = self._sim.exchange.feeds.get(request.query.get("symbol", ""))
        if feed is None:
            known = ", ".join(self._sim.exchange.feeds)
            return web.json_response({"error": f"expected symbol= out of {known}"}, status=404)
        venue = {"venue": self._sim.exchange.venue, "frozen": self._sim.frozen}
        return web.json_response({**venue, **feed.whole()})

    async def freeze(self, _: web.Request) -> web.Response:
        return web.json_response({"frozen_at_ms": self._sim.freeze()})

    async def thaw(self, _: web.Request) -> web.Response:
        self._sim.thaw()
        return web.json_response({"now_ms": self._sim.exchange.now_ms})

    async def fault(self, request: web.Request) -> web.Response:
        asked = await _body(request)
        rule = asked.get("rule") if asked else None
        if not isinstance(rule, str):
            return _expected('{"rule":"drop@0:BTCUSDT:book"}')
        try:
            added = self._sim.add_faults(rule)
        except ConfigError as exc:
            return web.json_response({"error": str(exc)}, status=400)
        return web.json_response({"added": [str(rule) for rule in added]}, status=201)

    async def no_faults(self, _: web.Request) -> web.Response:
        self._sim.faults.clear()
        return web.json_response(self._sim.faults.state())

    async def episode(self, request: web.Request) -> web.Response:
        asked = await _body(request)
        if asked is None or not isinstance(asked.get("name"), str):
            return _expected('{"name":"wall","symbol":"BTCUSDT"}')
        name, symbol = asked.pop("name"), asked.pop("symbol", None)
        in_s = asked.pop("in_s", 0.0)
        try:
            if isinstance(in_s, bool) or not isinstance(in_s, (int, float)) or in_s < 0:
                raise ConfigError("in_s", in_s, "seconds from now, 0 or more")
            params = asked.pop("params", None) or {}
            episode = self._sim.start_episode(name, symbol, in_s=in_s, **{**params, **asked})
        except ConfigError as exc:
            return web.json_response({"error": str(exc)}, status=400)
        return web.json_response(episode.as_dict(), status=201)


async def _body(request: web.Request) -> dict[str, Any] | None:
    try:
        asked = await request.json()
    except ValueError:
        return None
    return asked if isinstance(asked, dict) else None


def _expected(example: str) -> web.Response:
    return web.json_response({"error": f"expected a JSON object such as {example}"}, status=400)
