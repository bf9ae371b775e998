"""A bridge as a process: signals in, an exit status out."""

from __future__ import annotations

import asyncio
import signal

from streams.bridge import FAILED, MISCONFIGURED, Bridge
from tapeline.config import Settings
from tapeline.errors import ConfigError
from tapeline.logging import get_logger

log = get_logger("bridge")


async def run_bridge(settings: Settings) -> int:
    """``tapeline bridge``: follow ``SYMBOLS`` until SIGTERM or SIGINT.

    Returns:
        Exit status: 0 after a stop, 1 after a failure, 2 if a setting is wrong.
    """
    try:
        for name, value in (
            ("KAFKA_URL", settings.kafka_url),
            ("REDIS_URL", settings.redis_url),
            ("SYMBOLS", settings.symbols),
        ):
            if not value:
                raise ConfigError(name, None, "a value")
        bridge = Bridge(settings)
    except ConfigError as exc:
        log.error("config.refused", error=str(exc))
        return MISCONFIGURED
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, bridge.stop)
    try:
        return await bridge.run()
    except OSError as exc:
        log.error("bridge.failed", error=str(exc), port=settings.bridge_port)
        return FAILED
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
