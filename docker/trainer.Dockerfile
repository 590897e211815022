# The trainer: `pba train` with everything it needs. From the top of the repository:
#
#   docker build -f docker/trainer.Dockerfile -t pba-trainer .
#   docker build -f docker/trainer.Dockerfile -t pba-trainer:cuda --build-arg ACCELERATOR=cuda .
#   install -d -o 10001 out    # the image's user writes there
#   docker run --rm -v "$PWD/data:/data:ro" -v "$PWD/out:/out" pba-trainer --data /data/links.parquet --output /out/model
#
# cpu installs the locked dependencies by hash; cuda adds TensorFlow's CUDA libraries, which the lock does not pin, and
# needs `docker run --gpus all`.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE} AS build
ARG ACCELERATOR=cpu
RUN python3 -m venv /opt/pba
COPY .ci/requirements-train.lock /src/.ci/
RUN /opt/pba/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /src/.ci/requirements-train.lock
RUN case "${ACCELERATOR}" in \
      cpu) ;; \
      cuda) version=$(/opt/pba/bin/python -c 'from importlib.metadata import version; print(version("tensorflow-cpu"))') && \
            /opt/pba/bin/pip uninstall --yes tensorflow-cpu && \
            /opt/pba/bin/pip install --no-cache-dir --disable-pip-version-check "tensorflow[and-cuda]==${version}" ;; \
      *) echo "ACCELERATOR is cpu or cuda, not ${ACCELERATOR}" >&2; exit 2 ;; \
    esac
COPY pyproject.toml README.md LICENSE /src/
COPY pba_service /src/pba_service
COPY pba_client /src/pba_client
COPY protos /src/protos
COPY models /src/models
RUN /opt/pba/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps /src

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin pba && mkdir /out && chown pba /out
COPY --from=build /opt/pba /opt/pba
ENV PATH=/opt/pba/bin:$PATH PYTHONUNBUFFERED=1 TF_CPP_MIN_LOG_LEVEL=2 ORT_DISABLE_TELEMETRY=1
USER 10001
WORKDIR /out
ENTRYPOINT ["pba", "train"]
