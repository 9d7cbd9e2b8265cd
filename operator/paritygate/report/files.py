"""Reports on disk: read with every mistake explained, and rendered anew."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import ValidationError

from paritygate.api.base import API_VERSION
from paritygate.api.report import ParityReport
from paritygate.errors import UsageError

_MOST_PROBLEMS = 5


def read(path: Path) -> ParityReport:
    """The report in the JSON file at `path`.

    Raises:
        UsageError: The file is missing, is no JSON, is something else than a report, or is of another version.
    """
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); name a report.json") from error
    except ValueError as error:
        raise UsageError(f"{path}: is not JSON ({error}); name a report.json that ParityGate wrote") from error
    found = (data.get("kind"), data.get("apiVersion")) if isinstance(data, dict) else (type(data).__name__, None)
    if found != ("ParityReport", API_VERSION):
        raise UsageError(
            f"{path}: holds kind {found[0]!r}, apiVersion {found[1]!r}; "
            f"this ParityGate reads kind 'ParityReport', apiVersion {API_VERSION!r}"
        )
    try:
        return ParityReport.model_validate(data)
    except ValidationError as error:
        problems = [f"  {'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors()[:_MOST_PROBLEMS]]
        raise UsageError(
            f"{path}: is not a whole report; write it anew with 'paritygate run':\n" + "\n".join(problems)
        ) from error


def write_page(report: ParityReport, path: Path) -> None:
    """Renders `report` to `path`, aside first and then renamed. OSError passes through, and leaves nothing behind.

    UsageError: the extra `report` is not installed.
    """
    try:
        from paritygate.report.html import render  # noqa: PLC0415 - the operator goes without
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{path}: a page needs {error.name}; install ParityGate with pip install 'paritygate[report]'"
        ) from error
    aside = path.with_name(f"{path.name}.part-{os.getpid()}")
    try:
        aside.write_text(render(report), encoding="utf-8")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
