# A sampler: environments and ONNX Runtime, no torch. Built from the repository's root:
#
#   docker build -f deploy/docker/sampler.Dockerfile -t wiserl-sampler .
#
# Further environments: --build-arg ENVIRONMENTS="ale-py==0.12.0 minatar", or an image FROM this one
# (deploy/docker/own-environment/).
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS dependencies
WORKDIR /build
RUN python -m venv /opt/wiserl
COPY deploy/docker/sampler.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/wiserl/bin/pip install --no-deps --require-hashes --only-binary :all: --no-compile \
      --requirement sampler.lock
ARG ENVIRONMENTS=""
RUN --mount=type=cache,target=/root/.cache/pip \
    if [ -n "${ENVIRONMENTS}" ]; then /opt/wiserl/bin/pip install --no-compile ${ENVIRONMENTS}; fi

# A layer of its own: what changes most often is smallest.
FROM dependencies AS own
COPY pyproject.toml README.md LICENSE ./
COPY protos protos
COPY common common
COPY learner learner
COPY sampler sampler
COPY wiserl wiserl
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/wiserl/bin/pip install --no-deps --no-compile --prefix /own .

FROM dependencies AS lean
# Nobody installs anything later, or runs the libraries' own tests.
RUN /opt/wiserl/bin/pip uninstall --yes --quiet setuptools pip && \
    find /opt/wiserl -type d \( -name tests -o -name include \) -prune -exec rm -r {} +

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="wiserl-sampler" \
      org.opencontainers.image.description="Rolls trajectories for a WiseRL learner" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 wiserl && \
    useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin wiserl && \
    install -d -o 10001 -g 10001 -m 0700 /credentials
COPY --from=lean /opt/wiserl /opt/wiserl
COPY --from=own /own /opt/wiserl
ENV PATH=/opt/wiserl/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    WISERL_STATUS_HOST=0.0.0.0 \
    WISERL_STATUS_PORT=9464
USER 10001:10001
WORKDIR /tmp
EXPOSE 9464
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-m", "common.probe", "readyz"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "sampler"]
