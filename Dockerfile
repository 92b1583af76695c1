# A node that runs the agents in /agents:
#
#   docker build -t pyre .
#   docker run -v ./agents:/agents:ro pyre
#
# Build and run stage start from the same image, since the virtual environment and the BEAM use its libraries.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates elixir python3-venv \
    && rm -rf /var/lib/apt/lists/*
ENV LANG=C.UTF-8 MIX_ENV=prod
WORKDIR /pyre

# Before the sources: they change more often.
COPY priv/python/requirements.txt priv/python/
RUN python3 -m venv .venv && .venv/bin/python -m pip install --no-cache-dir -r priv/python/requirements.txt

COPY mix.exs ./
COPY config config
COPY rel rel
COPY priv priv
COPY lib lib
RUN mix release --path /pyre/release

FROM ${BASE}
# What the BEAM in the release links to, the interpreter, and an init: as process 1 the BEAM would collect no orphans.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        libncurses6 libssl3 libstdc++6 python3 tini zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --no-create-home --shell /usr/sbin/nologin pyre
ENV LANG=C.UTF-8 PYRE_AGENTS=/agents
WORKDIR /pyre
COPY --from=build /pyre/.venv .venv
COPY --from=build /pyre/release release
RUN mkdir /agents
USER pyre
# SIGTERM drains. Docker kills after 10 s, which is above the default drain_timeout of 5 s.
ENTRYPOINT ["tini", "--", "release/bin/pyre"]
CMD ["start"]
