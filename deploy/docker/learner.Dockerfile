# A learner. Built from the repository's root:
#
#   docker build -f deploy/docker/learner.Dockerfile -t wiserl-learner .
#   docker build -f deploy/docker/learner.Dockerfile -t wiserl-learner:cuda --build-arg DEVICE=cuda .
#
# Torch comes from the wheelhouse folder where it lies there (`pip download --no-deps --dest
# deploy/docker/wheelhouse torch==2.13.0`); else from PyTorch's CPU index, or, for CUDA, from PyPI.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS dependencies
WORKDIR /build
RUN python -m venv /opt/wiserl
COPY deploy/docker/learner.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/wiserl/bin/pip install --no-deps --require-hashes --only-binary :all: --no-compile \
      --requirement learner.lock
ARG DEVICE=cpu
ARG TORCH=2.13.0
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=deploy/docker/wheelhouse,target=/wheelhouse \
    case "${DEVICE}" in \
      cpu) if ls /wheelhouse/torch-*.whl >/dev/null 2>&1; then set -- --no-index --find-links /wheelhouse; \
           else set -- --index-url https://download.pytorch.org/whl/cpu; fi; \
           /opt/wiserl/bin/pip install --no-deps --no-compile "$@" "torch==${TORCH}" ;; \
      cuda) /opt/wiserl/bin/pip install --no-compile "torch==${TORCH}" ;; \
      *) echo "DEVICE is ${DEVICE}; it is cpu or cuda" >&2; exit 2 ;; \
    esac

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
# Nobody installs anything later, or compiles against torch, which imports tests of its own.
RUN /opt/wiserl/bin/pip uninstall --yes --quiet pip && \
    rm -rf /opt/wiserl/lib/python3*/site-packages/torch/include && \
    find /opt/wiserl -type d -name tests -not -path '*/torch/*' -prune -exec rm -r {} +

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="wiserl-learner" \
      org.opencontainers.image.description="Trains on what WiseRL samplers push" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 wiserl && \
    useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin wiserl && \
    install -d -o 10001 -g 10001 -m 0700 /credentials /credentials/authority /credentials/learner \
      /credentials/sampler /credentials/viewer && \
    install -d -o 10001 -g 10001 /runs
COPY --from=lean /opt/wiserl /opt/wiserl
COPY --from=own /own /opt/wiserl
ENV PATH=/opt/wiserl/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    WISERL_CACHE=/runs/.cache \
    WISERL_RUNS=/runs \
    WISERL_HOST=0.0.0.0 \
    WISERL_STATUS_HOST=0.0.0.0 \
    WISERL_STATUS_PORT=9464
USER 10001:10001
WORKDIR /tmp
VOLUME /runs
EXPOSE 5555 9464
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-m", "common.probe", "readyz"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["wiserl", "learner"]
CMD ["ppo"]
