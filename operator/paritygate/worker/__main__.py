"""`python -m paritygate.worker STAGE …`: carries out one stage as docs/reference/formats.md says.

`identity` prints the digests of what is installed here, by format, for the operator's `images.worker.identity`.
`infer`, `assess`, `convert` and `validate` take `--request FILE`, `dataset` takes `--uri PATH`, all `--out FOLDER`.
A stage is a module of this package with `run(request, out)`; `out` is an empty folder to write to.
`stand-by STAGE FORMAT` imports what the stage needs and then waits to be told its arguments on standard input.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
from pathlib import Path

from paritygate import installation
from paritygate.agent.__main__ import leave
from paritygate.agent.stage import FAILED, carry_out, tell
from paritygate.api.spec import SourceFormat
from paritygate.worker.stage import explain

STAGES = {
    "infer": ("request", "infer"),
    "assess": ("request", "assess"),
    "convert": ("request", "convert"),
    "validate": ("request", "validate"),
    "dataset": ("uri", "datasets"),
}
"""Stage → its argument and its module in this package."""


def main(arguments: list[str] | None = None) -> int:
    """Exit status of the stage: 0 complete, 3 failed with `failure.json`."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] in (["fetch"], ["publish"]):
        return _step(given[0])
    if given[:1] == ["stand-by"]:
        from paritygate.worker import standby  # noqa: PLC0415 - the other stages do without

        told = standby.wait(*given[1:])
        return 0 if told is None else main(told)
    if given == ["identity"]:
        print(json.dumps(identity(), indent=2, sort_keys=True))  # noqa: T201 - what was asked for
        return 0
    parser = argparse.ArgumentParser(prog="python -m paritygate.worker", description=__doc__)
    commands = parser.add_subparsers(dest="stage", required=True)
    for name, (subject, _) in STAGES.items():
        command = commands.add_parser(name)
        command.add_argument(f"--{subject}", dest="subject", required=True, type=Path)
        command.add_argument("--out", required=True, type=Path)
    options = parser.parse_args(given)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)

    def work(folder: str) -> None:
        importlib.import_module(f"paritygate.worker.{STAGES[options.stage][1]}").run(options.subject, Path(folder))

    status: int = carry_out(str(options.out), work, explain)
    return status


def identity() -> dict[str, dict[str, str]]:
    """By format: digests of this environment where it converts, and where models answer in it."""
    return {
        one.value: {"converter": installation.converter_digest(one), "source": installation.source_digest(one)}
        for one in SourceFormat
    }


def _step(name: str) -> int:
    """A step of a Job, which hands its message to the operator; 3 = the message is a StageFailure."""
    from paritygate.worker import orders  # noqa: PLC0415 - the other stages do without

    volumes = orders.Volumes(Path(os.environ.get("PARITYGATE_VOLUMES", "/")))
    try:
        if name == "fetch":
            orders.clear(volumes)
        said = (orders.fetch if name == "fetch" else orders.publish)(orders.order(), volumes)
    except Exception as error:  # noqa: BLE001 - whatever happens, the operator must hear of it
        sys.stderr.write(f"{name}: {error}\n")
        tell(explain(error))
        return FAILED
    if said is not None:
        tell(said.to_dict())
    return 0


if __name__ == "__main__":
    # At once: what was made is complete, and to take apart what torch or pyarrow hold takes up to half a second.
    leave(main())
