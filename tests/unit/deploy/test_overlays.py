"""Overlays as kustomize builds them: names, references and selectors that fit together."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.support.imports import ROOT

K8S = ROOT / "deploy" / "k8s"
OVERLAYS = sorted(path.parent.name for path in K8S.glob("overlays/*/kustomization.yaml"))
PODS = {"Deployment", "StatefulSet", "Job"}
EXPECTED_SECRETS = {"tapeline", "tapeline-scrape"}

Manifest = dict[str, Any]


def kustomize() -> list[str] | None:
    """The program, or kubectl's copy of it; None where there is neither."""
    for command in (["kustomize", "build"], ["kubectl", "kustomize"]):
        if shutil.which(command[0]) is not None:
            return command
    return None


needs_kustomize = pytest.mark.skipif(
    kustomize() is None, reason="neither kustomize nor kubectl on this machine"
)


@cache
def built(overlay: str) -> tuple[Manifest, ...]:
    """All manifests of an overlay."""
    command = kustomize()
    assert command is not None
    done = subprocess.run(
        [*command, str(K8S / "overlays" / overlay)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "kustomize warns of what it will not do for ever"
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(overlay: str, *kinds: str) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in built(overlay) if one["kind"] in kinds}


def references(manifest: Manifest) -> tuple[set[str], set[str]]:
    """ConfigMaps and Secrets that a pod takes its variables from."""
    maps, secrets = set(), set()
    for container in manifest["spec"]["template"]["spec"]["containers"]:
        for source in container.get("envFrom", ()):
            maps |= {source["configMapRef"]["name"]} if "configMapRef" in source else set()
            secrets |= {source["secretRef"]["name"]} if "secretRef" in source else set()
    return maps, secrets


@needs_kustomize
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_settings_that_pods_take_are_there(overlay: str) -> None:
    maps, secrets = of_kind(overlay, "ConfigMap"), of_kind(overlay, "Secret")
    for name, pod in of_kind(overlay, *PODS).items():
        taken_maps, taken_secrets = references(pod)
        assert taken_maps <= maps.keys(), name
        assert taken_secrets <= secrets.keys() | EXPECTED_SECRETS, name


@needs_kustomize
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_is_in_one_namespace(overlay: str) -> None:
    namespaces = {
        one["metadata"].get("namespace") for one in built(overlay) if one["kind"] != "Namespace"
    }
    assert len(namespaces) == 1
    assert of_kind(overlay, "Namespace").keys() <= namespaces


@needs_kustomize
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_choose_the_pods_they_mean_and_no_others(overlay: str) -> None:
    workloads = of_kind(overlay, "Deployment", "StatefulSet")
    labels = {n: w["spec"]["template"]["metadata"]["labels"] for n, w in workloads.items()}
    for name, workload in workloads.items():
        chosen = [n for n, has in labels.items() if has.items() >= selector_of(workload).items()]
        assert chosen == [name]
    for name, one in of_kind(overlay, "Service", "PodDisruptionBudget").items():
        chosen = [n for n, has in labels.items() if has.items() >= selector_of(one).items()]
        assert chosen == [name]


def selector_of(manifest: Manifest) -> dict[str, str]:
    selector: dict[str, Any] = manifest["spec"]["selector"]
    found: dict[str, str] = selector.get("matchLabels", selector)
    return found


@needs_kustomize
def test_the_second_analytics_and_the_first_choose_different_pods() -> None:
    """They live in one namespace."""
    first, second = of_kind("production", "StatefulSet"), of_kind("parallel", "StatefulSet")
    [one], [other] = first.values(), second.values()
    assert one["metadata"]["namespace"] == other["metadata"]["namespace"]
    assert one["metadata"]["name"] != other["metadata"]["name"]
    template = other["spec"]["template"]["metadata"]["labels"]
    assert not template.items() >= selector_of(one).items()
    spread = other["spec"]["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"]
    assert template.items() >= spread["matchLabels"].items()
    [settings] = of_kind("parallel", "ConfigMap").values()
    assert settings["data"]["NT_APP_ID"] == "tapeline-nt"
    assert settings["data"]["NT_REPORT_SUFFIX"] == "nt"


@needs_kustomize
@pytest.mark.parametrize(
    ("overlay", "kind", "name", "replicas"),
    [
        ("production", "StatefulSet", "tapeline-worker", 3),
        ("production", "Deployment", "tapeline-bridge", 2),
        # Said by an autoscaler.
        ("production", "Deployment", "tapeline-reader", None),
        ("keda", "StatefulSet", "tapeline-worker", None),
        ("dev", "StatefulSet", "tapeline-worker", 1),
    ],
)
def test_how_many_there_are(overlay: str, kind: str, name: str, replicas: int | None) -> None:
    assert of_kind(overlay, kind)[name]["spec"].get("replicas") == replicas


@needs_kustomize
def test_production_is_watched_and_scaled() -> None:
    kinds = {one["kind"] for one in built("production")}
    assert {"ServiceMonitor", "PrometheusRule", "HorizontalPodAutoscaler", "NetworkPolicy"} <= kinds
    assert "ScaledObject" in {one["kind"] for one in built("keda")}
    # Jobs of the rules are named by the services.
    services = of_kind("production", "Service")
    assert services.keys() == {"tapeline-worker", "tapeline-bridge", "tapeline-reader"}


@needs_kustomize
def test_nobody_reaches_readers_that_ask_for_no_key() -> None:
    """Two policies let somebody in: this one, and the one of probes."""
    policies = of_kind("dev", "NetworkPolicy")
    assert policies["tapeline-readers"]["spec"]["ingress"] == []


def prometheus_rule() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prometheus_rule", K8S / "prometheus_rule.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_operators_rules_are_those_of_prometheus() -> None:
    made = prometheus_rule()
    if not Path(made.RULES).exists():
        pytest.skip("no deploy/prometheus/rules.yml in this checkout")
    assert made.render(made.RULES.read_text()) == made.TARGET.read_text(), "make docs"


def test_a_rule_is_wrapped_as_it_is() -> None:
    rules = """\
groups:
  - name: tapeline
    rules:
      - alert: ProducerDown
        expr: up == 0 or absent(nt_node_heartbeat)
        for: 30s
        annotations: {summary: 'Worker {{ $labels.instance }} is down'}
"""
    manifest = yaml.safe_load(prometheus_rule().render(rules))
    assert manifest["kind"] == "PrometheusRule"
    assert manifest["spec"] == yaml.safe_load(rules)
