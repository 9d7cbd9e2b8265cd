"""What each command does, in a few lines each."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Final

from paritygate.api import crd
from paritygate.api.artifacts import StageName
from paritygate.api.manifest import load_manifest
from paritygate.api.report import Verdict
from paritygate.cli.infer import inferred_manifest
from paritygate.cli.progress import display
from paritygate.errors import ConfigurationError, UsageError
from paritygate.local.run import Interrupted, LocalRun, Options, Outcome
from paritygate.local.workdir import WorkFolder
from paritygate.report import files, text
from paritygate.storage.store import disk_full_explained

EXIT: Final = {Verdict.PASSED: 0, Verdict.FAILED: 1, Verdict.INCONCLUSIVE: 2, Verdict.ERROR: 3}


def carry_out(options: argparse.Namespace, rest: list[str]) -> int:
    """Exit status of the command that `options` name; `rest`: arguments that only the server understands."""
    match options.command:
        case "run":
            return _run(options)
        case "serve":
            return _serve(options, rest)
        case "report":
            return _report(options)
        case "operator":
            return _operator(options)
        case "crd":
            sys.stdout.write(crd.crd_yaml())
            return 0
    return _stage(options, StageName(options.command.capitalize()))


def _operator(options: argparse.Namespace) -> int:
    try:
        from paritygate.handlers.main import run  # noqa: PLC0415 - needs the extra `operator`
    except ImportError as error:
        raise ConfigurationError(
            "MissingExtra", f"the operator needs {error.name}; install it with pip install 'paritygate[operator]'"
        ) from error
    return run(options.config, options.port)


def _run(options: argparse.Namespace) -> int:
    manifest = Path(options.manifest)
    if options.dataset is not None:
        manifest = inferred_manifest(
            manifest, options.dataset, label=options.label, loader=options.loader,
            say=_say,
        )  # fmt: skip
    elif options.label or options.loader:
        raise UsageError("--label and --loader belong to `paritygate run MODEL DATASET`; a manifest states them itself")
    else:
        manifest = _manifest(options)
    wanted = Options(serve=options.serve, host=options.host, port=options.port)
    return _migrate(manifest, options, wanted)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _stage(options: argparse.Namespace, stage: StageName) -> int:
    if options.out is not None and options.out.exists() and any(options.out.iterdir()):
        raise UsageError(f"--out {options.out} is not empty; name a folder that does not exist")
    return _migrate(_manifest(options), options, Options(until=stage))


def _serve(options: argparse.Namespace, rest: list[str]) -> int:
    if options.manifest is None:
        os.execv(sys.executable, [sys.executable, "-m", "paritygate.server", *rest])  # noqa: S606 - it becomes the server
    server = argparse.ArgumentParser(prog="paritygate serve MANIFEST")
    server.add_argument("--host", default="127.0.0.1")
    server.add_argument("--port", type=int, default=0)
    given = server.parse_args(rest)
    return _migrate(_manifest(options), options, Options(serve=True, host=given.host, port=given.port))


def _report(options: argparse.Namespace) -> int:
    report = files.read(options.report)
    if options.html is None:
        sys.stdout.write(text.render(report))
    else:
        with disk_full_explained(options.html):
            files.write_page(report, options.html)
    return EXIT[report.verdict]


def _manifest(options: argparse.Namespace) -> Path:
    """The manifest's path; a name stands for the manifest of the migration that ran under it in the work folder."""
    file = Path(options.manifest)
    record = options.workdir / options.manifest / "plan.json"
    if not file.exists() and record.is_file():
        return Path(json.loads(record.read_bytes())["manifest"])
    return file


def _migrate(manifest: Path, options: argparse.Namespace, wanted: Options) -> int:
    migration = load_manifest(manifest)
    work = WorkFolder(options.workdir, migration.metadata.name)
    with work.held(), display() as shown:
        run = LocalRun(migration, manifest, work, wanted, shown.show)

        def stop(number: int, frame: FrameType | None) -> None:
            del number, frame
            run.interrupt()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            outcome = run.run()
            shown.show(run.finished_event(outcome))
            _copy_out(work, outcome, wanted.until, getattr(options, "out", None))
            if options.output == "json":
                print(json.dumps(_told(work, outcome)), flush=True)  # noqa: T201 - what was asked for
            if outcome.url is not None:
                run.serve()
        except Interrupted as error:
            raise KeyboardInterrupt from error
        finally:
            run.close()
            for number, handler in before.items():
                signal.signal(number, handler)
    finished = wanted.until is not StageName.VALIDATE and wanted.until in outcome.receipts
    return 0 if finished else EXIT[outcome.verdict]


def _copy_out(work: WorkFolder, outcome: Outcome, stage: StageName, out: Path | None) -> None:
    if out is not None and stage in outcome.receipts:
        aside = out.with_name(f"{out.name}.part")
        with disk_full_explained(out):
            shutil.rmtree(aside, ignore_errors=True)
            shutil.copytree(work.store.path(outcome.receipts[stage].output), aside)
            if out.exists():
                out.rmdir()
            aside.rename(out)


def _told(work: WorkFolder, outcome: Outcome) -> dict[str, object]:
    converted = outcome.receipts.get(StageName.CONVERT)
    report = outcome.report
    return {
        "verdict": outcome.verdict.value,
        "candidate": {
            "name": report.candidate,
            "path": str(work.results / "candidate" / "model.onnx"),
            "digest": converted.output,
        }
        if converted and report
        else None,
        "report": str(work.results / "report.json") if report else None,
        "checks": [
            {"name": c.name.value, "result": c.result.value, "blocking": c.blocking, "message": c.message}
            for c in report.checks
        ]
        if report
        else [],
        "message": outcome.message,
        "stages": {stage.value: receipt.output for stage, receipt in outcome.receipts.items()},
        **({"url": outcome.url} if outcome.url else {}),
    }
