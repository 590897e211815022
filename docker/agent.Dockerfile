# The node's agent: pba_client and the five packages that it needs, without root. From the top of the repository:
#
#   docker build -f docker/agent.Dockerfile -t pba-agent .
#   docker run --network host --read-only -v /etc/pba:/etc/pba:ro -v pba-agent:/var/lib/pba-agent pba-agent
#
# It sees the transport's connections in the network namespace that it is in: hence the host's network.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE} AS build
RUN python3 -m venv --without-pip /opt/pba && python3 -m venv /opt/build
COPY .ci/requirements-run.lock /src/.ci/
# the same versions and hashes as everywhere, of these packages only
RUN awk '/^[a-zA-Z0-9_.-]+==/ { split($1, name, "=="); \
           keep = name[1] ~ /^(grpcio|grpcio-health-checking|googleapis-common-protos|protobuf|pyyaml|typing-extensions)$/ } \
         keep' /src/.ci/requirements-run.lock > /src/agent.lock && \
    /opt/build/bin/pip --python /opt/pba/bin/python install --no-cache-dir --disable-pip-version-check --no-compile \
      --require-hashes -r /src/agent.lock
COPY pba_client /src/pba_client
COPY protos/pba /src/pba
RUN site=$(echo /opt/pba/lib/python3*/site-packages) && cp -r /src/pba_client /src/pba "$site"/ && \
    find "$site" -type f \( -name '*.pyi' -o -name '*.pxd' -o -name '*.h' -o -name '*.proto' \) -delete && \
    /opt/pba/bin/python -m compileall -q "$site" && \
    /opt/pba/bin/python -m pba_client.agent run --help >/dev/null && \
    /opt/pba/bin/python -c 'import yaml, pba_client.agent'

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/pba-agent --shell /usr/sbin/nologin pba && \
    mkdir /var/lib/pba-agent && chown pba /var/lib/pba-agent
COPY --from=build /opt/pba /opt/pba
ENV PATH=/opt/pba/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /var/lib/pba-agent
VOLUME /var/lib/pba-agent
EXPOSE 8620/udp
STOPSIGNAL SIGTERM
ENTRYPOINT ["python3", "-m", "pba_client.agent"]
CMD ["run", "--config", "/etc/pba/agent.yaml"]
