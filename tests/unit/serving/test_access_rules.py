"""Token buckets, what paths ask for, and what headers may hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.access import checks
from serving.access.answer import gzipped, wants_gzip
from serving.access.needs import need_of
from serving.access.rules import BURST_S, Limiter, TokenBucket


@given(
    rate=st.integers(1, 1000),
    gaps=st.lists(st.integers(0, 3000), max_size=200),
)
def test_a_bucket_lets_no_more_pass_than_its_burst_and_its_rate(rate: int, gaps: list[int]) -> None:
    """In any stretch of time from its beginning; and who waits as told to may pass."""
    bucket, now_ms, passed = TokenBucket(rate, rate * BURST_S, 0), 0, 0
    for gap_ms in gaps:
        now_ms += gap_ms
        verdict = bucket.take(now_ms)
        passed += verdict.allowed
        assert passed <= rate * BURST_S + rate * now_ms / 1000 + 1e-6
        assert 0 <= verdict.remaining <= verdict.burst
        if not verdict.allowed:
            now_ms += verdict.retry_after_s * 1000
            assert bucket.take(now_ms).allowed
            passed += 1


def test_what_is_left_is_said_in_headers() -> None:
    limiter = Limiter()
    first = dict(limiter.take("a", 2, 0).headers())
    assert first == {b"ratelimit-policy": b'"key";q=4;w=2', b"ratelimit": b'"key";r=3;t=1'}
    for _ in range(3):
        last = limiter.take("a", 2, 0)
    assert last.allowed
    refused = limiter.take("a", 2, 0)
    assert not refused.allowed
    assert dict(refused.headers())[b"retry-after"] == b"1"
    assert limiter.take("b", 2, 0).allowed, "each name has a bucket of its own"
    assert limiter.take("a", 2, 500).allowed


def test_a_limiter_forgets_who_came_longest_ago() -> None:
    """Many names take no more room than few."""
    limiter = Limiter(kept_max=2)
    for name in ("a", "b", "c"):
        for _ in range(3):
            limiter.take(name, 1, 0)
    assert not limiter.take("c", 1, 0).allowed
    assert limiter.take("a", 1, 0).allowed, "it was forgotten, and begins anew"


@pytest.mark.parametrize(
    ("method", "path", "key", "scope"),
    [
        ("GET", "/get_report", True, "reports:read"),
        ("GET", "/ticks/realtime", True, "ticks:read"),
        ("GET", "/status", True, "status:read"),
        ("GET", "/metrics", True, "status:read"),
        ("GET", "/api/v1/streams", True, "status:read"),
        ("POST", "/api/v1/streams", True, "admin"),
        ("DELETE", "/api/v1/streams/binance:BTCUSDT", True, "admin"),
        ("PUT", "/api/v1/streams/x", True, "admin"),
        ("GET", "/queries", True, ""),
        ("POST", "/mcp", True, ""),
        ("GET", "/health", False, ""),
        ("GET", "/openapi.json", False, ""),
        ("GET", "/schemas/report-1.1.json", False, ""),
        ("GET", "/nobody/has/thought/of/this", True, ""),
        ("GET", "/get_report/", True, ""),
        ("GET", "//get_report", True, ""),
    ],
)
def test_each_path_asks_for_a_scope(method: str, path: str, key: bool, scope: str) -> None:
    """What nobody has thought of asks for a key."""
    need = need_of("http", method, path)
    assert (need.key, need.scope) == (key, scope)


def test_a_websocket_may_show_its_key_later() -> None:
    assert need_of("websocket", "", "/ws").later
    assert need_of("websocket", "", "/ws").key


# --- headers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "a b", "evil.example/127.0.0.1", "127.0.0.1@evil.example", "a:port", "a:1:2",
        "a,b", "[::1", "ü", "a\x00", "http://a", "a" * 254,
    ],
)  # fmt: skip
def test_what_is_no_host_is_malformed(value: str) -> None:
    with pytest.raises(checks.Malformed):
        checks.host_name(value)


def test_a_reader_is_known_by_local_names_listed_ones_and_where_it_was_reached() -> None:
    hosts = checks.Hosts("desk.example, Other.example")
    for name in ("localhost", "127.0.0.1", "[::1]", "desk.example", "other.example"):
        assert hosts.know(name, "10.0.0.5"), name
    assert hosts.know("10.0.0.5", "10.0.0.5")
    assert hosts.know("[fd00::5]", "fd00::5")
    for name in ("evil.example", "10.0.0.6", "localhost.evil.example"):
        assert not hosts.know(name, "10.0.0.5"), name
    assert checks.Hosts("*").know("anything", "")
    assert checks.host_name("LocalHost:8080") == "localhost"


def test_a_page_may_call_from_where_it_came_or_from_a_listed_origin() -> None:
    origins = checks.Origins("https://desk.example")
    assert origins.allow("http://127.0.0.1:8080", "127.0.0.1:8080")
    assert origins.allow("https://Desk.example", "127.0.0.1:8080")
    for origin in (
        "http://127.0.0.1:8081", "null", "", "file://127.0.0.1:8080", "https://desk.example.evil",
        "http://[", "http://127.0.0.1:8080.evil.example",
    ):  # fmt: skip
        assert not origins.allow(origin, "127.0.0.1:8080"), origin


def test_a_key_comes_in_one_of_two_headers() -> None:
    bearer, plain = (b"authorization", b"Bearer  tl_a "), (b"x-api-key", b"tl_a")
    assert checks.presented_key([bearer]) == checks.presented_key([plain]) == "tl_a"
    assert checks.presented_key([bearer, plain]) == "tl_a"
    assert checks.presented_key([]) is None
    for wrong in (
        [(b"authorization", b"Basic dGw6YQ==")],
        [bearer, (b"x-api-key", b"tl_b")],
        [plain, plain],
        [(b"x-api-key", b"a\x00b")],
        [(b"x-api-key", b"\xff")],
    ):
        with pytest.raises(checks.Malformed):
            checks.presented_key(wrong)


@pytest.mark.parametrize(
    ("path", "query", "found"),
    [
        ("/get_report", b"symbol=BTCUSDT", False),
        ("/get_report", b"symbol=BTCUSDT&api_key=x", True),
        ("/get_report", b"Access_Token=x", True),
        ("/get_report", b"%61pi_key=x", True),
        ("/get_report", b"symbol=tl_abcdefghijkl_0", True),
        ("/get_report", b"symbol=%74l_abcdefghijkl_0", True),
        ("/tl_abcdefghijkl_0", b"", True),
        ("/get_report", b"monkey=1", False),
    ],
)
def test_a_key_in_a_url_is_seen(path: str, query: bytes, found: bool) -> None:
    assert checks.key_in_url(path, query) is found


def test_headers_beyond_what_anybody_sends_are_heavy() -> None:
    """In bytes, or in number."""
    assert not checks.heavy([(b"a", b"b" * 16_000)])
    assert checks.heavy([(b"a", b"b" * 16_384)])
    assert not checks.heavy([(b"a", b"b")] * 100)
    assert checks.heavy([(b"a", b"b")] * 101)


def test_what_is_logged_of_a_path_has_no_key_and_an_end() -> None:
    assert checks.without_keys("/a/tl_abcdefghijkl_secret/b") == "/a/tl_***/b"
    assert len(checks.without_keys("/" * 1000)) == 200


def test_a_request_keeps_an_id_that_is_harmless() -> None:
    """One that is not, or two, is as good as none: nobody is refused for it."""
    assert checks.request_id([(b"x-request-id", b"abc-1.2_3")]) == "abc-1.2_3"
    for other in (b"", b"a b", b"a" * 65, b"\xfc", b"a\n", b"a\tb"):
        assert checks.request_id([(b"x-request-id", other)]) != other.decode("latin-1")
    assert checks.request_id([(b"x-request-id", b"a"), (b"x-request-id", b"a")]) != "a"
    assert len(checks.request_id([])) == 16


@pytest.mark.parametrize(
    ("accepted", "wanted"),
    [
        ("gzip", True), ("GZIP", True), ("br, gzip;q=0.5", True), ("*", True), ("", False),
        ("gzip;q=0", False), ("gzip; q=0.0, br", False), ("xgzip", False), ("br", False),
        ("gzip;q=1.2.3", False),
    ],
)  # fmt: skip
def test_gzip_is_for_who_asks(accepted: str, wanted: bool) -> None:
    assert wants_gzip(accepted) is wanted


def test_the_same_bytes_pack_to_the_same_bytes() -> None:
    """No time of day in them: a cache may compare."""
    assert gzipped(b"a" * 5000) == gzipped(b"a" * 5000)
