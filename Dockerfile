# The image of every Agent Mail process: `serve` unless told otherwise. It writes below /data and /tmp only, so that its
# root file system may be read-only. tests/deploy runs each command below outside an image, with the paths replaced.

FROM python:3.13-slim-bookworm AS build

# The locked packages first, by hash: they change less often than this tree.
WORKDIR /src
COPY requirements/runtime.txt requirements/build.txt requirements/
RUN python -m venv --without-pip /opt/agent-mail \
 && python -m venv /opt/build \
 && /opt/build/bin/python -m pip --no-cache-dir --disable-pip-version-check install --require-hashes --requirement requirements/build.txt \
 && /opt/build/bin/python -m pip --no-cache-dir --disable-pip-version-check --python /opt/agent-mail/bin/python \
      install --require-hashes --only-binary :all: --requirement requirements/runtime.txt

COPY pyproject.toml README.md LICENSE ./
COPY libs libs
COPY services services
COPY migrations migrations
RUN /opt/build/bin/python -m pip --no-cache-dir --disable-pip-version-check \
      wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && /opt/build/bin/python -m pip --no-cache-dir --disable-pip-version-check --python /opt/agent-mail/bin/python \
      install --no-deps dist/*.whl


FROM python:3.13-slim-bookworm

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Agent Mail" \
      org.opencontainers.image.description="Mail, threads, search and leases for teams of coding agents, over MCP and REST" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# A fixed number, so that a volume's owner stays the same from image to image.
RUN groupadd --gid 10001 agent-mail \
 && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin agent-mail \
 && install --directory --owner 10001 --group 10001 --mode 0700 /data

COPY --from=build /opt/agent-mail /opt/agent-mail

ENV PATH=/opt/agent-mail/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    DATABASE_URL=sqlite:////data/mcp_agent_mail.db

WORKDIR /data
USER 10001:10001
EXPOSE 8765
STOPSIGNAL SIGTERM

# Whether the process answers; /ready also asks the database, which restarting this container would not bring back.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 8765), timeout=4); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]

ENTRYPOINT ["agent-mail"]
CMD ["serve"]
