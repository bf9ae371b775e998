# syntax=docker/dockerfile:1.7
# One image for bridge, worker and reader: the command says which, as docker-compose.yml and
# deploy/k8s do. It runs with a read-only root and writes nothing, but for a bridge that records.

FROM ghcr.io/astral-sh/uv:0.11.7 AS uv

FROM python:3.13.11-slim-bookworm AS base
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PATH=/opt/tapeline/bin:$PATH

# --- what runs, from hashed locks, wheels only -------------------------------------------------
FROM base AS build
COPY --from=uv /uv /usr/local/bin/uv
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_PYTHON_DOWNLOADS=never
WORKDIR /src
# For the fast lanes.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
# Dependencies first: a change of the code leaves this layer as it is. What builds is not in what runs.
COPY requirements/ requirements/
RUN uv venv --no-project --python /usr/local/bin/python /opt/tapeline \
    && uv pip install --python /opt/tapeline --no-deps --only-binary :all: --require-hashes -r requirements/core.txt \
    && uv venv --no-project --python /usr/local/bin/python /opt/build \
    && uv pip install --python /opt/build --no-deps --only-binary :all: --require-hashes -r requirements/build.txt
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY agents/ agents/
COPY lua/ lua/
COPY serving/ serving/
COPY streams/ streams/
COPY tables/ tables/
COPY tapeline/ tapeline/
RUN uv build --wheel --no-build-isolation --python /opt/build --out-dir /wheels . \
    && uv pip install --python /opt/tapeline --no-deps --no-index /wheels/*.whl

# --- the suite, for docker-compose.test.yml ----------------------------------------------------
FROM build AS test
RUN uv pip install --python /opt/tapeline --no-deps --only-binary :all: --require-hashes -r requirements/dev.txt
COPY . .
CMD ["python", "-m", "pytest"]

# --- the image ---------------------------------------------------------------------------------
FROM base AS runtime
RUN useradd --system --uid 10001 --home-dir /var/lib/tapeline --create-home tapeline
COPY --from=build /opt/tapeline /opt/tapeline
USER 10001
# For NT_RECORD_DIR, on a volume.
WORKDIR /var/lib/tapeline
EXPOSE 8080 9101 9102
# Which of the three it is, its command says. Kubernetes has probes of its own.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=12 \
    CMD ["python", "-m", "tapeline.healthcheck"]
CMD ["tapeline", "--help"]
