"""Settings of a second system beside a live one, and the topics it has."""

from __future__ import annotations

import pytest

from streams.topics import beside, changelog_of, letters_of, needed, plan
from tapeline.config import load_settings
from tapeline.errors import ConfigError


@pytest.mark.parametrize("suffix", ["nt", "v2", "a", "0123456789abcdef", "x-1_y"])
def test_a_suffix_is_taken(suffix: str) -> None:
    assert load_settings({"NT_REPORT_SUFFIX": suffix}).report_suffix == suffix


@pytest.mark.parametrize(
    "suffix", ["NT", "a:b", "heavy", "stats", "trace", "log_level", "0123456789abcdefg", "a b", "*"]
)
def test_any_other_is_refused_with_what_would_do(suffix: str) -> None:
    with pytest.raises(ConfigError, match=r"NT_REPORT_SUFFIX is .*; expected 1 to 16 of a-z, 0-9"):
        load_settings({"NT_REPORT_SUFFIX": suffix})


def test_group_and_topics_of_two_systems_differ_whatever_else_is_set() -> None:
    """The same NT_APP_ID for both is the likeliest mistake, and none."""
    for app_id in ("tapeline", "trade-nt"):
        live = load_settings({"NT_APP_ID": app_id})
        other = load_settings({"NT_APP_ID": app_id, "NT_REPORT_SUFFIX": "nt"})
        assert live.suffixed(live.app_id) == app_id
        assert other.suffixed(other.app_id) == f"{app_id}-nt"
        assert letters_of(live) == "md.events.v1.dlq"
        assert letters_of(other) == "md.events.v1-nt.dlq"


def test_a_second_system_may_create_its_own_topics_alone() -> None:
    live, other = load_settings({}), load_settings({"NT_REPORT_SUFFIX": "nt"})
    assert beside(live) == ()
    assert needed(live) == plan(live)
    mine = {topic.name: topic for topic in needed(other)}
    assert set(mine) == {
        "md.merged.v1-nt",
        "ops.telemetry.v1-nt",
        "md.events.v1-nt.dlq",
        "tapeline-nt-engine-changelog",
    }
    theirs = {topic.name: topic for topic in plan(live)}
    assert not mine.keys() & theirs.keys()
    assert {topic.name for topic in plan(other)} == mine.keys() | theirs.keys()
    changelog = mine[changelog_of("tapeline-nt")]
    assert changelog.partitions == theirs[live.events_topic].partitions
    assert changelog.configs == theirs[changelog_of("tapeline")].configs
