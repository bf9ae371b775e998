"""AsyncAPI 3 of what is pushed: the websocket's frames, and the records of the events topic.

Made of the types that the hub decodes and encodes by, and of the schemas that records and reports
are written by.
"""

from __future__ import annotations

import inspect
from typing import Any, Final, get_args

import msgspec

from serving import contracts
from serving.hub import protocol

VERSION: Final = "3.0.0"
EVENTS: Final = "md.events.v1.json"
PARTITIONS: Final = 64
RETENTION_MS: Final = 21_600_000

_REF: Final = "#/components/schemas/{name}"
_MESSAGES: Final = "#/components/messages/"
_REPORTS: Final = ["reports.fast", "reports.slow"]


def asyncapi() -> dict[str, Any]:
    """The document."""
    asked, pushed = get_args(protocol.Request), get_args(protocol.ServerFrame)
    types, found = msgspec.json.schema_components([*asked, *pushed], ref_template=_REF)
    records = contracts.components(EVENTS, "Event", "Event")
    schemas = {**contracts.components(contracts.REPORT, "Report", "Report"), **found, **records}
    assert len(types) == len(asked) + len(pushed)
    for name in ("Snapshot", "Update"):
        schemas[name] = _with_report(schemas[name])
    kinds = _kinds(contracts.schema(EVENTS))
    frames = {_label(one): one.__name__ for one in (*asked, *pushed)}
    messages = {
        **{label: _message(label, name) for label, name in frames.items()},
        **{f"event_{kind}": _message(kind, name) for kind, name in kinds.items()},
    }
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "Tapeline",
            "version": "0.1.0",
            "description": "What is pushed: frames of `/ws`, and records of the events topic.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "reader": {
                "host": "127.0.0.1:8080",
                "protocol": "ws",
                "security": [
                    {"$ref": "#/components/securitySchemes/bearer"},
                    {"$ref": "#/components/securitySchemes/key"},
                ],
            },
            "broker": {"host": "127.0.0.1:9092", "protocol": "kafka"},
        },
        "channels": {
            "ws": {
                "address": "/ws",
                "servers": [{"$ref": "#/servers/reader"}],
                "messages": _refs(_MESSAGES, frames),
                "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
            },
            "events": {
                "address": "md.events.v1",
                "servers": [{"$ref": "#/servers/broker"}],
                "messages": _refs(_MESSAGES, [f"event_{kind}" for kind in kinds]),
                "bindings": {
                    "kafka": {
                        "topic": "md.events.v1",
                        "partitions": PARTITIONS,
                        "topicConfiguration": {
                            "cleanup.policy": ["delete"],
                            "retention.ms": RETENTION_MS,
                        },
                        "bindingVersion": "0.5.0",
                    }
                },
            },
        },
        "operations": {
            "ask": _operation("receive", "ws", [_label(one) for one in asked]),
            "push": _operation("send", "ws", [_label(one) for one in pushed]),
            "record": _operation("send", "events", [f"event_{kind}" for kind in kinds]),
        },
        "components": {
            "messages": messages,
            "schemas": {name: _draft_7(one) for name, one in sorted(schemas.items())},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "httpApiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _label(frame: type) -> str:
    """A frame's name on the wire; requests and answers are told apart."""
    config: Any = frame.__struct_config__  # type: ignore[attr-defined]
    return f"{config.tag_field}_{config.tag}"


def _message(label: str, schema: str) -> dict[str, Any]:
    return {
        "name": label,
        "contentType": "application/json",
        "payload": {"$ref": _REF.format(name=schema)},
    }


def _refs(prefix: str, names: Any) -> dict[str, Any]:
    return {name: {"$ref": prefix + name} for name in names}


def _operation(action: str, channel: str, names: list[str]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names],
    }


def _with_report(frame: dict[str, Any]) -> dict[str, Any]:
    """A state's frame, whose data is a report where its channel is one of reports."""
    report = {"anyOf": [{"$ref": _REF.format(name="Report")}, {"type": "null"}]}
    return {
        **frame,
        "allOf": [
            {
                "if": {"properties": {"channel": {"enum": _REPORTS}}},
                "then": {"properties": {"data": report}},
            }
        ],
    }


def _kinds(schema: dict[str, Any]) -> dict[str, str]:
    """Component of each kind of record."""
    mapping: dict[str, str] = schema["discriminator"]["mapping"]
    return {kind: "Event" + ref.rsplit("/", 1)[-1] for kind, ref in mapping.items()}


def _draft_7(value: Any) -> Any:
    """JSON Schema 2020-12 as the dialect of AsyncAPI, where tuples are written another way."""
    if isinstance(value, list):
        return [_draft_7(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {key: _draft_7(one) for key, one in value.items()}
    if isinstance(found.get("description"), str):
        # Python 3.13 unindents docstrings by itself; the document is the same on all.
        found["description"] = inspect.cleandoc(found["description"])
    if "prefixItems" in found:
        rest = found.pop("items", True)
        found["items"] = found.pop("prefixItems")
        found["additionalItems"] = rest
    return found
