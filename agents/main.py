"""From the environment to a running worker: what stands behind ``faust -A agents worker``."""

from __future__ import annotations

import asyncio
import os

import uvloop

from agents.kafka_app import TapelineApp
from agents.worker import Worker
from tapeline.config import Settings, exit_on_config_error, load_settings
from tapeline.errors import ConfigError
from tapeline.own_packages import check_packages
from tapeline.uncaught import configure_process


def worker_settings() -> Settings:
    """Settings of a worker.

    Raises:
        ConfigError: One is out of range, or one it can't do without is missing.
    """
    required = ("kafka_url", "symbols")
    settings = load_settings(require=required)
    if settings.enable_kv_reports or settings.enable_streams:
        load_settings(require=(*required, "redis_url"))
    return settings


def faust_app() -> TapelineApp:
    """The application of this process; leaves with status 2 where settings are wrong."""
    try:
        check_packages()
        settings = worker_settings()
        # Faust's command line sets this for the level given by -l; ours is a setting.
        os.environ.setdefault("F_LOGLEVEL", settings.log_level)
        configure_process(settings, "worker")
        # Before Faust makes any: asyncio's own spends an eighth of a busy worker's time on moving
        # fetched bytes from buffer to buffer.
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        return Worker(settings).app
    except ConfigError as error:
        exit_on_config_error(error)
        raise
