"""The schemas that manifests are held against: nothing is let through that the cluster would drop."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import jsonschema
import pytest

from tests.support.imports import ROOT


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "deploy" / "k8s" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DEFINITION = {
    "kind": "CustomResourceDefinition",
    "spec": {
        "group": "example.com",
        "names": {"kind": "Thing"},
        "versions": [
            {
                "name": "v1",
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "metadata": {"type": "object"},
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "port": {"x-kubernetes-int-or-string": True, "anyOf": []},
                                    "free": {
                                        "type": "object",
                                        "properties": {"a": {"type": "string"}},
                                        "x-kubernetes-preserve-unknown-fields": True,
                                    },
                                },
                            },
                        },
                    }
                },
            }
        ],
    },
}


def test_a_kind_of_an_operator_has_the_name_that_kubeconform_looks_for() -> None:
    [(name, _)] = script("crd_schemas").schemas(DEFINITION)
    assert name == "thing-example-v1.json"


@pytest.mark.parametrize("spec", [{"port": 1}, {"port": "http"}, {"free": {"a": "x", "b": 1}}])
def test_what_a_kind_has_is_taken(spec: object) -> None:
    [(_, schema)] = script("crd_schemas").schemas(DEFINITION)
    jsonschema.validate({"metadata": {"name": "x"}, "spec": spec}, schema)


@pytest.mark.parametrize("spec", [{"ports": 1}, {"port": 1.5}, {"free": {"a": 1}}])
def test_what_it_does_not_have_is_refused(spec: object) -> None:
    [(_, schema)] = script("crd_schemas").schemas(DEFINITION)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"spec": spec}, schema)


def test_a_kind_of_kubernetes_carries_its_parts_and_theirs() -> None:
    """One that uses itself, too."""
    parts = {
        "a": {"properties": {"b": {"$ref": "#/$defs/b"}}, "additionalProperties": False},
        "b": {"properties": {"b": {"$ref": "#/$defs/b"}, "n": {"type": "integer"}}},
        "never": {},
    }
    schema = {"$id": "x", "properties": {"spec": {"$ref": "/api/_definitions.json#/$defs/a"}}}
    whole = script("wheel_schemas").whole(schema, parts)
    assert whole["$defs"].keys() == {"a", "b"}
    jsonschema.validate({"spec": {"b": {"b": {"n": 1}}}}, whole)
    for wrong in ({"c": 1}, {"b": {"b": {"n": "one"}}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"spec": wrong}, whole)
