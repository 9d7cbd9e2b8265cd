# The images of ParityGate, by target:
#   operator  the control side: no numpy, no framework
#   server    serves a candidate, when it is judged and when it serves: no framework
#   worker    the stages of Jobs; which frameworks it holds is for WORKER to say: tabular, torch
#
#   docker build --target operator -t paritygate/operator .
#   docker build --target worker --build-arg WORKER=torch -t paritygate/worker:torch .
#
# BASE is any image with Python 3.11 to 3.14 and its venv module, for instance a hardened one of your own. RUNTIME, on
# which the images stand, may hold less: the same Python in the same place, without venv and without a shell.
# docs/reference/images.md says more.
ARG BASE=python:3.11-slim-bookworm
ARG RUNTIME=${BASE}
ARG WORKER=tabular

# All that runs while building stays behind, with whatever it was told to reach its package index.
FROM ${BASE} AS tools
ARG PIP_INDEX_URL
WORKDIR /source
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/build.txt requirements/
RUN python3 -m venv /opt/build && /opt/build/bin/pip install --quiet --require-hashes -r requirements/build.txt
COPY tools/image-environment.sh tools/

FROM tools AS operator-environment
COPY requirements/operator.txt requirements/
RUN tools/image-environment.sh requirements/operator.txt

FROM tools AS server-environment
COPY requirements/server.txt requirements/
RUN tools/image-environment.sh requirements/server.txt

FROM tools AS worker-environment
ARG WORKER
COPY requirements/worker-${WORKER}.txt requirements/
RUN tools/image-environment.sh requirements/worker-${WORKER}.txt

# ParityGate itself is a layer of its own, and the last: a change of it moves two megabytes and leaves the environments alone.
FROM tools AS package
COPY tools/image-package.sh tools/
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN tools/image-package.sh

FROM ${RUNTIME} AS bare
ENV PATH=/opt/paritygate/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp PYTHONUNBUFFERED=1
LABEL org.opencontainers.image.title=ParityGate org.opencontainers.image.licenses=Apache-2.0
WORKDIR /tmp
USER 65532:65532

FROM bare AS server
COPY --from=server-environment /opt/paritygate /opt/paritygate
COPY --from=package /package/opt/paritygate /opt/paritygate
ENTRYPOINT []
CMD ["python", "-m", "paritygate.server", "--help"]

FROM bare AS worker
COPY --from=worker-environment /opt/paritygate /opt/paritygate
COPY --from=package /package/opt/paritygate /opt/paritygate
ENTRYPOINT []
CMD ["python", "-m", "paritygate.worker", "--help"]

FROM bare AS operator
COPY --from=operator-environment /opt/paritygate /opt/paritygate
COPY --from=package /package/opt/paritygate /opt/paritygate
ENTRYPOINT []
CMD ["paritygate", "operator", "--help"]
