"""A reader that asks for keys: the page says so, takes one, and shows what its scopes allow."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.support import browsers, commands
from tests.support.browsers import watched
from tests.support.desk_stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SCOPES = "reports:read,ticks:read,status:read"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Also on loopback."""
    made = Stack(tmp_path_factory.mktemp("locked"), 3, NT_REQUIRE_KEYS="always")
    try:
        made.store.start()
        _key(made)
        yield made.start_rest()
    finally:
        made.stop()


def _key(stack: Stack) -> str:
    done = subprocess.run(
        commands.tapeline("keys", "create", "--name", "desk", "--scope", SCOPES, "--json"),
        env=commands.environment(REDIS_URL=stack.store.url),
        capture_output=True,
        text=True,
        check=True,
    )
    return str(json.loads(done.stdout)["key"])


def test_without_a_key_nothing_is_shown_and_with_one_everything_is(locked: Stack) -> None:
    """No reload in between; the status page's calls carry it too."""
    key = _key(locked)
    with browsers.browser() as browser, watched(browser, locked.url) as seen:
        seen.away = True  # being refused is what is asked for
        seen.go("/")
        seen.wait("window.__probe.banner.some(one => one.id === 'key')", 10)
        assert seen.page.locator("tr[data-symbol]").count() == 0
        seen.page.locator("#banner a").click()
        seen.page.get_by_label("Key", exact=True).fill(key)
        seen.page.get_by_role("button", name="Use", exact=True).click()
        seen.wait("window.__probe.banner.length === 0", 10)
        seen.away = False
        seen.page.locator("[data-nav=wall]").click()
        seen.wait("document.querySelectorAll('tr[data-state=live]').length === 3", 10)
        seen.page.locator("[data-nav=status]").click()
        seen.wait("window.__probe.status?.symbols === 3", 10)
        seen.judge()
    assert key not in locked.serve_log.read_text()
