# The service, small and without root. From the top of the repository (`make images` builds all images):
#
#   docker build -f docker/server.Dockerfile -t pba-server .
#   docker run -e PBA_INSECURE=true --read-only --tmpfs /tmp -v pba-data:/data -p 127.0.0.1:50051:50051 pba-server
#
# In a container the service listens for others: without certificates and known callers (docs/security.md) it wants to
# be told that this is meant.
# Traces go where OTEL_EXPORTER_OTLP_ENDPOINT says; without it there are none.
# Without PBA_REDIS_URL the embedded server keeps its data in /data. No compiler and no package manager of Python's are
# in the result; nothing is written outside /data and /tmp.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE} AS build
RUN python3 -m venv --without-pip /opt/pba && python3 -m venv /opt/build
COPY .ci/requirements-server.lock /src/.ci/
RUN /opt/build/bin/pip --python /opt/pba/bin/python install --no-cache-dir --disable-pip-version-check --no-compile \
      --require-hashes -r /src/.ci/requirements-server.lock
COPY pyproject.toml README.md LICENSE /src/
COPY pba_service /src/pba_service
COPY pba_client /src/pba_client
COPY protos /src/protos
COPY models /src/models
RUN /opt/build/bin/pip --python /opt/pba/bin/python install --no-cache-dir --disable-pip-version-check --no-compile --no-deps /src
# what serving never opens: the wheels' own tests, headers and type stubs; then bytecode, since the root is read-only
RUN site=$(echo /opt/pba/lib/python3*/site-packages) && \
    find "$site" -type d \( -name tests -o -name test -o -name include \) -prune -exec rm -rf {} + && \
    find "$site" -type f \( -name '*.pyi' -o -name '*.pxd' -o -name '*.h' \) -delete && \
    rm -rf "$site"/pyarrow/src "$site"/pyarrow/libarrow_flight* "$site"/pyarrow/_flight* "$site"/pyarrow/libarrow_s3* \
      "$site"/pyarrow/_s3fs* "$site"/numpy/f2py "$site"/onnxruntime/tools "$site"/onnxruntime/transformers && \
    /opt/pba/bin/python -m compileall -q "$site" && \
    /opt/pba/bin/python -c 'import pyarrow.csv, pyarrow.parquet, onnxruntime, opentelemetry.sdk.trace, pba_service.app'

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin pba && mkdir /data && chown pba /data
COPY --from=build /opt/pba /opt/pba
ENV PATH=/opt/pba/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1 \
    PBA_DATA_DIR=/data PBA_GRPC_HOST=0.0.0.0 PBA_METRICS_HOST=0.0.0.0 PBA_LOG_FORMAT=json
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["pba", "health"]
ENTRYPOINT ["pba"]
CMD ["serve"]
