"""Every error that ParityGate raises on purpose.

    ParityGateError
    ├── InvalidManifest     the manifest cannot be read or contradicts itself   exit status 64
    ├── UsageError          the command line is wrong                           exit status 64
    ├── InvalidSettings     the operator's configuration contradicts itself     exit status 64
    ├── StageError          a stage cannot finish                               exit status 3
    │   ├── ConfigurationError    the manifest, the model or the dataset must change; not retried
    │   └── InfrastructureError   the surroundings failed; retried
    └── ClusterError        the API server did not do what it was asked; each says what that means for the next try
        ├── Conflict              409: there is a newer version, or the name is taken
        ├── Missing               404: there is no such object
        ├── Gone                  410: the version asked for is too old; list anew
        ├── Refused               400, 413, 415, 422: the object is not acceptable, and will not be by itself
        ├── Forbidden             401, 403: who we are is not known, or admission says no
        │   └── RightsMissing         403: our role lacks a right
        ├── Throttled             429: too many requests; `retry_after` seconds
        ├── Deposed               not sent: another replica may lead by now
        └── Unavailable           5xx, timeouts, broken connections: the request may have been carried out or not

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


class InvalidSettings(ParityGateError):
    """The operator's configuration contradicts itself. `problems`: one line each, with the field."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ClusterError(ParityGateError):
    """The API server did not do what it was asked. `retry_after`: seconds for which it wants to be left alone."""

    def __init__(self, message: str, *, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class Conflict(ClusterError):
    """409: there is a newer version of the object, or its name is taken."""


class Missing(ClusterError):
    """404: there is no such object."""


class Gone(ClusterError):
    """410: the version or the page asked for is too old; list anew."""


class Refused(ClusterError):
    """The object is not acceptable (400, 413, 415, 422), and will not be without a change."""


class Forbidden(ClusterError):
    """401 or 403: who we are is not known, our rights are missing, or admission says no."""


class RightsMissing(Forbidden):
    """403 of the authorizer: our role lacks a right, which somebody may give back."""


class Throttled(ClusterError):
    """429: too many requests."""


class Unavailable(ClusterError):
    """5xx, a timeout or a broken connection. Whether a write was carried out is not known."""


class Deposed(ClusterError):
    """Not sent, since another replica may lead by now."""
