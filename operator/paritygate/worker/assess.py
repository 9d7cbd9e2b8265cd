"""Stage Assess: says what a model file is without loading it."""

from __future__ import annotations

from pathlib import Path

from paritygate.api.artifacts import AssessRequest
from paritygate.errors import ConfigurationError
from paritygate.worker.sources import source_module
from paritygate.worker.stage import read_request, write_json


def run(request_file: Path, out: Path) -> None:
    """Writes `assessment.json`.

    Raises:
        ConfigurationError: the model is missing, truncated or of another format than source.format says.
    """
    request = read_request(AssessRequest, request_file)
    model = Path(request.model)
    if not model.exists():
        raise ConfigurationError("SourceMissing", f"source.uri: {request.source.uri} does not exist; correct the path")
    if model.is_file() and model.stat().st_size == 0:
        raise ConfigurationError("ModelUnreadable", f"source.uri: {request.source.uri} is empty; copy the model again")
    assessment = source_module(request.source.format).assess(model, request.source)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "assessment.json", assessment)
