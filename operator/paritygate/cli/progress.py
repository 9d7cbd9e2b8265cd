"""How a run looks while it runs: live on a terminal, one line per event elsewhere.

Both displays write to one stream, standard error by default, and leave a transcript that reads well afterwards.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self, TextIO

from paritygate.api.report import Verdict
from paritygate.local.events import (
    Event,
    Note,
    RunFinished,
    RunStarted,
    StageFailed,
    StageFinished,
    StageProgress,
    StageStarted,
)
from paritygate.report import text, words

_SECONDS_PER_MINUTE = 60
_QUIET_SECONDS = 5.0


class Display(Protocol):
    """Shows events as they come. Used as a context manager, so that a terminal is always left in order."""

    def __enter__(self) -> Self:
        """Begins to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves the last state on the screen."""

    def show(self, event: Event) -> None:
        """Takes one event. Safe to call from any thread."""


@dataclass
class StageLine:
    """What is known about one stage."""

    name: str
    state: str = "waiting"
    """waiting, running, done, reused or failed."""
    attempt: int = 1
    message: str = ""
    done: int | None = None
    total: int | None = None
    started: float | None = None
    """Clock reading; None = not begun."""
    seconds: float | None = None
    """How long it took; None = it has not ended."""

    def elapsed(self, now: float) -> float | None:
        """Seconds since its start, or that it took."""
        return self.seconds if self.seconds is not None else None if self.started is None else now - self.started

    def count(self) -> str:
        """'512 of 2,000', or nothing."""
        if self.done is None:
            return ""
        return f"{self.done:,}" if self.total is None else f"{self.done:,} of {self.total:,}"


@dataclass
class Progress:
    """Where a run stands: a fold over its events."""

    clock: Callable[[], float]
    migration: str = ""
    lines: dict[str, StageLine] = field(default_factory=dict)

    def take(self, event: Event) -> StageLine | None:
        """Folds `event` in; the line that it speaks of, if any."""
        if isinstance(event, RunStarted):
            self.migration = event.migration
            self.lines = {str(name): StageLine(str(name)) for name in event.stages}
            return None
        if isinstance(event, (Note, RunFinished)):
            return None
        line = self.lines.setdefault(str(event.stage), StageLine(str(event.stage)))
        now = self.clock()
        match event:
            case StageStarted():
                line.state, line.attempt, line.message = "running", event.attempt, ""
                line.done = line.total = line.seconds = None
                line.started = now
            case StageProgress():
                line.state = "running"
                line.message, line.done, line.total = event.message, event.done, event.total
            case StageFinished():
                line.state, line.message = "reused" if event.reused else "done", event.message
                line.done = line.total = None
                line.seconds = None if event.reused or line.started is None else now - line.started
            case StageFailed():
                line.state, line.message = "failed", f"{event.reason}: {event.message}"
                line.done = line.total = None
                line.seconds = None if line.started is None else now - line.started
        return line


class PlainDisplay:
    """One line per event. What a stage is doing is said only once nothing was said for five seconds."""

    def __init__(
        self, stream: TextIO, clock: Callable[[], float] = time.monotonic, quiet: float = _QUIET_SECONDS
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._quiet = quiet
        self._progress = Progress(clock)
        self._said = clock()
        self._due: tuple[threading.Timer, StageLine] | None = None
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._forget()
            self._stream.flush()

    def show(self, event: Event) -> None:
        """Writes what is new."""
        with self._lock:
            line = self._progress.take(event)
            match event:
                case RunStarted():
                    self._write(f"{event.migration}: {' → '.join(map(str, event.stages))}")
                case Note():
                    self._write(f"{event.stage}: {event.text}" if event.stage else event.text)
                case RunFinished():
                    self._forget()
                    self._stream.write("\n" + outcome(event))
                    self._stream.flush()
                case StageProgress() if line is not None:
                    self._progressed(line)
                case StageStarted() if event.attempt == 1:
                    self._said = self._clock()
                case _ if line is not None:
                    self._forget()
                    self._write(self._sentence(event, line))

    def _sentence(self, event: Event, line: StageLine) -> str:
        if isinstance(event, StageStarted):
            return f"{line.name}: attempt {event.attempt}"
        if isinstance(event, StageFailed):
            return f"{line.name}: failed: {line.message}" + (" (will be tried again)" if event.will_retry else "")
        ending = "already done" if line.state == "reused" else f"done in {length(line.seconds or 0.0)}"
        return f"{line.name}: {ending}" + (f": {line.message}" if line.message else "")

    def _progressed(self, line: StageLine) -> None:
        remaining = self._said + self._quiet - self._clock()
        if remaining <= 0:
            self._forget()
            self._say_progress(line)
        elif self._due is None:  # a stage may say what it begins, and then nothing for an hour
            timer = threading.Timer(remaining, self._overdue)
            timer.daemon = True
            self._due = timer, line
            timer.start()

    def _overdue(self) -> None:
        with self._lock:
            if self._due is not None:
                line = self._due[1]
                self._due = None
                self._say_progress(line)

    def _forget(self) -> None:
        if self._due is not None:
            self._due[0].cancel()
            self._due = None

    def _say_progress(self, line: StageLine) -> None:
        count = f" ({line.count()})" if line.count() else ""
        self._write(f"{line.name}: {line.message}{count}")

    def _write(self, said: str) -> None:
        self._said = self._clock()
        self._stream.write(text.printable(said) + "\n")
        self._stream.flush()


def outcome(event: RunFinished, width: int = text.WIDTH) -> str:
    """The end of a run in plain text."""
    if event.report is not None:
        return text.render(event.report, report_path=event.report_path, next_step=event.next_step, width=width)
    head = f"{words.SYMBOLS[event.verdict]} {event.verdict.upper()}" + (f": {event.reason}" if event.reason else "")
    said = "\n".join(text.paragraph(part, width=width) for part in event.message.splitlines() if part.strip())
    following = text.labelled([("Next", event.next_step)], width=width) if event.next_step else ""
    return "\n\n".join(part for part in (head, said, following) if part) + "\n"


def length(seconds: float) -> str:
    """'0.4 s', '12 s', '3 min 05 s'."""
    if seconds < 10:  # noqa: PLR2004 - below that a tenth is worth reading
        return f"{seconds:.1f} s"
    if round(seconds) < _SECONDS_PER_MINUTE:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), _SECONDS_PER_MINUTE)
    return f"{minutes} min {rest:02d} s"


STYLES = {
    Verdict.PASSED: "bold green",
    Verdict.FAILED: "bold red",
    Verdict.INCONCLUSIVE: "bold yellow",
    Verdict.ERROR: "bold magenta",
}
"""Colours of verdicts on a terminal; the words always stand beside them."""
