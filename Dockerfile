# syntax=docker/dockerfile:1.7
# One image for bridge, worker and reader; docker-compose.yml says which is which, and how
# each one's health is asked for.

FROM python:3.13.11-slim-bookworm AS base
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PATH=/opt/tapeline/bin:$PATH

# --- what runs, from hashed locks, wheels only -------------------------------------------------
FROM base AS build
WORKDIR /src
# For the fast lanes.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
# Dependencies first: a change of the code leaves this layer as it is.
COPY requirements/ requirements/
RUN python -m venv /opt/tapeline \
    && /opt/tapeline/bin/pip install --no-deps --only-binary :all: --require-hashes -r requirements/core.txt \
    && /usr/local/bin/pip install --no-deps --only-binary :all: --require-hashes -r requirements/build.txt
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY agents/ agents/
COPY lua/ lua/
COPY serving/ serving/
COPY streams/ streams/
COPY tables/ tables/
COPY tapeline/ tapeline/
RUN /usr/local/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/tapeline/bin/pip install --no-deps --no-index /wheels/*.whl

# --- the suite, for docker-compose.test.yml ----------------------------------------------------
FROM build AS test
RUN /opt/tapeline/bin/pip install --no-deps --only-binary :all: --require-hashes -r requirements/dev.txt
COPY . .
CMD ["python", "-m", "pytest"]

# --- the image ---------------------------------------------------------------------------------
FROM base AS runtime
RUN useradd --system --uid 10001 --home-dir /var/lib/tapeline --create-home tapeline
COPY --from=build /opt/tapeline /opt/tapeline
USER 10001
# Faust makes its data folder where it is started.
WORKDIR /var/lib/tapeline
EXPOSE 8080 9101 9102
CMD ["tapeline", "--help"]
