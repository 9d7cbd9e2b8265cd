"""What every stage of the worker shares: its request, progress lines, and how its errors reach the planner."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from paritygate.agent import failures, stage
from paritygate.api.artifacts import CaptureManifest, FailureClass
from paritygate.api.base import Model
from paritygate.api.digests import canonical_json
from paritygate.errors import ConfigurationError, InfrastructureError, ParityGateError

Request = TypeVar("Request", bound=Model)


def read_request(model: type[Request], request_file: Path) -> Request:
    """The request of a stage. ConfigurationError (InvalidRequest): the file is missing or does not fit `model`."""
    try:
        return model.model_validate_json(request_file.read_bytes())
    except OSError as error:
        raise ConfigurationError("InvalidRequest", f"--request {request_file} cannot be read: {error}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise ConfigurationError(
            "InvalidRequest", f"--request {request_file} is not a {model.__name__}: {problems}"
        ) from error


def read_capture(folder: Path) -> CaptureManifest:
    """The head of a capture folder. ConfigurationError: it is missing or not one of ours."""
    head = folder / "capture.json"
    try:
        return CaptureManifest.model_validate_json(head.read_bytes())
    except (OSError, ValidationError) as error:
        raise ConfigurationError(
            "CaptureUnreadable", f"{head} is missing or no capture ({error}); record it with `paritygate capture`"
        ) from error


def write_json(path: Path, content: Model) -> None:
    """Writes an API object as canonical JSON, so that equal objects have equal digests."""
    path.write_bytes(canonical_json(content.to_dict()))


def progress(message: str, done: int = 0, total: int = 0) -> None:
    """Tells how far the stage is, in the file that `PARITYGATE_PROGRESS` names, if any."""
    stage.progress(message, done, total)


def explain(error: BaseException) -> dict[str, Any]:
    """The `StageFailure` that an exception means, as JSON-ready data."""
    failure: dict[str, Any] = failures.failure_of(error)
    if failure["failure"] != failures.INFRASTRUCTURE:
        if isinstance(error, InfrastructureError):
            failure["failure"] = FailureClass.INFRASTRUCTURE.value
        elif isinstance(error, ParityGateError) and not hasattr(error, "reason"):
            failure.update(reason="InvalidRequest", message=str(error))
    return failure
