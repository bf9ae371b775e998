"""What may be committed, against a plain model of who has what only in memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents.ledger import CommitLedger

SYMBOLS = ("A", "B", "C")
ACTIONS = st.lists(
    st.tuples(st.sampled_from(["record", "saving", "ack", "lost"]), st.sampled_from(SYMBOLS)),
    max_size=80,
)


@given(actions=ACTIONS)
def test_the_committed_offset_never_passes_a_record_that_is_only_in_memory(
    actions: list[tuple[str, str]],
) -> None:
    """And reaches the position when all is saved."""
    ledger = CommitLedger()
    ledger.assign({0})
    records: list[str] = []
    saved: dict[str, int] = dict.fromkeys(SYMBOLS, 0)  # records below this are safe
    sent: dict[str, int | None] = dict.fromkeys(SYMBOLS)
    for action, symbol in actions:
        if action == "record":
            ledger.dirty(0, symbol, len(records))
            records.append(symbol)
            ledger.advance(0, len(records))
        elif action == "saving":
            ledger.saving(0, symbol)
            sent[symbol] = len(records)
        elif sent[symbol] is not None:
            ledger.saved(0, symbol, acknowledged=action == "ack")
            if action == "ack":
                saved[symbol] = sent[symbol] or 0
            sent[symbol] = None
        unsafe = [at for at, s in enumerate(records) if at >= saved[s]]
        expected = min(unsafe, default=len(records)) if records else None
        assert ledger.committable(0) == expected
        for s in SYMBOLS:
            assert ledger.is_dirty(0, s) == any(records[at] == s for at in unsafe)


def test_other_partitions_are_none_of_its_business() -> None:
    """Late news of revoked ones is ignored."""
    ledger = CommitLedger()
    ledger.assign({1})
    ledger.advance(0, 10)
    ledger.dirty(0, "A", 3)
    ledger.saving(0, "A")
    ledger.saved(0, "A", acknowledged=True)
    assert ledger.committable(0) is None
    assert not ledger.is_dirty(0, "A")
    assert ledger.partitions() == {1}
    assert ledger.committable(1) is None
    ledger.advance(1, 7)
    ledger.saved(1, "A", acknowledged=True)
    assert ledger.committable(1) == 7
