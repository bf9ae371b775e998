"""``tapeline topics``: what the broker should have, and giving it that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NoReturn

import typer
from aiokafka.admin import AIOKafkaAdminClient
from rich.console import Console
from rich.table import Table

from streams import topics
from streams.topics import Changes, PartitionCountError, Topic
from tapeline.config import Settings, load_settings, mask
from tapeline.errors import ConfigError, TopicError

app = typer.Typer(help="Plan and create Kafka topics.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line on stdout.")]


@app.callback()
def topics_() -> None:
    """Plan and create Kafka topics."""


@app.command()
def plan(as_json: AsJson = False) -> None:
    """Show what `apply` would do.

    Exit status 1 if no broker answers, 2 if a setting is wrong, a partition count that the
    topics do not have included.
    """

    async def look(admin: AIOKafkaAdminClient, wanted: tuple[Topic, ...]) -> Changes:
        return topics.diff(wanted, await topics.observe(admin, [topic.name for topic in wanted]))

    settings = _settings()
    changes = _run(settings, look)
    _show(settings, changes, "planned", as_json=as_json)
    if changes.mismatched:
        _fail(changes.mismatched[0], 2)


@app.command()
def apply(as_json: AsJson = False) -> None:
    """Create missing topics and set configs that differ; again and again if you like.

    Exit status 1 if no broker answers or it refuses, 2 if a setting is wrong, a partition count
    that the topics do not have included.
    """
    settings = _settings()
    changes = _run(
        settings,
        lambda admin, wanted: topics.apply(
            admin, wanted, replication_factor=settings.replication_factor
        ),
    )
    _show(settings, changes, "applied", as_json=as_json)


def _settings() -> Settings:
    try:
        return load_settings(require=("kafka_url",))
    except ConfigError as exc:
        _fail(exc, 2)


def _run(
    settings: Settings,
    work: Callable[[AIOKafkaAdminClient, tuple[Topic, ...]], Awaitable[Changes]],
) -> Changes:
    async def session() -> Changes:
        async with topics.admin_of(settings) as admin:
            return await work(admin, topics.needed(settings))

    try:
        return asyncio.run(session())
    except PartitionCountError as exc:
        _fail(exc, 2)
    except TopicError as exc:
        _fail(exc, 1)


def _fail(error: Exception, status: int) -> NoReturn:
    typer.echo(f"ERROR: {error}", err=True)
    raise typer.Exit(status)


def _show(settings: Settings, changes: Changes, word: str, *, as_json: bool) -> None:
    wanted = topics.needed(settings)
    if as_json:
        body: dict[str, Any] = {
            "broker": mask(settings.kafka_url),
            word: changes.as_json(),
            "topics": {topic.name: topic.partitions for topic in wanted},
        }
        typer.echo(json.dumps(body))
        return
    created = {topic.name for topic in changes.create}
    table = Table(
        title=f"{mask(settings.kafka_url)}: {'changes' if changes else 'no change'} {word}"
    )
    table.add_column("topic")
    table.add_column("partitions", justify="right")
    table.add_column(word)
    for topic in wanted:
        altered = changes.alter.get(topic.name, {})
        what = ["create"] if topic.name in created else []
        what += [f"{key}: {now} -> {to}" for key, (now, to) in altered.items()]
        unknown = changes.unknown.get(topic.name)
        what += [f"the broker can't set {', '.join(unknown)}"] if unknown else []
        what += [str(error) for error in changes.mismatched if error.topic == topic.name]
        table.add_row(topic.name, str(topic.partitions), "\n".join(what))
    Console().print(table)
