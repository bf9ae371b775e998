"""A bridge as a process: signals in, an exit status out."""

from __future__ import annotations

import asyncio
import signal

from lua import Keys
from streams.bridge import FAILED, MISCONFIGURED, Bridge
from tapeline.config import Settings
from tapeline.errors import ConfigError
from tapeline.log_level import levels_followed
from tapeline.logging import get_logger
from tapeline.tracing import start_tracing

log = get_logger("bridge")


async def run_bridge(settings: Settings) -> int:
    """``tapeline bridge``: follow ``SYMBOLS`` until SIGTERM or SIGINT.

    Returns:
        Exit status: 0 after a stop, 1 after a failure, 2 if a setting is wrong.
    """
    tracing = None
    try:
        for name, value in (
            ("KAFKA_URL", settings.kafka_url),
            ("REDIS_URL", settings.redis_url),
            ("SYMBOLS", settings.symbols),
        ):
            if not value:
                raise ConfigError(name, None, "a value")
        tracing = start_tracing(settings, "bridge")
        bridge = Bridge(settings, tracing=tracing)
    except ConfigError as exc:
        log.error("config.refused", error=str(exc))
        if tracing is not None:
            tracing.stop()
        return MISCONFIGURED
    loop = asyncio.get_running_loop()
    keys = Keys.of(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, bridge.stop)
    try:
        async with levels_followed(
            settings, settings.redis_url, keys.log_level(settings.node_id), keys.log_level("*")
        ):
            return await bridge.run()
    except OSError as exc:
        log.error("bridge.failed", error=str(exc), port=settings.bridge_port)
        return FAILED
    finally:
        if tracing is not None:
            await asyncio.to_thread(tracing.stop)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
