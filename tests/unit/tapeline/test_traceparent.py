"""W3C's header, and which span code runs in."""

from __future__ import annotations

import asyncio

import pytest

from tapeline.traceparent import TraceContext, current, parse, within

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ONE = TraceContext(TRACE, SPAN)


def test_a_header_is_read_as_it_is_written() -> None:
    assert ONE.header == f"00-{TRACE}-{SPAN}-01".encode()
    assert parse(ONE.header) == ONE


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"00",
        f"00-{TRACE}-{SPAN}-00".encode(),
        f"00-{TRACE}-{SPAN}-02".encode(),
        f"00-{TRACE}-{SPAN}-01-more".encode(),
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"00-{TRACE.upper()}-{SPAN}-01".encode(),
        f"ff-{TRACE}-{SPAN}-01".encode(),
        f"00-{TRACE}-{SPAN}-01\n".encode(),
        b"\xff" * 55,
    ],
)
def test_what_is_no_header_of_a_sampled_trace_is_none(header: bytes | None) -> None:
    assert parse(header) is None


def test_later_versions_may_have_more() -> None:
    """By the standard, what is known of them is read."""
    assert parse(f"01-{TRACE}-{SPAN}-03-more".encode()) == ONE


async def test_tasks_run_in_the_span_that_they_were_begun_in() -> None:
    async def what() -> TraceContext | None:
        await asyncio.sleep(0)
        return current.get()

    with within(ONE):
        inside = asyncio.create_task(what())
        with within(None):
            assert current.get() is None
        assert current.get() == ONE
    assert current.get() is None
    assert await inside == ONE
