"""Why a stage did not finish, in the form of `failure.json` (docs/reference/formats.md)."""

import errno

CONFIGURATION = "Configuration"
INFRASTRUCTURE = "Infrastructure"

# What frameworks say, in errors of their own classes, when memory runs out.
_OUT_OF_MEMORY = ("can't allocate memory", "std::bad_alloc", "failed to allocate memory", "out of memory")


class AgentError(Exception):
    """A capture cannot finish. `reason` is explained in docs/reference/reasons.md."""

    def __init__(self, reason, message, failure=CONFIGURATION):
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.failure = failure


def one_line(error, limit=400):
    """An exception as `Type: message` on one line of at most `limit` characters."""
    text = " ".join(("%s: %s" % (type(error).__name__, error)).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def is_out_of_memory(error):
    """Whether an exception says that memory is exhausted."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _OUT_OF_MEMORY)


def failure_of(error):
    """The failure that an exception means: a dict with `failure`, `reason` and `message`."""
    cause, seen = error, []
    while cause is not None and cause not in seen:
        known = _surroundings(cause)
        if known:
            return known
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    if hasattr(error, "reason") and hasattr(error, "message"):
        return _failure(getattr(error, "failure", CONFIGURATION), error.reason, error.message)
    message = (
        "%s; this is a defect of ParityGate, not of the manifest: report it with the traceback that stands in the "
        "stage's log" % one_line(error)
    )
    return _failure(CONFIGURATION, "InternalError", message)


def _surroundings(error):
    if is_out_of_memory(error):
        message = (
            "memory is exhausted (%s); free memory or use a machine with more, or judge fewer dataset rows"
            % one_line(error, 200)
        )
        return _failure(INFRASTRUCTURE, "OutOfMemory", message)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        message = "no space is left on the disk (%s); free space or choose another --workdir"
        if error.errno == errno.EFBIG:
            message = "a file may not grow further (%s); raise the limit of file sizes or choose another --workdir"
        return _failure(INFRASTRUCTURE, "DiskFull", message % one_line(error, 300))
    return None


def _failure(failure, reason, message):
    return {"kind": "StageFailure", "failure": failure, "reason": reason, "message": message}
