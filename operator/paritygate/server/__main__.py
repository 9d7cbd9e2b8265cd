"""`python -m paritygate.server`: serves one candidate over the Open Inference Protocol.

`stand-by` imports what that takes and then waits to be told its arguments on standard input, as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from paritygate.api.digests import digest_of
from paritygate.server.errors import EXIT_USAGE, StartError, complain
from paritygate.server.identity import cpu_limit, identity

_MIB: Final = 1024 * 1024
_SERVING: Final = (
    "paritygate.server.lifecycle",
    "paritygate.server.logs",
    "paritygate.server.golden",
    "uvicorn.loops.auto",
)
"""What serving imports."""
_LAST_PORT: Final = 65_535


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise StartError(f"{message}; --help explains the options", EXIT_USAGE)


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until told to stop. Exit status: 0 stopped, 3 the model is at fault, 64 the command line is."""
    given = sys.argv[1:] if argv is None else list(argv)
    if given == ["stand-by"]:
        from paritygate.agent import standby  # noqa: PLC0415 - the identity does without

        standby.prepare(_SERVING)
        told = standby.told()
        return 0 if told is None else main(told)
    try:
        options = _options(given)
        threads = options.threads or cpu_limit()
        if options.identity:
            print(json.dumps(identity(threads), indent=2, sort_keys=True))  # noqa: T201 - what was asked for
            return 0
        if options.identity_digest:
            print(digest_of(identity(threads)))  # noqa: T201 - what was asked for
            return 0
        return _serve(options, threads)
    except StartError as error:
        complain(error.message, error.exit_status)
        return error.exit_status


def _serve(options: argparse.Namespace, threads: int) -> int:
    """Serves until told to stop. StartError: it cannot begin."""
    # Only here, as all of this takes a quarter of a second to import and the identity needs none of it.
    from paritygate.server import golden, lifecycle, logs, model  # noqa: PLC0415
    from paritygate.server.app import Limits  # noqa: PLC0415

    logs.configure()
    settings = lifecycle.Settings(
        host=options.host,
        port=options.port,
        threads=threads,
        drain_seconds=options.drain_seconds,
        body_seconds=options.body_seconds,
        limits=Limits(body=options.max_body * _MIB, queue=options.queue),
        access_log=options.access_log,
    )
    rows = golden.read(options.golden) if options.golden else None
    return lifecycle.run(model.find(options.model), rows, settings)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = _parser().parse_args(argv)
    if options.model is None and not (options.identity or options.identity_digest):
        raise StartError("--model is missing; give a candidate folder or an .onnx file", EXIT_USAGE)
    return options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="paritygate serve", description=main.__doc__)
    add = parser.add_argument
    add("--model", type=Path, metavar="PATH", help="candidate folder (candidate.json, model.onnx) or an .onnx file")
    add(
        "--golden",
        type=Path,
        metavar="FOLDER",
        help="verdict folder whose golden rows must be answered before readiness",
    )
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=_port, default=0, help="port to listen on, 0 = a free one (default: %(default)s)")
    add("--threads", type=_positive, help="threads of one inference, and inferences at once (default: the CPU limit)")
    add("--queue", type=_positive, default=256, help="requests that may wait (default: %(default)s)")
    add("--max-body", type=_positive, default=256, metavar="MIB", help="largest request (default: %(default)s MiB)")
    add("--body-seconds", type=_seconds, default=60.0, help="how long a body may take to arrive (default: %(default)s)")
    add("--drain-seconds", type=_seconds, default=5.0, help="how long to answer after SIGTERM (default: %(default)s)")
    add("--access-log", action="store_true", help="log every request")
    add("--identity", action="store_true", help="print versions and session options as JSON, and stop")
    add("--identity-digest", action="store_true", help="print the digest of --identity, and stop")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not ≥ 1")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= _LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text} is not a port from 0 to {_LAST_PORT}")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not (value >= 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds ≥ 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
