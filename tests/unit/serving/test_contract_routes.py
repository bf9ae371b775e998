"""Contracts as they are served, and as they are committed."""

from __future__ import annotations

import copy
import gzip
import json
import re
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import validate
from redis.asyncio import Redis

from serving import contract_docs, contracts
from serving.app import create_api
from serving.openapi30 import downgraded
from serving.problems import KINDS
from tapeline import schemas
from tapeline.config import load_settings
from tests.support.asgi_client import Client
from tests.support.imports import ROOT

API = ROOT / "docs" / "api"


@pytest.fixture
def client() -> Client:
    return Client(create_api(load_settings({}), Redis()))


@pytest.fixture(scope="module")
def rendered() -> dict[str, str]:
    return contract_docs.rendered()


def test_committed_contracts_are_those_of_the_code(rendered: dict[str, str]) -> None:
    """`make docs` makes them anew."""
    committed = {path.name: path.read_text() for path in API.iterdir() if path.name in rendered}
    assert committed == rendered


def test_schemas_that_are_served_are_those_of_the_types() -> None:
    """`make docs` makes them anew."""
    served = {name: contracts.schema_bytes(name).decode() for name in contracts.schema_names()}
    assert served == {name: schemas.render(one) for name, one in schemas.schemas().items()}


@pytest.mark.parametrize("name", ["openapi.json", "openapi-3.0.json"])
def test_both_renderings_are_valid(rendered: dict[str, str], name: str) -> None:
    document = json.loads(rendered[name])
    validate(document)
    assert document["openapi"] == {"openapi.json": "3.1.0", "openapi-3.0.json": "3.0.3"}[name]


def test_both_renderings_give_the_same_page(rendered: dict[str, str]) -> None:
    """The reference page of the documentation."""
    pages = [
        contract_docs.reference(json.loads(rendered[name]))
        for name in ("openapi.json", "openapi-3.0.json")
    ]
    assert pages[0] == pages[1] == rendered["reference.md"]
    assert "## `GET /get_report`" in pages[0]


async def test_contracts_are_served_as_they_are_committed(
    client: Client, rendered: dict[str, str]
) -> None:
    for name in ("openapi.json", "openapi-3.0.json", "asyncapi.json"):
        answer = await client.get(f"/{name}")
        assert answer.json() == json.loads(rendered[name]), name
        assert "max-age" in answer.headers["cache-control"]


async def test_schemas_are_served_by_name_and_nothing_else_is(client: Client) -> None:
    names = (await client.get("/schemas/")).json()["schemas"]
    assert "report-1.1.json" in names
    for name in names:
        answer = await client.get(f"/schemas/{name}")
        assert answer.headers["content-type"] == "application/schema+json"
        schema = answer.json()
        jsonschema.validators.validator_for(schema).check_schema(schema)
    for other in ("nothing.json", "..", "../app.py", "%2e%2e/app.py", "..\\app.py", "a/b", "\0"):
        assert (await client.get(f"/schemas/{other}")).status == 404, other


async def test_each_type_of_problem_has_a_page(client: Client) -> None:
    for kind, known in KINDS.items():
        page = (await client.get(f"/problems/{kind}")).json()
        assert (page["status"], page["title"]) == (known.status, known.title)
    assert (await client.get("/problems/none-of-them")).status == 404


def test_each_type_of_problem_is_in_the_documentation() -> None:
    said = (ROOT / "docs" / "http.md").read_text()
    for kind, known in KINDS.items():
        assert f"| `{kind}` | {known.status} |" in said, kind


# --- AsyncAPI -------------------------------------------------------------------------------------


def test_asyncapi_is_valid_by_its_own_schema(rendered: dict[str, str]) -> None:
    packed = ROOT / "tests" / "data" / "asyncapi" / "3.0.0.json.gz"
    validator = jsonschema.Draft7Validator(json.loads(gzip.decompress(packed.read_bytes())))
    document = json.loads(rendered["asyncapi.json"])
    assert [error.message for error in validator.iter_errors(document)] == []
    document["operations"]["push"]["action"] = "shout"
    assert not validator.is_valid(document)


def test_asyncapi_has_each_frame_each_record_and_nothing_undefined(
    rendered: dict[str, str],
) -> None:
    document = json.loads(rendered["asyncapi.json"])
    messages = document["channels"]["ws"]["messages"]
    for name in ("op_subscribe", "op_auth", "type_hello", "type_update", "type_error"):
        assert name in messages
    kinds = contracts.schema("md.events.v1.json")["discriminator"]["mapping"]
    assert set(document["channels"]["events"]["messages"]) == {f"event_{kind}" for kind in kinds}
    for ref in re.findall(r'"\$ref": "#/([^"]+)"', rendered["asyncapi.json"]):
        found = document
        for part in ref.split("/"):
            found = found[part]


def test_golden_records_and_reports_are_what_asyncapi_says(rendered: dict[str, str]) -> None:
    """Tuples written the older way hold them still."""
    document = json.loads(rendered["asyncapi.json"])
    golden = ROOT / "tests" / "data" / "golden"

    def check(name: str, line: str) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft7Validator(schema).validate(json.loads(line))

    for line in (golden / "reports-1.1.jsonl").read_text().splitlines():
        check("Report", line)
    mapping = contracts.schema("md.events.v1.json")["discriminator"]["mapping"]
    for line in (golden / "events-v1.jsonl").read_text().splitlines():
        check("Event" + mapping[json.loads(line)["kind"]].rsplit("/", 1)[-1], line)


# --- 3.0.3 ----------------------------------------------------------------------------------------


def test_what_3_0_does_not_know_is_said_in_its_own_words() -> None:
    given: dict[str, Any] = {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "x",
        "components": {
            "schemas": {
                "const": {"const": 1},
                "optional": {"type": ["string", "null"]},
                "several": {"type": ["string", "integer"]},
                "nullable": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                "reference": {"anyOf": [{"$ref": "#/x"}, {"type": "null"}]},
                "either": {"anyOf": [{"type": "integer"}, {"$ref": "#/x"}, {"type": "null"}]},
                "beside": {"$ref": "#/x", "description": "said"},
                "above": {"type": "number", "exclusiveMinimum": 0},
                "pair": {"type": "array", "prefixItems": [{"type": "number"}] * 2, "items": False},
                "mixed": {"prefixItems": [{"type": "number"}, {"type": "string"}]},
                "example": {"type": "string", "examples": ["a", "b"]},
                "properties": {
                    "properties": {"const": {"type": "string"}, "$id": {"type": "null"}}
                },
            }
        },
    }
    before = copy.deepcopy(given)
    found = downgraded(given)
    assert given == before
    assert found["openapi"] == "3.0.3"
    assert "jsonSchemaDialect" not in found
    assert found["components"]["schemas"] == {
        "const": {"enum": [1]},
        "optional": {"type": "string", "nullable": True},
        "several": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        "nullable": {"type": "integer", "nullable": True},
        "reference": {"allOf": [{"$ref": "#/x"}], "nullable": True},
        "either": {"anyOf": [{"type": "integer"}, {"$ref": "#/x"}], "nullable": True},
        "beside": {"allOf": [{"$ref": "#/x"}], "description": "said"},
        "above": {"type": "number", "minimum": 0, "exclusiveMinimum": True},
        "pair": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
        "mixed": {
            "items": {"anyOf": [{"type": "number"}, {"type": "string"}]},
            "minItems": 2,
            "maxItems": 2,
        },
        "example": {"type": "string", "example": "a"},
        "properties": {"properties": {"const": {"type": "string"}, "$id": {"type": "null"}}},
    }
