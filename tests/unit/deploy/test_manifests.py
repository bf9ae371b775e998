"""What manifests, units and compose files name is there: settings, ports, paths, commands, files.

Nothing is started. Files that are read as text or YAML, and held against `Settings`, the command
line and the checkout.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from serving.access.needs import PATHS
from tapeline.cli import app
from tapeline.config import Settings, load_settings, variable_name
from tapeline.healthcheck import ROLES
from tests.support.imports import ROOT
from tests.support.units import SYSTEMD, env_file, environment, services, unit_lines, value_of

DEPLOY = ROOT / "deploy"
K8S = DEPLOY / "k8s"

KNOWN = {variable_name(name): name for name in Settings.model_fields}
DEFAULTS = {name: Settings.model_fields[setting].default for name, setting in KNOWN.items()}

ENOUGH = {
    "KAFKA_URL": "kafka://k:9092",
    "REDIS_URL": "redis://r:6379/0",
    "SYMBOLS": "binance:BTCUSDT",
}
FIELDS = {"metadata.name": "tapeline-worker-0", "status.podIP": "10.1.2.3"}


# --- what runs where -----------------------------------------------------------------------------


@dataclass
class Started:
    """One process of ours that a file starts.

    Attributes:
        where: For a failure's message.
        command: Program and arguments.
        environ: Variables that it is given; those of files included.
        ports: Ports that the file says it listens on.
    """

    where: str
    command: list[str]
    environ: dict[str, str]
    ports: list[int] = field(default_factory=list)

    @property
    def role(self) -> str:
        """Of `ROLES`; '' for one that listens nowhere."""
        return next((word for word in self.command if word in ROLES), "")

    @property
    def port(self) -> int:
        """Where its settings have it listen."""
        variable = ROLES[self.role][0]
        return int(self.environ.get(variable, DEFAULTS[variable]))


def documents(folder: Path = K8S) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every manifest with its file, kustomizations left out."""
    for path in sorted(folder.rglob("*.yaml")):
        if path.name != "kustomization.yaml":
            for document in yaml.safe_load_all(path.read_text()):
                yield path.relative_to(ROOT).as_posix(), document


def kustomizations() -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(K8S.rglob("kustomization.yaml")):
        yield path, yaml.safe_load(path.read_text())


def ours(container: Mapping[str, Any]) -> bool:
    return str(container["image"]).split(":")[0] == "tapeline"


def in_kubernetes() -> Iterator[Started]:
    settings = env_file(K8S / "base" / "settings" / "tapeline.env")
    for where, document in documents():
        template = document.get("spec", {}).get("template")
        for container in template["spec"]["containers"] if template else ():
            if ours(container):
                own = {
                    one["name"]: one["value"]
                    if "value" in one
                    else FIELDS[one["valueFrom"]["fieldRef"]["fieldPath"]]
                    for one in container.get("env", ())
                }
                ports = [port["containerPort"] for port in container.get("ports", ())]
                yield Started(where, container["command"], {**settings, **own}, ports)


def compose() -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded["services"]


def in_compose() -> Iterator[Started]:
    for name, service in compose().items():
        if "tapeline:" in service["image"]:
            given = {key: str(value) for key, value in service["environment"].items()}
            given = {key: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for key, value in given.items()}
            ports = [int(port.rpartition(":")[2]) for port in service.get("ports", ())]
            yield Started(f"docker-compose.yml: {name}", service["command"], given, ports)


def in_systemd() -> Iterator[Started]:
    for path in services():
        for key, value in unit_lines(path):
            if key == "ExecStart":
                program, *rest = value.split()
                environ = environment(path, "9103")
                yield Started(path.name, [Path(program).name, *rest], environ)


def everything() -> list[Started]:
    return [*in_kubernetes(), *in_compose(), *in_systemd()]


@pytest.mark.parametrize("started", everything(), ids=lambda one: one.where)
def test_its_variables_are_settings_and_their_values_are_taken(started: Started) -> None:
    unknown = started.environ.keys() - KNOWN.keys()
    assert {name for name in unknown if not name.startswith("PYTHON")} == set()
    given = {**ENOUGH, **{k: v for k, v in started.environ.items() if k in KNOWN}}
    load_settings(given)


@pytest.mark.parametrize("started", everything(), ids=lambda one: one.where)
def test_its_command_is_one_that_there_is(started: Started) -> None:
    program, *rest = started.command
    if program == "faust":
        assert rest[:3] == ["-A", "agents", "worker"]
        assert (ROOT / "agents" / "__init__.py").exists()
        return
    assert program == "tapeline"
    found: Any = get_command(app)
    for word in rest:
        found = found.get_command(None, word)
        assert found is not None, word


@pytest.mark.parametrize(
    "started", [one for one in everything() if one.ports], ids=lambda one: one.where
)
def test_it_listens_where_the_file_says(started: Started) -> None:
    assert started.ports == [started.port]


def test_every_kind_of_process_is_everywhere() -> None:
    """Or the checks above have looked past something."""
    for found in (in_kubernetes(), in_compose(), in_systemd()):
        assert {one.role for one in found} == {*ROLES, ""}


def test_names_of_processes_differ() -> None:
    for found in (in_compose(), in_systemd()):
        names = [one.environ.get("NT_NODE_ID") for one in found if one.role in {"worker", "bridge"}]
        assert None not in names
        assert len(set(names)) == len(names)


def test_generated_and_overlaid_settings_are_settings() -> None:
    for path, kustomization in kustomizations():
        generated = [
            literal.partition("=")
            for kind in ("configMapGenerator", "secretGenerator")
            for one in kustomization.get(kind, ())
            for literal in one.get("literals", ())
        ]
        values = {name: value for name, _, value in generated}
        assert values.keys() <= KNOWN.keys(), path
        load_settings({**ENOUGH, **{k: v for k, v in values.items() if k in KNOWN}})


# --- probes and ports of Kubernetes --------------------------------------------------------------


def probe_paths() -> dict[str, set[str]]:
    """Paths that answer, by role."""
    served = set(re.findall(r'add_get\("(/\w+)"', (ROOT / "tapeline/http_probe.py").read_text()))
    return {"worker": served, "bridge": served, "serve": set(PATHS)}


def containers() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for where, document in documents():
        template = document.get("spec", {}).get("template")
        for container in template["spec"]["containers"] if template else ():
            yield where, template["spec"], container


def test_probes_ask_paths_and_ports_that_there_are() -> None:
    paths = probe_paths()
    assert "/live" in paths["worker"], "the pattern no longer finds anything"
    asked = 0
    for where, _, container in containers():
        named = {port["name"] for port in container.get("ports", ())}
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = container.get(kind, {})
            how = probe.get("httpGet") or probe.get("tcpSocket")
            if how is None:
                continue
            assert how["port"] in named, (where, kind)
            if ours(container):
                asked += 1
                role = next(word for word in container["command"] if word in ROLES)
                assert how["path"] in paths[role], (where, kind)
                assert how["path"] == ("/ready" if kind == "readinessProbe" else "/live")
    assert asked == 9


def test_ports_of_services_lead_to_containers() -> None:
    ports: dict[str, set[str]] = {}
    for _, document in documents():
        template = document.get("spec", {}).get("template")
        if template:
            labels = template["metadata"]["labels"]
            key = labels.get("app.kubernetes.io/component") or labels["app.kubernetes.io/name"]
            for container in template["spec"]["containers"]:
                ports.setdefault(key, set()).update(
                    port["name"] for port in container.get("ports", ())
                )
    for where, document in documents():
        if document["kind"] == "Service":
            selector = document["spec"]["selector"]
            key = selector.get("app.kubernetes.io/component") or selector["app.kubernetes.io/name"]
            for port in document["spec"]["ports"]:
                assert port["targetPort"] in ports[key], where
                assert port["name"] == port["targetPort"], where
        if document["kind"] == "ServiceMonitor":
            key = document["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
            for endpoint in document["spec"]["endpoints"]:
                assert endpoint["port"] in ports[key], where
                assert endpoint["interval"] == "30s", where


def test_the_network_policy_lets_through_what_is_listened_on() -> None:
    named = {port["name"] for _, _, c in containers() for port in c.get("ports", ())}
    listened = {int(default) for _, default in ROLES.values()}
    stores = {9092, 6379}
    for where, document in documents():
        if document["kind"] == "NetworkPolicy":
            rules = [*document["spec"].get("ingress", ()), *document["spec"].get("egress", ())]
            for port in (port["port"] for rule in rules for port in rule["ports"]):
                known = named if isinstance(port, str) else listened | stores | {53, 443}
                assert port in known, where
    reached = [
        int(re.findall(r":(\d+)", value)[-1])
        for name, value in env_file(K8S / "base" / "settings" / "tapeline.env").items()
        if name == "KAFKA_URL"
    ]
    assert set(reached) <= stores


def test_pods_meet_the_restricted_standard() -> None:
    for where, pod, container in containers():
        assert pod["automountServiceAccountToken"] is False, where
        assert pod["enableServiceLinks"] is False, where
        assert pod["securityContext"]["runAsNonRoot"] is True, where
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert container["securityContext"]["allowPrivilegeEscalation"] is False, where
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, where
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}, where
        assert "memory" in container["resources"]["limits"], where
        if ours(container):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, where


def test_pods_have_time_to_hand_over() -> None:
    """More than compose's 20 s, and more than the steps of a stop take together."""
    for where, pod, container in containers():
        if ours(container) and container.get("ports"):
            assert pod["terminationGracePeriodSeconds"] >= 20, where


def test_images_of_manifests_are_pinned() -> None:
    for where, _, container in containers():
        if not ours(container):
            assert re.search(r":v?\d", container["image"]), where
    tags = {
        image["newTag"]
        for _, kustomization in kustomizations()
        for image in kustomization.get("images", ())
    }
    [version] = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert tags == {version}


# --- the image and compose -----------------------------------------------------------------------


def test_the_image_exposes_the_ports_of_the_settings() -> None:
    [exposed] = re.findall(r"^EXPOSE (.*)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert set(map(int, exposed.split())) == {default for _, default in ROLES.values()}


def test_what_the_image_is_made_of_is_there() -> None:
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for path in line.split()[1:-1]:
                assert (ROOT / path).exists(), path


def test_what_compose_mounts_is_there() -> None:
    volumes = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["volumes"].keys()
    for name, service in compose().items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if not source.startswith("./"):
                assert source in volumes, (name, source)
            elif (ROOT / source).parent.is_dir():
                assert (ROOT / source).exists(), (name, source)


def test_prometheus_of_compose_finds_its_targets_and_calls_them_what_rules_do() -> None:
    config = yaml.safe_load((DEPLOY / "compose" / "prometheus.yml").read_text())
    listening = {
        one.where.removeprefix("docker-compose.yml: "): one.port for one in in_compose() if one.role
    }
    jobs = {}
    for job in config["scrape_configs"]:
        targets = [t for one in job["static_configs"] for t in one["targets"]]
        for one in job.get("dns_sd_configs", ()):
            targets += [f"{name}:{one['port']}" for name in one["names"]]
        for target in targets:
            host, _, port = target.partition(":")
            assert listening.pop(host) == int(port), target
        jobs[job["job_name"]] = targets
    assert jobs.keys() == {"tapeline-worker", "tapeline-bridge", "tapeline-reader"}
    assert listening == {"worker-parallel": 9101}, "what is only tried out raises no alert"


# --- systemd -------------------------------------------------------------------------------------


def test_units_read_files_that_the_installer_writes() -> None:
    installer = (SYSTEMD / "install.sh").read_text()
    for path in sorted((SYSTEMD / "units").rglob("*.conf")):
        for key, value in unit_lines(path):
            if key == "EnvironmentFile":
                name = Path(value).name
                assert "%N" in name or f'"$etc/{name}"' in installer, value


def test_paths_of_units_are_those_of_the_installer() -> None:
    for path in services():
        for key, value in unit_lines(path):
            if key == "ExecStart":
                assert value.startswith("/opt/tapeline/current/bin/"), path.name
    installer = (SYSTEMD / "install.sh").read_text()
    assert "opt=$root/opt/tapeline\n" in installer
    assert '"$opt/current"' in installer
    for name in re.findall(r'"\$here/([\w./-]+)"', installer):
        assert (SYSTEMD / name).exists(), name
    for name in re.findall(r'\$checkout/([\w./-]+)"', installer):
        assert (ROOT / name).exists(), name


def test_units_of_the_target_start_and_stop_with_it() -> None:
    for path in services():
        lines = unit_lines(path)
        assert ("PartOf", "tapeline.target") in lines, path.name
        assert ("WantedBy", "tapeline.target") in lines, path.name


def test_units_give_a_stop_the_time_that_it_takes() -> None:
    """The longest steps of a stop, by the code, and some seconds more."""
    steps = {
        "tapeline-worker@.service": [("agents/ownership.py", "HAND_OVER_S"), ("agents/kafka_app.py", "KEEP_S")],
        "tapeline-bridge.service": [("streams/bridge.py", "FLUSH_S"), ("streams/bridge.py", "LETTERS_S"), ("streams/feed_lease.py", "RELEASE_S")],
    }  # fmt: skip
    for name, constants in steps.items():
        needed = sum(constant(*where) for where in constants)
        assert float(value_of(SYSTEMD / "units" / name, "TimeoutStopSec")) >= needed + 5, name


def constant(path: str, name: str) -> float:
    """A module's number, without importing it."""
    for node in ast.parse((ROOT / path).read_text()).body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=found), value=ast.Constant(value=value)):
                if found == name:
                    return float(value)  # type: ignore[arg-type]
    raise AssertionError(f"{path} has no {name}")


def test_secrets_are_in_no_file_that_everybody_reads() -> None:
    assert "REDIS_URL" not in env_file(SYSTEMD / "tapeline.env")
    assert 'install -m 0600 "$here/secrets.env"' in (SYSTEMD / "install.sh").read_text()
    assert "REDIS_URL" not in env_file(K8S / "base" / "settings" / "tapeline.env")


def test_one_kafka_of_systemd_is_where_the_settings_look() -> None:
    properties = env_file(SYSTEMD / "kafka" / "server.properties")
    url = env_file(SYSTEMD / "tapeline.env")["KAFKA_URL"]
    assert properties["advertised.listeners"] == f"PLAINTEXT://{url.removeprefix('kafka://')}"
    service = dict(unit_lines(SYSTEMD / "kafka" / "kafka.service"))
    assert service["ExecStart"].endswith("kafka.Kafka /etc/kafka/server.properties")
    assert properties["log.dirs"].startswith(f"/var/lib/{service['StateDirectory']}/")
