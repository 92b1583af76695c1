# A node that runs the agents in /agents:
#
#   docker build -t pyre .
#   docker run -v ./agents:/agents:ro pyre
#   docker exec CONTAINER bin/pyre ctl status
#
# Python packages that the agents need: named in rel/packages.txt at build time, or, without a build, put into a directory by
# `pip install --target packages ...` with the same Python, and mounted: -v ./packages:/packages:ro
#
# Both stages start from the same image: what the release links to, and the Python that its packages are for, are those of the build.
ARG BASE=debian:bookworm-slim

# hadolint ignore=DL3006
FROM ${BASE} AS build
# The versions are those of the base image's release of Debian.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates elixir gcc libc6-dev python3-dev python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/*
ENV LANG=C.UTF-8 MIX_ENV=prod PYRE_PYTHON=/usr/bin/python3
WORKDIR /pyre

# Before the sources: they change more often.
COPY rel/packages.txt rel/
RUN /usr/bin/python3 -m pip install --no-cache-dir --target /packages -r rel/packages.txt && mkdir -p /packages

COPY mix.exs ./
COPY config config
COPY rel rel
COPY priv priv
COPY c_src c_src
COPY lib lib
RUN mix release --path /pyre/release

# hadolint ignore=DL3006
FROM ${BASE}
# What the BEAM in the release links to, the interpreter, and an init: as process 1 the BEAM would collect no orphans.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        libncurses6 libssl3 libstdc++6 python3 tini zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --no-create-home --shell /usr/sbin/nologin pyre \
    && mkdir -p /agents /run/pyre \
    && chown pyre /run/pyre \
    && chmod 700 /run/pyre
ENV LANG=C.UTF-8 PYRE_AGENTS=/agents PYRE_CONTROL=/run/pyre/control PYRE_PYTHON=/usr/bin/python3 PYTHONPATH=/packages
WORKDIR /pyre
COPY --from=build /packages /packages
COPY --from=build /pyre/release ./
USER 1000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["bin/pyre", "ctl", "health"]
# SIGTERM drains. Docker kills after 10 s, which is above the default drain_timeout of 5 s.
ENTRYPOINT ["tini", "--", "bin/pyre"]
CMD ["start"]
