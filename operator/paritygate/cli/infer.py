"""`paritygate run MODEL DATASET`: writes the manifest that the two suggest, and says what was inferred and why."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import yaml

from paritygate.api.artifacts import FailureClass, Inference, InferRequest, StageFailure
from paritygate.api.base import API_VERSION
from paritygate.errors import InfrastructureError, UsageError

_MAX_NAME: Final = 40
_MARK: Final = re.compile(r"\A# Inferred by `(?P<command>.*)`\.\n# Mark (?P<mark>[0-9a-f]{16}): .*\n")


def inferred_manifest(
    model: Path, dataset: Path, *, label: str | None, loader: str | None, say: Callable[[str], None]
) -> Path:
    """Writes the manifest to the working directory, tells `say` what was inferred, line by line, and returns its path.

    Raises:
        UsageError: model and dataset do not tell enough or contradict each other, or another manifest is in the way.
        InfrastructureError: the process that looks at the two was stopped.
    """
    inference = _infer(model, dataset, label, loader)
    file = Path(f"{_name(model)}.yaml")
    content = _manifest(_name(model), inference, _command(model, dataset, label, loader))
    say(f"{model} and {dataset}, without loading the model:")
    width = max(len(item.subject) for item in inference.inferred)
    for item in inference.inferred:
        say(f"  {item.subject:<{width}}  {item.value}  ({item.because})")
    say(_written(file, content))
    return file


def _infer(model: Path, dataset: Path, label: str | None, loader: str | None) -> Inference:
    """In a process of its own, since the command line reads no models."""
    request = InferRequest(
        model=str(model), dataset=str(dataset), source_uri=_uri(model), dataset_uri=_uri(dataset), label=label,
        loader=loader,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="paritygate-infer-") as folder:
        request_file, out = Path(folder, "request.json"), Path(folder, "out")
        request_file.write_text(request.model_dump_json(by_alias=True), encoding="utf-8")
        command = [sys.executable, "-m", "paritygate.worker", "infer"]
        command += ["--request", str(request_file), "--out", str(out)]
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603
        if (out / "inference.json").exists():
            return Inference.model_validate_json((out / "inference.json").read_bytes())
        if not (out / "failure.json").exists():
            last = ended.stderr.strip().splitlines()[-1:] or [f"status {ended.returncode}"]
            raise InfrastructureError(
                "ProcessLost", f"the process that looks at {model} ended without a result: {last[0]}"
            )
        failure = StageFailure.model_validate_json((out / "failure.json").read_bytes())
    if failure.failure is FailureClass.INFRASTRUCTURE:
        raise InfrastructureError(failure.reason, failure.message)
    raise UsageError(failure.message.removeprefix("source.uri: "))  # nobody has written that field yet


def _manifest(name: str, inference: Inference, command: str) -> str:
    document = {
        "apiVersion": API_VERSION,
        "kind": "ModelMigration",
        "metadata": {"name": name},
        "spec": inference.spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True),
    }
    body = str(yaml.safe_dump(_pruned(document), sort_keys=False, allow_unicode=True, width=120))
    return "\n".join(
        (
            f"# Inferred by `{command}`.",
            f"# Mark {_mark(body)}: while it fits, the same command may write this file anew.",
            body,
        )
    )


def _pruned(value: Any) -> Any:
    """Without what is empty because it has its default."""
    if isinstance(value, dict):
        return {key: _pruned(item) for key, item in value.items() if item not in ({}, [])}
    return [_pruned(item) for item in value] if isinstance(value, list) else value


def _written(file: Path, content: str) -> str:
    """Writes the manifest and says so. UsageError: a person wrote or changed the one that is there."""
    if file.exists():
        found = file.read_text(encoding="utf-8")
        if found == content:
            return f"{file} says the same already"
        head = _MARK.match(found)
        if head is None or head["mark"] != _mark(found[head.end() :]):
            raise UsageError(
                f"{file} is there already and was written or changed by hand, so it stays: run it with "
                f"`paritygate run {shlex.quote(str(file))}`, or move it away to have it inferred anew"
            )
    again = "rewrote" if file.exists() else "wrote"
    aside = file.with_name(f".{file.name}.part")
    aside.write_text(content, encoding="utf-8")
    aside.replace(file)
    return f"{again} {file}: change it as you like, and run it again with `paritygate run {shlex.quote(str(file))}`"


def _mark(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def _command(model: Path, dataset: Path, label: str | None, loader: str | None) -> str:
    words = ["paritygate", "run", str(model), str(dataset)]
    words += ["--label", label] if label is not None else []
    words += ["--loader", loader] if loader is not None else []
    return shlex.join(words)


def _uri(path: Path) -> str:
    """The path as the manifest in the working directory names it."""
    return str(path) if path.is_absolute() else os.path.normpath(path)


def _name(model: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "-", model.resolve().stem.lower())[:_MAX_NAME].strip("-") or "model"
