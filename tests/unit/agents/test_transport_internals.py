"""What the batch transport leans on inside pinned libraries. A failure here names what changed."""

from __future__ import annotations

import inspect

import faust
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher, FetchResult, PartitionRecords
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import TopicPartitionState
from aiokafka.record.default_records import DefaultRecord
from faust.serializers.schemas import Schema
from faust.stores import memory
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport import consumer as consumers
from faust.transport.drivers import aiokafka as driver

from agents.transport import BatchConsumer, BatchTransport


@pytest.mark.parametrize(
    "name",
    [
        "_drain_messages",
        "_wait_next_records",
        "_getmany",
        "_new_offset",
        "_filter_tps_with_pending_acks",
        "_get_active_partitions",
        "_to_message",
        "_commit",
        "wait_empty",
        "on_partitions_revoked",
        "commit_and_end_transactions",
        "highwater",
        "highwaters",
        "seek_to_committed",
    ],
)
def test_fausts_consumer_still_has(name: str) -> None:
    """Overridden or called by us."""
    assert callable(getattr(driver.Consumer, name, None)), f"faust Consumer.{name} is gone"


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (consumers.Consumer, "_wait_next_records", ["self", "timeout"]),
        (consumers.Consumer, "_drain_messages", ["self", "fetcher"]),
        (consumers.Consumer, "_new_offset", ["self", "tp"]),
        (consumers.Consumer, "_filter_tps_with_pending_acks", ["self", "topics"]),
        (consumers.Consumer, "on_partitions_revoked", ["self", "revoked"]),
        (driver.Consumer, "verify_event_path", ["self", "now", "tp"]),
        (driver.AIOKafkaConsumerThread, "_create_worker_consumer", ["self", "transport"]),
        (faust.Worker, "_sentinel_task", ["self"]),
        (GroupCoordinator, "_do_rejoin_group", ["self", "subscription"]),
        (Fetcher, "_proc_fetch_request", ["self", "assignment", "node_id", "request"]),
        (Fetcher, "_get_actions_per_node", ["self", "assignment"]),
        (GroupCoordinator, "_do_commit_offsets", ["self", "assignment", "offsets"]),
    ],
)
def test_what_is_overridden_has_the_same_parameters(
    owner: type, name: str, parameters: list[str]
) -> None:
    """Another signature would be called with other arguments."""
    found = [*inspect.signature(getattr(owner, name)).parameters]
    assert found == parameters, f"{owner.__name__}.{name} takes {found} now"


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (Recovery, "_add", ["self", "table", "tp", "offsets"]),
        (Recovery, "_build_offsets", ["self", "consumer", "tps", "destination", "title"]),
        (Recovery, "on_recovery_completed", ["self", "generation_id"]),
        (Recovery, "flush_buffers", ["self"]),
        (faust.Table, "_new_store", ["self"]),
        (faust.Table, "_on_changelog_sent", ["self", "fut"]),
        (memory.Store, "apply_changelog_batch", ["self", "batch", "to_key", "to_value"]),
        (memory.Store, "persisted_offset", ["self", "tp"]),
        (memory.Store, "on_recovery_completed", ["self", "active_tps", "standby_tps"]),
    ],
)
def test_what_the_store_leans_on_is_still_there(
    owner: type, name: str, parameters: list[str]
) -> None:
    """Recovery reads on from where the store says."""
    assert [*inspect.signature(getattr(owner, name)).parameters] == parameters


def test_what_the_watchdog_reads_is_still_there() -> None:
    """Names inside; without them it would see nothing, or crash."""
    assert "self._subscription = SubscriptionState" in inspect.getsource(AIOKafkaConsumer.__init__)
    assert "self._fetch_task = create_task" in inspect.getsource(Fetcher.__init__)
    assert "self.set_shutdown()" in inspect.getsource(consumers.Fetcher)
    for name in ("has_valid_position", "position"):
        assert hasattr(TopicPartitionState, name)
    assert "self._unacked_messages" in inspect.getsource(consumers.Consumer.unacked.fget)


def test_fausts_drain_still_delivers_one_message_at_a_time() -> None:
    """Ours replaces it whole; look again when it changes."""
    source = inspect.getsource(consumers.Consumer._drain_messages)
    for part in ("wait_first", "callback(message)", "self.suspend_flow.wait()", "set_read_offset"):
        assert part in source, f"Consumer._drain_messages no longer has {part}"


def test_the_fetch_wait_is_still_an_attribute_read_at_the_start() -> None:
    """Faust hard-codes 1500 ms; we set it before the consumer starts."""
    assert "fetch_max_wait_ms=1500" in inspect.getsource(
        driver.AIOKafkaConsumerThread._create_worker_consumer
    )
    assert "self._fetch_max_wait_ms" in inspect.getsource(AIOKafkaConsumer.start)


def test_aiokafkas_fetcher_still_keeps_what_is_unpacked_elsewhere() -> None:
    """`agents.fetching` drains it in place of ``Fetcher.fetched_records``."""
    drain = inspect.getsource(Fetcher.fetched_records)
    for part in (
        "_subscriptions.reassignment_in_progress",
        "_subscriptions.is_assigned(tp)",
        "_wait_consume_future",
        "_create_fetch_waiter()",
        "has_more()",
        "check_raise()",
    ):
        assert part in drain, f"Fetcher.fetched_records no longer has {part}"
    unpack = inspect.getsource(PartitionRecords._unpack_records)
    for part in (
        "records.has_next()",
        "records.next_batch()",
        "_check_crcs and not next_batch.validate_crc()",
        "is_control_batch",
        "self.next_fetch_offset = next_batch.next_offset",
    ):
        assert part in unpack, f"PartitionRecords._unpack_records no longer has {part}"
    whole = inspect.getsource(FetchResult.getall)
    for part in ("self.check_assignment(tp)", "_update_position()", "_partition_records = None"):
        assert part in whole, f"FetchResult.getall no longer has {part}"
    fields = {"offset", "key", "value", "timestamp", "timestamp_type"}
    assert fields <= {*dir(DefaultRecord)}, "a record of aiokafka's has other fields now"


def test_aborted_transactions_are_not_ours_to_skip() -> None:
    """Chunks leave that out: Faust reads uncommitted records unless told otherwise."""
    source = inspect.getsource(driver.AIOKafkaConsumerThread._create_worker_consumer)
    assert "isolation_level" in source
    assert faust.App("t").conf.processing_guarantee.value == "at_least_once"


def test_the_consumer_keeps_acks_where_we_clear_them() -> None:
    """The compiled stream iterator appends to these."""
    source = inspect.getsource(consumers.Consumer.__init__)
    for attribute in ("_acked", "_acked_index", "_read_offset", "_buffered_partitions"):
        assert f"self.{attribute} " in source, f"Consumer.{attribute} is gone"


def test_a_schema_can_still_hand_messages_through() -> None:
    """By overriding compile."""
    assert "compile" in vars(Schema)


def test_the_app_uses_the_transport_it_is_given() -> None:
    """Through one factory method."""
    assert "_new_transport" in vars(faust.App)
    assert BatchTransport.Consumer is BatchConsumer
    assert "self.Consumer" in inspect.getsource(driver.Transport.__mro__[1])


def test_recovery_still_ends_where_we_wait() -> None:
    """Overridden: an end of an overtaken recovery must not reach the rest of it."""
    source = inspect.getsource(Recovery.on_recovery_completed)
    sent, ended = source.find("on_rebalance_complete.send"), source.find("_set_recovery_ended")
    assert 0 < sent < ended, "Recovery.on_recovery_completed has changed"
    assert "on_recovery_completed" in inspect.getsource(Recovery._restart_recovery.fun)
    assert "Recovery(" in inspect.getsource(TableManager.recovery.fget)
