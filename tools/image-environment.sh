#!/bin/sh
# image-environment.sh LOCK: makes /opt/paritygate, an environment with what the lock says and without pip.
set -eu

python3 -m venv --without-pip /opt/paritygate
/opt/build/bin/pip --python /opt/paritygate/bin/python install --quiet --no-compile --require-hashes -r "$1"
# Bytecode is compiled here, since the root file system is read-only later; checked by hash and not by time, so that the
# same sources give the same bytes.
/opt/paritygate/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/paritygate/lib
