"""The live display: a list of stages that moves, and whatever else is said scrolls by above it."""

from __future__ import annotations

import logging
import re
import sys
import threading
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.rule import Rule
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from paritygate.cli.progress import STYLES, Progress, StageLine, length, outcome
from paritygate.local.events import Event, Note, RunFinished, RunStarted, StageFailed
from paritygate.report import text, words

_NARROW = 60
_MARKS = {
    "waiting": ("·", "dim"),
    "done": ("✓", "green"),
    "reused": ("✓", "green"),
    "failed": ("✕", "bold red"),
}


class LiveDisplay:
    """Redraws the stages ten times a second. Prints of this process appear above and are never lost."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(console.get_time)
        self._spinner = Spinner("dots", style="cyan")
        self._lock = threading.Lock()
        self._redirected: list[tuple[logging.StreamHandler[Any], Any]] = []
        self._live = Live(
            console=console,
            get_renderable=self._stages,
            refresh_per_second=10,
            vertical_overflow="visible",
            redirect_stdout=sys.stdout.isatty(),  # a pipe gets its JSON untouched
        )

    def __enter__(self) -> Self:
        self._live.start()
        # A handler keeps the stream that it was made with, past the redirection, and would write into the moving list.
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is self._console.file:
                self._redirected.append((handler, handler.stream))
                handler.setStream(sys.stderr)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def show(self, event: Event) -> None:
        """Takes one event and redraws."""
        with self._lock:
            self._progress.take(event)
        match event:
            case RunStarted():
                self._console.print(Text(text.printable(event.migration), style="bold"))
            case Note():
                prefix = f"{event.stage}: " if event.stage else ""
                self._console.print(Text(f"  {prefix}{text.printable(event.text)}", style="dim"))
            case StageFailed() if event.will_retry:
                said = f"  {event.stage}: {event.reason}: {event.message} Trying again."
                self._console.print(Text(text.printable(said), style="yellow"))
            case RunFinished():
                self._finish(event)
                return
        self._live.refresh()

    def _stop(self) -> None:
        with self._lock:
            for line in self._progress.lines.values():
                if line.state == "running":  # the transcript must not say that it still runs
                    line.state, line.message = "failed", "interrupted"
                    line.seconds = line.elapsed(self._console.get_time())
                elif line.state == "waiting":
                    line.message = "not reached"
        self._live.stop()
        while self._redirected:
            handler, stream = self._redirected.pop()
            handler.setStream(stream)

    def _finish(self, event: RunFinished) -> None:
        self._stop()
        width = min(text.WIDTH, self._console.width)
        head, _, body = outcome(event, width).partition("\n")
        style = STYLES[event.verdict]
        self._console.print()
        self._console.print(Rule(Text(head, style=style), characters="━", align="left", style=style), width=width)
        # Soft-wrapped: the terminal breaks long commands itself, so that they can be copied whole.
        said = Text(body.rstrip("\n"))
        for verdict, colour in STYLES.items():
            said.highlight_regex(rf"{re.escape(words.SYMBOLS[verdict])} {verdict}\b", colour.removeprefix("bold "))
        self._console.print(said, soft_wrap=True)
        self._console.print(Rule(characters="━", style=style), width=width)

    def _stages(self) -> RenderableType:
        with self._lock:
            lines = list(self._progress.lines.values())
            narrow = self._console.width < _NARROW
            table = Table.grid(padding=(0, 2, 0, 0), expand=True)
            table.add_column(width=1)
            table.add_column(no_wrap=True)
            table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
            if not narrow:
                table.add_column(no_wrap=True, justify="right")
            table.add_column(no_wrap=True, justify="right")
            for line in lines:
                table.add_row(*self._cells(line, narrow=narrow))
            failed = [line for line in lines if line.state == "failed"]
            # A failure is said in full below the list, whatever the terminal's width is.
            below = [Padding(Text(text.printable(line.message), style="red"), (0, 0, 0, 3)) for line in failed]
        return Group(table, *below)

    def _cells(self, line: StageLine, *, narrow: bool) -> list[RenderableType]:
        running = line.state == "running"
        mark: RenderableType = self._spinner
        if not running:
            symbol, style = _MARKS[line.state]
            mark = Text(symbol, style=style)
        name = line.name if line.attempt == 1 else f"{line.name} (attempt {line.attempt})"
        said = {"reused": "already done", "failed": "failed"}.get(line.state, "")
        if line.message and line.state != "failed":
            said = f"{said}: {line.message}" if said else line.message
        elapsed = line.elapsed(self._console.get_time())
        cells: list[RenderableType] = [
            mark,
            Text(name, style="bold" if running else "dim" if line.state == "waiting" else ""),
            Text(text.printable(said), style="" if running else "dim"),
        ]
        if not narrow:
            cells.append(Text(line.count(), style="cyan"))
        cells.append(Text("" if elapsed is None else length(elapsed), style="dim"))
        return cells
