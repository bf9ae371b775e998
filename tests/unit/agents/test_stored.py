"""What a changelog holds, whatever is in it."""

from __future__ import annotations

from agents.stored import stored_of
from tables.changelog import Checkpoint, encode_checkpoint

LISTED = {"X", "Y"}


def record(symbol: str, token: int, applied: int = 5, epoch: int = 0) -> tuple[bytes, bytes]:
    one = Checkpoint(symbol, token, epoch, applied, b"state")
    return one.key, encode_checkpoint(one)


def test_an_empty_changelog_holds_nothing() -> None:
    found = stored_of([], LISTED)
    assert found.newest() == []
    assert found.epoch() == 0
    assert (found.tokens, found.unreadable, found.unlisted) == ({}, {}, {})


def test_of_each_symbol_the_one_under_the_highest_token_counts() -> None:
    """Not the one furthest on: whoever wrote that had been replaced. All tokens are known."""
    found = stored_of([record("X", 7, 50), record("X", 9, 20), record("Y", 3, 4)], LISTED)
    assert {(one.symbol, one.token, one.applied) for one in found.newest()} == {
        ("X", 9, 20),
        ("Y", 3, 4),
    }
    assert found.tokens == {"X": {7, 9}, "Y": {3}}
    assert len(found.checkpoints) == 3
    assert found.unlisted == {}


def test_the_epoch_is_the_highest_that_any_of_them_knows() -> None:
    """Of symbols that are not listed any more, too."""
    found = stored_of([record("X", 7, epoch=1), record("gone", 2, epoch=3)], LISTED)
    assert found.epoch() == 3


def test_what_can_t_be_read_is_named_and_its_token_known() -> None:
    """So that it is removed under the next one; older ones that can be read still count."""
    found = stored_of([record("X", 7), (b"X@9", b"\x63junk"), (b"Y@2", b"")], LISTED)
    assert sorted(found.unreadable) == ["X", "Y"]
    assert found.tokens == {"X": {7, 9}, "Y": {2}}
    assert [one.token for one in found.newest()] == [7]


def test_what_is_not_listed_is_found_by_its_keys() -> None:
    """Readable or not."""
    found = stored_of([record("gone", 2), record("gone", 4), (b"odd@3", b"junk")], LISTED)
    assert found.unlisted == {"gone": [b"gone@2", b"gone@4"], "odd": [b"odd@3"]}
    assert found.unreadable == {}


def test_keys_that_are_none_are_nobody_s() -> None:
    """They are kept apart, to be removed, and harm no symbol."""
    keys = [b"", b"X", b"X@", b"X@seven", b"\xff\xfe@x"]
    found = stored_of([(key, b"junk") for key in keys], LISTED)
    assert found.unlisted == {"": keys}
    assert found.unreadable == {}
    assert found.tokens == {}
