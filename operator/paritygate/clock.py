"""The only module that reads clocks; everything else is handed the time."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds from an arbitrary start, never going back."""
    return time.monotonic()
