"""Logs as JSON lines with fixed keys."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final

KEYS: Final = ("namespace", "name", "uid", "generation", "stage", "attempt", "reason", "revision")
"""What a line may say beside its message; `logger.info(…, extra={…})`."""


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, and those of `KEYS` that are known."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({key: getattr(record, f"pg_{key}") for key in KEYS if hasattr(record, f"pg_{key}")})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def keys(**known: object) -> dict[str, object]:
    """`extra` of a log call. KeyError: a key that is not one of `KEYS`."""
    unknown = set(known) - set(KEYS)
    if unknown:
        raise KeyError(f"{', '.join(sorted(unknown))}: log lines have the keys {', '.join(KEYS)}")
    return {f"pg_{key}": value for key, value in known.items()}  # `name` itself is taken by logging


def configure(level: int = logging.INFO) -> None:
    """Sends all logs and Python's warnings to standard error as JSON; what kopf says below warnings is left out."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for noisy in ("kopf", "aiohttp.access", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
