"""What is hidden as itself, wherever a library puts it."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest

from tapeline import masking
from tapeline.config import load_settings
from tapeline.masking import mask, mask_refused, remember

SECRET = 'p@ss "w/rd" of 20 & more'


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_forms", set())
    monkeypatch.setattr(masking, "_remembered", None)


def test_a_secret_is_hidden_as_itself_and_as_urls_and_json_have_it() -> None:
    forms = (SECRET, quote(SECRET), quote(SECRET, safe=""), quote_plus(SECRET), json.dumps(SECRET))
    assert all(mask(form) == form for form in forms)
    remember(SECRET)
    for form in forms:
        assert "20" not in mask(f"user ann ({form}) refused"), form


def test_settings_remember_the_secrets_they_hold() -> None:
    load_settings(
        {
            "REDIS_URL": "redis://u:hush%2Fof%2Fredis@h:1/0",
            "NT_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "NT_KAFKA_USERNAME": "ann",
            "NT_KAFKA_PASSWORD": "hush-of-kafka",
        }
    )
    basic = base64.b64encode(b"u:hush/of/redis").decode()
    for said in ("hush%2Fof%2Fredis", "hush/of/redis", "hush-of-kafka", basic):
        assert mask(f"AUTH {said}!") == "AUTH ***!"


def test_a_short_word_is_left_alone() -> None:
    """Masked as text, `redis` would be told by where it is missing."""
    remember("redis")
    assert mask("redis.available") == "redis.available"


def test_an_api_key_is_hidden_wherever_it_stands() -> None:
    key = "tl_abcdefghij23_" + "x" * 43
    assert mask(f"GET /get_report?key={key}&symbol=A") == "GET /get_report?key=tl_***&symbol=A"
    assert mask("tl_short_x") == "tl_short_x"


@pytest.mark.parametrize(
    "url",
    ["redis://u:12/hush@h:1", "redis://u:1/2@hush@h", "redis://:9?hush@h", "http://u:hush@h/0"],
)
def test_of_a_url_that_can_not_be_taken_all_may_be_a_password(url: str) -> None:
    assert "hush" not in mask_refused(url)
