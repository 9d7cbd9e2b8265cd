#!/bin/sh
# image-package.sh: makes /package, with what ParityGate itself adds to the environment /opt/paritygate.
set -eu

python3 -m venv --without-pip /opt/paritygate
/opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels .
/opt/build/bin/pip --python /opt/paritygate/bin/python install --quiet --no-compile --no-deps --root /package /wheels/*.whl
# As in image-environment.sh; tracebacks name the place that files have later.
/opt/paritygate/bin/python -m compileall -q --invalidation-mode unchecked-hash -s /package /package/opt/paritygate/lib
