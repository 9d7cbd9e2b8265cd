"""Every error that ParityGate raises on purpose.

    ParityGateError
    ├── InvalidManifest     the manifest cannot be read or contradicts itself   exit status 64
    ├── UsageError          the command line is wrong                           exit status 64
    └── StageError          a stage cannot finish                               exit status 3
        ├── ConfigurationError    the manifest, the model or the dataset must change; not retried
        └── InfrastructureError   the surroundings failed; retried

Each message says what happened, where (file, field, column) and what to do. `reason` is a PascalCase word that
docs/reference/reasons.md explains.
"""

from __future__ import annotations


class ParityGateError(Exception):
    """Base of all errors that ParityGate raises on purpose."""


class InvalidManifest(ParityGateError):
    """The manifest cannot be read or contradicts itself. `problems`: one line each, with file, line and field."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class UsageError(ParityGateError):
    """The command line is wrong."""


class StageError(ParityGateError):
    """A stage cannot finish."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class ConfigurationError(StageError):
    """The manifest, the model or the dataset must change before another try can succeed."""


class InfrastructureError(StageError):
    """The surroundings failed: a full disk, exhausted memory, a process that was killed. Worth another try."""
