"""Commands of the pages that no other test runs, against a whole system of real processes.

Marks before a block say what else becomes of it; `tests/unit/docs/test_docs_blocks.py` holds them
to the truth, `docs/operations/development.md` explains them.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from docs.site.pages import Block, blocks, blocks_of, pages
from tapeline.stack.ports import free_port
from tests.support import commands
from tests.support.doc_commands import Page, programs
from tests.support.house import House, house
from tests.support.worker import eventually, report_of

AT_ONCE = 2
"""Pages followed at a time; their commands spend much of it waiting."""


def ours(block: Block) -> bool:
    """Whether a command of it is for this test."""
    return any(
        not block.marks_of(command, "run by") and not block.marks_of(command, "not run")
        for command in block.commands
    )


def followed() -> dict[str, list[Block]]:
    """Blocks for this test, by page."""
    shown = [page for page in pages() if not page.startswith("tests/")]
    found = {page: [block for block in blocks(page) if ours(block)] for page in shown}
    return {page: of_page for page, of_page in found.items() if of_page}


async def running(house: House) -> tuple[dict[str, str], dict[str, str]]:
    """Start all parts; the settings of a terminal beside them, and addresses as pages write them."""
    worker, bridge = free_port(), free_port()
    house.one.env |= {
        "NT_METRICS_PORT": str(worker),
        "NT_NODE_ID": "w1",
        "NT_REQUIRE_KEYS": "never",
        "NT_ENABLE_STREAMS": "true",
    }
    # One after the other: on a busy machine each has its time to start.
    started = await house.worker()
    await house.serve()
    await house.child("bridge", NT_BRIDGE_PORT=str(bridge), NT_NODE_ID="b1", NT_METRICS_PORT="0")
    async with house.one.redis() as redis:

        async def reported() -> bool:
            report = await report_of(redis)
            return report is not None and report["source"]["slow"] is not None

        await eventually(reported, what=f"a report; {house.tail('bridge')}")

    async def settled() -> bool:
        status, health = await started.probe()
        return status == 200 and health["owned_symbols"] == health["assigned_symbols"]

    await eventually(settled, what="every symbol's lease")
    env = house.one.environment(
        NT_SERVE_PORT=str(house.serve_port), TAPELINE_KEY=await house.admin_key()
    )
    written = {
        "127.0.0.1:8080": f"127.0.0.1:{house.serve_port}",
        "127.0.0.1:9101": f"127.0.0.1:{worker}",
        "127.0.0.1:9102": f"127.0.0.1:{bridge}",
        "127.0.0.1:9092": house.one.kafka_url.removeprefix("kafka://"),
        "report:writer:S": "report:writer:BTCUSDT",
        "report:meta:S": "report:meta:BTCUSDT",
    }
    return env, written


@pytest.mark.e2e
@pytest.mark.slow(limit_s=180)
async def test_the_commands_of_the_pages_do_what_they_say(
    kafka_url: str, redis_url: str, tmp_path: Path
) -> None:
    """Each ends with the status that the page says, which is 0 where it says none."""
    asked = followed()
    assert len(asked) > 3
    (tmp_path / "bin").mkdir()
    path = programs(tmp_path / "bin")
    room = asyncio.Semaphore(AT_ONCE)
    async with house(kafka_url, redis_url) as system:
        env, written = await running(system)
        await system.one.delete_order_topics()

        async def follow(page: str, of_page: list[Block]) -> int:
            async with room:
                folder = tmp_path / page.replace("/", "-")
                folder.mkdir()
                terminal = Page(folder, commands.environment(**env, PATH=path), written)
                try:
                    return await terminal.follow(of_page)
                finally:
                    await terminal.close()

        # All of them, so that one run tells of everything that is wrong.
        ended = await asyncio.gather(
            *(follow(*item) for item in asked.items()), return_exceptions=True
        )
        await system.one.delete_order_topics()
    wrong = [str(error) for error in ended if isinstance(error, BaseException)]
    assert not wrong, "\n\n".join(wrong)
    assert sum(count for count in ended if isinstance(count, int)) > 20


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("exit 3", "ended with 3, not (0,)"),
        ("tapeline nothing", "ended with 2"),
        ("echo Traceback", "Traceback"),
    ],
)
async def test_a_command_that_fails_would_be_found(tmp_path: Path, typed: str, said: str) -> None:
    """With its place in the page, and with what it said."""
    found = blocks_of("docs/NEW.md", f"# New\n\n```console\n$ {typed}\n```\n")
    terminal = Page(tmp_path, commands.environment(PATH=programs(tmp_path)))
    with pytest.raises(AssertionError) as failed:
        await terminal.follow(found)
    assert said in str(failed.value)
    assert "docs/NEW.md:3" in str(failed.value)


async def test_a_terminal_remembers_and_leaves_nothing(tmp_path: Path) -> None:
    """Exports and files are there for the next command; statuses are as they are told."""
    text = (
        "<!-- exits with: 3 -->\n```sh\nexit 3\n```\n"
        "```console\n$ export NAME=value\n$ sleep 60 &\n$ echo $NAME > said\n$ grep -x value said\n```\n"
        "<!-- not run: it is only shown -->\n```sh\nexit 1\n```\n"
    )
    terminal = Page(tmp_path, commands.environment())
    assert await terminal.follow(blocks_of("x", text)) == 5
    await terminal.close()
    assert (tmp_path / "said").read_text() == "value\n"
