"""Writes the PrometheusRule of `components/monitoring` out of ``deploy/prometheus/rules.yml``.

The rules are written once, for every Prometheus; an operator's cluster wants them wrapped.
``python deploy/k8s/prometheus_rule.py``; a test compares.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import yaml

HERE: Final = Path(__file__).resolve().parent
RULES: Final = HERE.parent / "prometheus" / "rules.yml"
TARGET: Final = HERE / "components" / "monitoring" / "prometheusrule.yaml"

_HEAD: Final = (
    "# Made from deploy/prometheus/rules.yml by deploy/k8s/prometheus_rule.py: change that.\n"
)


def render(rules: str) -> str:
    """The manifest.

    Args:
        rules: A Prometheus rule file.
    """
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "tapeline",
            "labels": {"app.kubernetes.io/name": "tapeline"},
        },
        "spec": {"groups": yaml.safe_load(rules)["groups"]},
    }
    return _HEAD + yaml.safe_dump(manifest, sort_keys=False, width=100, allow_unicode=True)


if __name__ == "__main__":
    if RULES.exists():
        TARGET.write_text(render(RULES.read_text()))
    else:
        sys.stderr.write(f"no {RULES}: {TARGET} is left as it is\n")
