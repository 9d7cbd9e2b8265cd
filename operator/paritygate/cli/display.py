"""The display that suits where a run is watched."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

from paritygate.cli.progress import Display, PlainDisplay

if TYPE_CHECKING:
    from paritygate.cli.live import LiveDisplay


def display(stream: TextIO | None = None, environment: Mapping[str, str] | None = None) -> Display:
    """The display that suits `stream`: live on a capable terminal where rich is installed, plain lines elsewhere."""
    stream = sys.stderr if stream is None else stream
    environment = os.environ if environment is None else environment
    if stream.isatty() and environment.get("TERM", "dumb") not in {"dumb", "unknown"} and not environment.get("CI"):
        try:
            return _live(stream, environment)
        except ImportError:
            pass
    return PlainDisplay(stream)


def _live(stream: TextIO, environment: Mapping[str, str]) -> LiveDisplay:
    from rich.console import Console  # noqa: PLC0415 - rich is not needed where nobody watches

    from paritygate.cli.live import LiveDisplay  # noqa: PLC0415

    return LiveDisplay(Console(file=stream, _environ=environment, highlight=False))
