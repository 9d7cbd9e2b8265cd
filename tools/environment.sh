#!/bin/sh
# environment.sh FOLDER LOCK…: makes FOLDER a virtual environment that holds exactly what the locks say, and ParityGate
# itself, editable. Needs only Python ≥ 3.11 with venv. Run again, it repairs what is there.
#
# PYTHON: the interpreter to use; default: the first suitable one on the PATH.
set -eu

folder=$1
shift

suits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' 2>/dev/null
}

interpreter() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
        if suits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "ParityGate needs Python 3.11, 3.12, 3.13 or 3.14; tried: ${PYTHON:-python3, python3.14 … python3.11, python}." >&2
    echo "Install one of them, or name it: make setup PYTHON=/path/to/python3" >&2
    return 1
}

# An environment whose interpreter is gone, or that was left half made, is made anew.
if ! suits "$folder/bin/python" || ! "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
    found=$(interpreter)
    if ! "$found" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "$found has no venv module; on Debian and Ubuntu install the package python3-venv, then try again." >&2
        exit 1
    fi
    "$found" -m venv --clear "$folder"
fi
python="$folder/bin/python"

# uv reads neither pip's settings nor its certificates: an index that pip is told of serves uv as well.
if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then
    index=${PIP_INDEX_URL:-$("$python" -m pip config get global.index-url 2>/dev/null || true)}
    [ -z "$index" ] || export UV_DEFAULT_INDEX="$index"
fi
if [ -z "${SSL_CERT_FILE:-}" ] && [ -n "${PIP_CERT:-}" ]; then
    export SSL_CERT_FILE="$PIP_CERT"
fi
export UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-300}"

echo "Installing into $folder. The first time this takes a few minutes." >&2
"$python" -m pip install --quiet --no-user --disable-pip-version-check --require-hashes --requirement requirements/uv.txt
"$folder/bin/uv" pip sync --quiet --python "$python" --require-hashes "$@"
"$folder/bin/uv" pip install --quiet --python "$python" --no-deps --no-build-isolation --editable .
