"""Whether answers that were recorded elsewhere belong to the model and the dataset that are here."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from paritygate.api.artifacts import CaptureManifest
from paritygate.errors import ConfigurationError


class Here(NamedTuple):
    """An input that is here."""

    name: str
    """Path or address, for messages."""
    digest: str


def require_capture_of(folder: Path, name: str, model: Here | None, dataset: Here) -> None:
    """Looks at a recorded capture before anything rests on it.

    Args:
        folder: where it lies.
        name: its path or address, for messages.
        model: None = it is not here, and the capture alone speaks for it.
        dataset: what its rows must come from.

    Raises:
        ConfigurationError: CaptureUnreadable; CaptureMismatch, it answers for another model or dataset.
    """
    try:
        manifest = CaptureManifest.model_validate_json((folder / "capture.json").read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            "CaptureUnreadable",
            f"spec.source.capture.uri: {name} holds no readable capture.json ({error}); record it with "
            "`paritygate capture MANIFEST --out FOLDER`",
        ) from error
    missing = [file for file in ("inputs.npz", "reference.npz") if not (folder / file).is_file()]
    if missing:
        raise ConfigurationError(
            "CaptureUnreadable",
            f"spec.source.capture.uri: {name} lacks {' and '.join(missing)}; bring the whole folder that "
            "`paritygate capture MANIFEST --out FOLDER` wrote",
        )
    for what, field, recorded, here in (
        ("model", "source", manifest.source, model),
        ("dataset", "validation.dataset", manifest.dataset, dataset),
    ):
        if here is not None and here.digest != recorded:
            raise ConfigurationError(
                "CaptureMismatch",
                f"spec.source.capture.uri: {name} was recorded on a {what} with digest {recorded}, and "
                f"spec.{field}.uri, {here.name}, has {here.digest}; record it anew, or name that {what}",
            )
