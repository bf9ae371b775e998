"""OpenAPI 3.1 as 3.0.3, for generators that read no other."""

from __future__ import annotations

from typing import Any, Final

VERSION: Final = "3.0.3"

# JSON Schema has these, the dialect of 3.0 does not; without them a schema accepts more, never less.
_LEFT_OUT: Final = frozenset(
    {"$schema", "$id", "$comment", "propertyNames", "contentMediaType", "unevaluatedProperties"}
)
# Below these, names are data and no keywords.
_NAMED: Final = frozenset({"properties", "schemas", "responses", "headers", "content", "paths"})


def downgraded(document: dict[str, Any]) -> dict[str, Any]:
    """``document`` (3.1) as 3.0.3. Pure: the given one stays as it is."""
    found: dict[str, Any] = _walked(document)
    found["openapi"] = VERSION
    found.pop("jsonSchemaDialect", None)
    found.pop("webhooks", None)
    return found


def _walked(value: Any, named: bool = False) -> Any:
    if isinstance(value, list):
        return [_walked(one) for one in value]
    if not isinstance(value, dict):
        return value
    if named:
        return {key: _walked(one) for key, one in value.items()}
    found = {
        key: _walked(one, named=key in _NAMED) for key, one in value.items() if key not in _LEFT_OUT
    }
    if "$ref" in found and len(found) > 1 and _is_schema(found):
        # 3.0 overlooks whatever stands beside a reference.
        found["allOf"] = [{"$ref": found.pop("$ref")}]
    return _keywords(found)


def _is_schema(value: dict[str, Any]) -> bool:
    return bool(value.keys() & {"description", "default", "title", "nullable"})


def _keywords(found: dict[str, Any]) -> dict[str, Any]:
    if "const" in found:
        found["enum"] = [found.pop("const")]
    if isinstance(found.get("examples"), list):
        examples = found.pop("examples")
        if examples:
            found["example"] = examples[0]
    for bound, inclusive in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(found.get(bound), int | float) and not isinstance(found[bound], bool):
            found[inclusive], found[bound] = found[bound], True
    if "prefixItems" in found:
        kinds = found.pop("prefixItems")
        found["items"] = kinds[0] if all(one == kinds[0] for one in kinds) else {"anyOf": kinds}
        found.setdefault("minItems", len(kinds))
        found.setdefault("maxItems", len(kinds))
    if isinstance(found.get("items"), bool):
        found["items"] = {}
    kind = found.get("type")
    if isinstance(kind, list):
        plain = [one for one in kind if one != "null"]
        if len(plain) == 1:
            found["type"] = plain[0]
        else:
            found.pop("type")
            found["anyOf"] = [{"type": one} for one in plain]
        if len(plain) < len(kind):
            found["nullable"] = True
    for choice in ("anyOf", "oneOf"):
        _without_null(found, choice)
    return found


def _without_null(found: dict[str, Any], choice: str) -> None:
    """Null among alternatives is a property of its own in 3.0."""
    kinds = found.get(choice)
    if not isinstance(kinds, list) or {"type": "null"} not in kinds:
        return
    rest = [one for one in kinds if one != {"type": "null"}]
    found.pop(choice)
    if len(rest) == 1 and "$ref" not in rest[0]:
        found.update({key: one for key, one in rest[0].items() if key not in found})
    elif len(rest) == 1:
        found["allOf"] = rest
    else:
        found[choice] = rest
    found["nullable"] = True
