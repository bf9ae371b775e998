"""What an agent is told before its first question."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import jsonschema
import pytest
from redis.asyncio import Redis

from serving.mcp import published
from serving.mcp.server import INSTRUCTIONS
from serving.mcp.tools import OFFERS
from tests.support.mcp_server import ERAS, connected, server_on

COMMITTED = Path(__file__).parents[3] / "docs" / "api" / "mcp.json"


def test_the_contract_is_the_reviewed_one() -> None:
    """`python -m serving.mcp.published docs/api/mcp.json` writes it anew: then read the change."""
    assert COMMITTED.read_text() == published.rendered()


def test_run_as_a_module_it_writes_where_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "mcp.json"
    monkeypatch.setattr(sys, "argv", ["published", str(target)])
    monkeypatch.delitem(sys.modules, "serving.mcp.published")
    runpy.run_module("serving.mcp.published", run_name="__main__")
    assert target.read_text() == COMMITTED.read_text()


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_of_either_revision_is_told_the_same(redis: Redis, era: str) -> None:
    async with connected(server_on(redis), era) as client:
        listed = {
            "tools": (await client.list_tools()).tools,
            "resources": (await client.list_resources()).resources,
            "resourceTemplates": (await client.list_resource_templates()).resource_templates,
            "prompts": (await client.list_prompts()).prompts,
        }
        told = {
            name: [
                model.model_dump(by_alias=True, exclude_none=True, mode="json") for model in models
            ]
            for name, models in listed.items()
        }
        assert {"instructions": client.instructions, **told} == json.loads(COMMITTED.read_text())


def test_lists_fit_into_six_kilobytes() -> None:
    lists = {name: value for name, value in published.contract().items() if name != "instructions"}
    assert len(json.dumps(lists, separators=(",", ":"))) <= published.BYTES_MAX


def test_instructions_are_short_and_say_how_to_read_ages() -> None:
    assert len(INSTRUCTIONS.split()) <= 120
    for word in ("stale", "gaps", "Never quote a number without its age", "fast", "slow"):
        assert word in INSTRUCTIONS


@pytest.mark.parametrize("name", OFFERS)
def test_schemas_are_schemas_and_nothing_is_a_write(name: str) -> None:
    """And no argument is a nested object."""
    [tool] = [tool for tool in published.contract()["tools"] if tool["name"] == name]
    for schema in (tool["inputSchema"], tool["outputSchema"]):
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"
    assert tool["annotations"] == {"readOnlyHint": True, "openWorldHint": False}
    assert tool["inputSchema"]["additionalProperties"] is False
    properties = tool["inputSchema"].get("properties", {})
    assert "object" not in {argument.get("type") for argument in properties.values()}
