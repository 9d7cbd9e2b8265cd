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
from typing import Final, NoReturn

from paritygate.api import crd
from paritygate.api.artifacts import Assessment, StageName
from paritygate.api.manifest import load_manifest
from paritygate.api.report import ParityReport, Verdict
from paritygate.cli.display import display
from paritygate.cli.infer import inferred_manifest
from paritygate.errors import ConfigurationError, StageError, UsageError
from paritygate.local import records
from paritygate.local.revisions import Address
from paritygate.local.run import Interrupted, LocalRun, Options, Outcome
from paritygate.local.workdir import WorkFolder
from paritygate.report import assessment, files, text
from paritygate.storage.store import disk_full_explained

EXIT: Final = {Verdict.PASSED: 0, Verdict.FAILED: 1, Verdict.INCONCLUSIVE: 2, Verdict.ERROR: 3}
_MANIFESTS: Final = (".yaml", ".yml")


def carry_out(options: argparse.Namespace) -> int:
    """Exit status of the command that `options` name."""
    match options.command:
        case "run":
            return _run(options)
        case "serve":
            return _migrate(_manifest(options), options, Options(serve=Address(options.host, options.port)))
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


def become_server(arguments: list[str]) -> NoReturn:
    """Turns this process into the server; it says where it listens as JSON, whatever --output is."""
    ours = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    ours.add_argument("--output")
    _, rest = ours.parse_known_args(arguments)
    os.execv(sys.executable, [sys.executable, "-m", "paritygate.server", *rest])  # noqa: S606 - it becomes the server


def _run(options: argparse.Namespace) -> int:
    manifest = Path(options.manifest)
    if options.dataset is not None:
        manifest = inferred_manifest(manifest, options.dataset, label=options.label, loader=options.loader, say=_say)
    elif options.label or options.loader:
        raise UsageError("--label and --loader belong to `paritygate run MODEL DATASET`; a manifest states them itself")
    else:
        manifest = _manifest(options)
    address = Address(options.host, options.port) if options.serve else None
    return _migrate(manifest, options, Options(serve=address))


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _stage(options: argparse.Namespace, stage: StageName) -> int:
    out = options.out
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out} is there and not an empty folder; name one that does not exist")
    return _migrate(_manifest(options), options, Options(until=stage))


def _report(options: argparse.Namespace) -> int:
    path = _report_file(options)
    report = files.read(path)
    if options.html is not None:
        with disk_full_explained(options.html):
            files.write_page(report, options.html)
    if options.output == "json":
        _print({"verdict": report.verdict.value, "report": str(path), **_checks(report)})
    elif options.html is None:
        sys.stdout.write(text.render(report))
    return EXIT[report.verdict]


def _report_file(options: argparse.Namespace) -> Path:
    """The report that a path, a manifest or a name means. UsageError: that migration has none."""
    file = Path(options.report)
    if file.suffix in _MANIFESTS:
        name = load_manifest(file).metadata.name
    elif not file.exists() and (options.workdir / options.report).is_dir():
        name = options.report
    else:
        return file
    found: Path = options.workdir / name / "report.json"
    if not found.exists():
        raise UsageError(f"{found} does not exist: migration {name!r} was not judged here; run `paritygate validate`")
    return found


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
            _tell(options, work, outcome, wanted.until)
            if outcome.url is not None:
                run.serve()
        except Interrupted as error:
            raise KeyboardInterrupt from error
        except StageError as error:
            if options.output == "json":
                _print(_failed(error))
            raise
        finally:
            run.close()
            for number, handler in before.items():
                signal.signal(number, handler)
    return 0 if outcome.verdict is None else EXIT[outcome.verdict]


def _copy_out(work: WorkFolder, outcome: Outcome, stage: StageName, out: Path | None) -> None:
    if out is not None and stage in outcome.receipts:
        aside = out.with_name(f"{out.name}.part")
        with disk_full_explained(out):
            shutil.rmtree(aside, ignore_errors=True)
            shutil.copytree(work.store.path(outcome.receipts[stage].output), aside)
            if out.exists():
                out.rmdir()
            aside.rename(out)


def _tell(options: argparse.Namespace, work: WorkFolder, outcome: Outcome, stage: StageName) -> None:
    """What standard output gets: the result as JSON, or what Assess found in words."""
    assessed = records.head(work.store, outcome.receipts.values(), Assessment) if stage is StageName.ASSESS else None
    if options.output == "json":
        _print(
            {
                **_told(work, outcome, stage, getattr(options, "out", None)),
                **({"assessment": assessed.to_dict()} if assessed else {}),
            }
        )
    elif assessed is not None:
        sys.stdout.write("\n" + assessment.render(assessed))


def _told(work: WorkFolder, outcome: Outcome, stage: StageName, out: Path | None) -> dict[str, object]:
    converted, made = outcome.receipts.get(StageName.CONVERT), outcome.receipts.get(stage)
    report = outcome.report
    return {
        "verdict": outcome.verdict.value if outcome.verdict else None,
        "candidate": {
            "name": report.candidate,
            "path": str(work.results / "candidate" / "model.onnx"),
            "digest": converted.output,
        }
        if converted and report
        else None,
        "report": str(work.results / "report.json") if report else None,
        **_checks(report),
        **({"reason": outcome.reason} if outcome.reason else {}),
        "message": outcome.message,
        "output": {"stage": stage.value, "path": str(out or work.store.path(made.output)), "digest": made.output}
        if made
        else None,
        "stages": {name.value: receipt.output for name, receipt in outcome.receipts.items()},
        **({"url": outcome.url} if outcome.url else {}),
    }


def _failed(error: StageError) -> dict[str, object]:
    """The result of a run that had to stop where it could not even record why."""
    verdict = {"verdict": Verdict.ERROR.value, "candidate": None, "report": None, **_checks(None)}
    return {**verdict, "reason": error.reason, "message": error.message}


def _checks(report: ParityReport | None) -> dict[str, object]:
    checks = report.checks if report else ()
    return {
        "checks": [
            {"name": c.name.value, "result": c.result.value, "blocking": c.blocking, "message": c.message}
            for c in checks
        ]
    }


def _print(result: dict[str, object]) -> None:
    print(json.dumps(result), flush=True)  # noqa: T201 - what was asked for
