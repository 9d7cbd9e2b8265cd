#!/bin/sh
# image-environment.sh LOCK: makes /opt/paritygate, an environment with what the lock says and the wheel of ParityGate.
set -eu

python3 -m venv --without-pip /opt/paritygate
/opt/build/bin/pip --python /opt/paritygate/bin/python install --quiet --no-compile --require-hashes -r "$1"
/opt/build/bin/pip --python /opt/paritygate/bin/python install --quiet --no-compile --no-deps /wheels/*.whl
# Checked by hash and not by time, so that the same sources give the same bytes.
/opt/paritygate/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/paritygate/lib
