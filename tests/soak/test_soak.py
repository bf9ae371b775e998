"""A short form of ``python -m tests.soak``: everything is restarted once, and all must hold.

Run with ``NT_TEST_SOAK=1``, and nothing beside it: what it claims of times holds on a quiet machine.
"""

from __future__ import annotations

import os

import pytest

from tapeline.stack.kafka_jars import unavailable
from tapeline.stack.kafka_local import AT_ONCE
from tests.soak.__main__ import overload_options, soak_options
from tests.soak.overload import run as overload
from tests.soak.run import run
from tests.support.redis_process import any_binary

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.kafka,
    pytest.mark.skipif("NT_TEST_SOAK" not in os.environ, reason="NT_TEST_SOAK is not set"),
    pytest.mark.skipif(unavailable() is not None, reason="no Apache Kafka on this machine's Java"),
    pytest.mark.skipif(any_binary() is None, reason="no redis-server, and no Valkey"),
]


@pytest.mark.slow(limit_s=150)
async def test_everything_is_restarted_and_nothing_is_lost(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("soak")
    args = soak_options().parse_args(
        [
            *("--minutes", "0.4", "--warm-up-minutes", "0.05", "--restart-every-s", "25"),
            *("--rate", "150", "--rate-within", "0.6", "--symbols", "3", "--partitions", "8"),
            *("--period-s", "1", "--seed", "11", "--plot", str(folder / "soak.svg")),
        ]
    )
    args.broker, args.flow_symbol_s = AT_ONCE, 60
    found = await run(args)
    assert found["well"], found["claims"]
    assert [one["component"] for one in found["restarts"]] == [
        "worker",
        "bridge",
        "reader",
        "redis",
    ]
    holds = {one["claim"]: one["holds"] for one in found["claims"]}
    assert holds["nothing lost or counted twice"], found["claims"]
    assert holds["bridge outages told as gaps"], found["claims"]
    assert (folder / "soak.svg").read_text().startswith("<svg")


@pytest.mark.slow(limit_s=150)
async def test_more_than_a_worker_can_take(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("overload")
    args = overload_options().parse_args(
        [
            *("--seconds", "14", "--factor", "3", "--burn-us", "400", "--symbols", "3"),
            *(
                "--baseline-s",
                "3",
                "--calibration-s",
                "3",
                "--partitions",
                "8",
                "--period-s",
                "0.5",
            ),
            *("--plot", str(folder / "overload.svg")),
        ]
    )
    args.broker = AT_ONCE
    found = await overload(args)
    assert found["well"], found["claims"]
    assert all(one["holds"] for one in found["claims"]), found["claims"]
