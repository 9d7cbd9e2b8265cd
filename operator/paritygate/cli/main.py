"""`paritygate`: arguments and exit statuses.

Exit status: 0 Passed, 1 Failed, 2 Inconclusive, 3 Error, 64 the command line or the manifest is wrong.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from paritygate import __version__
from paritygate.api.artifacts import StageName
from paritygate.cli import commands
from paritygate.errors import InvalidManifest, InvalidSettings, ParityGateError, UsageError

USAGE: Final = 64
ERROR: Final = 3
INTERRUPTED: Final = 130
_LAST_PORT: Final = 65_535


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}; `{self.prog} --help` explains the options")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status of the command."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] == ["serve"] and any(one.partition("=")[0] == "--model" for one in given):
            commands.become_server(given[1:])
        return commands.carry_out(parser().parse_args(given))
    except (InvalidManifest, InvalidSettings, UsageError) as error:
        sys.stderr.write(f"{error}\n")
        return USAGE
    except ParityGateError as error:
        sys.stderr.write(f"{getattr(error, 'reason', 'Error')}: {error}\n")
        return ERROR
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command again to go on\n")
        return INTERRUPTED
    except Exception:  # noqa: BLE001 - whatever it is, Python's own exit status 1 would read as the verdict Failed
        traceback.print_exc()
        sys.stderr.write(
            f"InternalError: a defect in ParityGate {__version__}; please report it with the lines above\n"
        )
        return ERROR


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    root = _Parser(prog="paritygate", description="Moves models to the stack they should run on, and proves it.")
    root.add_argument("--version", action="version", version=__version__)
    add = root.add_subparsers(dest="command", required=True, parser_class=_Parser).add_parser
    run = add("run", help="carry out a migration: paritygate run MANIFEST, or MODEL DATASET to have it inferred")
    run.add_argument("manifest", metavar="MANIFEST", help="manifest, or model file")
    run.add_argument("dataset", metavar="DATASET", nargs="?", type=Path, help="dataset, after a model file")
    run.add_argument("--label", metavar="COLUMN", help="the dataset's label column (MODEL DATASET only)")
    run.add_argument("--loader", metavar="MODULE:CALLABLE", help="PyTorch (MODEL DATASET only)")
    run.add_argument("--serve", action="store_true", help="serve the candidate once it passed")
    _address(run)
    _common(run)
    for stage in (StageName.ASSESS, StageName.CAPTURE, StageName.CONVERT, StageName.VALIDATE):
        single = add(stage.value.lower(), help=f"carry out a migration up to {stage}")
        single.add_argument("manifest", metavar="MANIFEST", help="manifest, or name of a migration that ran here")
        single.add_argument("--out", type=Path, metavar="FOLDER", help="where to put what the stage made")
        _common(single)
    serve = add(
        "serve",
        help="serve a migration that passed, or any candidate: serve MANIFEST | serve --model PATH",
        description="Serves a migration if it passed, and carries out first what of it is not done. "
        "`paritygate serve --model PATH` serves a candidate folder or an .onnx file as it is; "
        "`paritygate serve --model PATH --help` lists the server's own options.",
    )
    serve.add_argument("manifest", metavar="MANIFEST", help="manifest, or name of a migration that ran here")
    _address(serve)
    _common(serve)
    report = add("report", help="show a report, or write its page")
    report.add_argument(
        "report", metavar="REPORT", help="report.json, a manifest, or name of a migration that ran here"
    )
    report.add_argument("--html", type=Path, metavar="FILE", help="write the page for people to FILE")
    _common(report)
    operator = add("operator", help="run the operator of a cluster")
    operator.add_argument("--config", type=Path, required=True, metavar="FILE", help="the operator's configuration")
    operator.add_argument(
        "--port", type=_port, default=8081, help="of /livez, /readyz and /metrics (default: %(default)s)"
    )
    add("crd", help="print the CustomResourceDefinition")
    return root


def _address(command: argparse.ArgumentParser) -> None:
    command.add_argument("--host", default="127.0.0.1", help="address to serve at (default: %(default)s)")
    command.add_argument(
        "--port", type=_port, default=0, help="port to serve at, 0 = a free one (default: %(default)s)"
    )


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > _LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to {_LAST_PORT}")
    return int(text)


def _common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workdir", type=Path, default=Path(".paritygate"), help="default: %(default)s")
    command.add_argument("--output", choices=("text", "json"), default="text", help="json: result on standard output")
