"""What a person sees of a run: live on a terminal, in lines elsewhere."""

from __future__ import annotations

import io
import logging
import sys
import time

import pytest
from rich.console import Console

from paritygate.api.report import Verdict
from paritygate.cli import progress
from paritygate.cli.display import display
from paritygate.cli.live import LiveDisplay
from paritygate.cli.progress import PlainDisplay, length
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


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


STAGES = ("Assess", "Capture", "Convert", "Serve")
RUN: tuple[Event, ...] = (
    RunStarted("churn", STAGES),
    StageFinished("Assess", "scikit-learn 1.2.2", reused=True),
    Note("VERSION-SKEW: saved by 1.2.2", stage="Assess"),
    StageStarted("Capture"),
    StageProgress("Capture", "answering rows", 512, 2000),
    StageFinished("Capture", "2,000 rows"),
    StageStarted("Convert"),
    StageFailed("Convert", "DiskFull", "No space left on /tmp.", will_retry=True),
    StageStarted("Convert", 2),
    StageFailed("Convert", "UnsupportedStep", "Step 'x' has no converter; remove it."),
    RunFinished(Verdict.ERROR, message="UnsupportedStep: Step 'x' has no converter; remove it."),
)


def plain(*events: Event, clock: Clock | None = None) -> list[str]:
    stream = io.StringIO()
    with PlainDisplay(stream, clock or Clock()) as shown:
        for event in events:
            shown.show(event)
    return stream.getvalue().splitlines()


def live(*events: Event, width: int = 100, colour: bool = False, clock: Clock | None = None) -> str:
    """The transcript as it stays on the screen, without the frames that were drawn over."""
    stream = io.StringIO()
    console = Console(
        file=stream,
        force_terminal=True,
        force_interactive=False,  # an interactive console would also write every frame in between
        width=width,
        color_system="standard" if colour else None,
        get_time=clock or Clock(),
        _environ={"TERM": "xterm"},
    )
    with LiveDisplay(console) as shown:
        for event in events:
            shown.show(event)
    return stream.getvalue()


def test_without_a_terminal_there_is_one_line_for_each_event() -> None:
    lines = plain(*RUN)
    assert lines[:8] == [
        "churn: Assess → Capture → Convert → Serve",
        "Assess: already done: scikit-learn 1.2.2",
        "Assess: VERSION-SKEW: saved by 1.2.2",
        "Capture: done in 0.0 s: 2,000 rows",
        "Convert: failed: DiskFull: No space left on /tmp. (will be tried again)",
        "Convert: attempt 2",
        "Convert: failed: UnsupportedStep: Step 'x' has no converter; remove it.",
        "",
    ]
    assert "! ERROR" in lines


def test_plain_progress_is_said_only_once_nothing_was_said_for_five_seconds() -> None:
    clock = Clock()
    stream = io.StringIO()
    shown = PlainDisplay(stream, clock)
    shown.show(StageStarted("Capture"))
    for done, seconds in ((0, 0), (1, 1), (2, 2), (3, 6), (4, 7), (9, 10), (10, 11.5)):
        clock.now = 100.0 + seconds
        shown.show(StageProgress("Capture", "answering", done, 10))
    shown.show(StageFinished("Capture", "10 rows"))
    said = [line.removeprefix("Capture: ") for line in stream.getvalue().splitlines()]
    assert said == ["answering (3 of 10)", "answering (10 of 10)", "done in 12 s: 10 rows"]


def test_a_stage_that_falls_silent_is_heard_of_all_the_same() -> None:
    stream = io.StringIO()
    with PlainDisplay(stream, quiet=0.05) as shown:
        shown.show(StageStarted("Capture"))
        shown.show(StageProgress("Capture", "loading the source"))
        ends = time.monotonic() + 10
        while not stream.getvalue() and time.monotonic() < ends:
            time.sleep(0.01)
    assert stream.getvalue() == "Capture: loading the source\n"


def test_what_a_finished_stage_was_doing_is_not_said_later() -> None:
    stream = io.StringIO()
    with PlainDisplay(stream, quiet=0.05) as shown:
        shown.show(StageStarted("Capture"))
        shown.show(StageProgress("Capture", "loading the source"))
        shown.show(StageFinished("Capture", "2 rows"))
        time.sleep(0.2)
    assert stream.getvalue() == "Capture: done in 0.0 s: 2 rows\n"


def test_the_live_display_leaves_a_readable_transcript() -> None:
    shown = live(*RUN)
    assert "✓  Assess" in shown
    assert "already done: scikit-learn 1.2.2" in shown
    assert "VERSION-SKEW" in shown
    assert "2,000 rows" in shown
    assert "DiskFull: No space left on /tmp. Trying again." in shown
    assert "✕  Convert (attempt 2)" in shown
    assert "·  Serve" in shown
    assert "not reached" in shown
    assert "! ERROR" in shown


def test_a_running_stage_shows_message_count_and_elapsed_time() -> None:
    clock = Clock()
    console = Console(file=io.StringIO(), width=100, get_time=clock, _environ={})
    shown = LiveDisplay(console)
    shown.show(RunStarted("churn", STAGES))
    shown.show(StageStarted("Capture"))
    shown.show(StageProgress("Capture", "answering rows", 512, 2000))
    clock.now += 75
    with console.capture() as captured:
        console.print(shown._stages())
    line = next(line for line in captured.get().splitlines() if "Capture" in line)
    for part in ("answering rows", "512 of 2,000", "1 min 15 s"):
        assert part in line


@pytest.mark.parametrize("width", [20, 32, 48, 60, 80, 200])
def test_no_stage_line_is_wider_than_the_terminal(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, get_time=Clock(), _environ={})
    shown = LiveDisplay(console)
    for event in RUN[:-1]:
        shown.show(event)
    with console.capture() as captured:
        console.print(shown._stages())
    assert all(len(line) <= width for line in captured.get().splitlines())
    assert "Capture"[:4] in captured.get()


def test_a_command_in_the_outcome_is_never_broken(failed_with_long_command: RunFinished) -> None:
    assert failed_with_long_command.report is not None
    assert failed_with_long_command.report.diagnosis is not None
    assert failed_with_long_command.report.diagnosis.reproduce in live(failed_with_long_command, width=50)


def test_an_interrupted_stage_is_not_left_running() -> None:
    shown = live(RunStarted("churn", STAGES), StageStarted("Capture"))
    assert "✕  Capture" in shown
    assert "interrupted" in shown


def test_colour_stands_only_where_it_is_wanted() -> None:
    assert "\x1b[1;35m" in live(RUN[-1], colour=True)
    assert "\x1b[1;35m" not in live(RUN[-1])


def test_no_color_is_respected() -> None:
    stream = Terminal()
    with display(stream, {"TERM": "xterm-256color", "NO_COLOR": "1", "COLUMNS": "80", "LINES": "40"}) as shown:
        for event in RUN:
            shown.show(event)
    for colour in ("\x1b[32m", "\x1b[31m", "\x1b[1;35m", "\x1b[36m"):
        assert colour not in stream.getvalue()


@pytest.mark.parametrize("environment", [{}, {"TERM": "dumb"}, {"TERM": "xterm", "CI": "true"}])
def test_an_incapable_terminal_gets_plain_lines(environment: dict[str, str]) -> None:
    assert isinstance(display(Terminal(), environment), PlainDisplay)


def test_a_pipe_gets_plain_lines() -> None:
    assert isinstance(display(io.StringIO(), {"TERM": "xterm"}), PlainDisplay)


def test_a_terminal_gets_the_live_display() -> None:
    assert isinstance(display(Terminal(), {"TERM": "xterm"}), LiveDisplay)


def test_without_rich_a_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert isinstance(display(Terminal(), {"TERM": "xterm"}), PlainDisplay)


def test_a_log_handler_made_before_is_heard_and_gets_its_stream_back() -> None:
    stream = Terminal()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with display(stream, {"TERM": "xterm", "COLUMNS": "80", "LINES": "40"}) as shown:
            shown.show(RunStarted("churn", STAGES))
            assert handler.stream is not stream
            logging.getLogger("paritygate.test").warning("a warning in between")
        assert handler.stream is stream
    finally:
        root.removeHandler(handler)
    assert "a warning in between" in stream.getvalue()


def test_control_characters_of_messages_do_not_reach_the_screen() -> None:
    events = (RunStarted("m", ("Capture",)), StageStarted("Capture"), StageProgress("Capture", "x\x1b[2Jy\nz"))
    assert "\x1b[2J" not in "".join(plain(*events))
    assert "\x1b[2J" not in live(*events)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (12.4, "12 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s")]
)
def test_lengths_of_time_are_short(seconds: float, said: str) -> None:
    assert length(seconds) == said


def test_an_error_without_a_report_says_what_happened_and_what_to_do() -> None:
    broken = RunFinished(Verdict.ERROR, message="It broke.\nMend it.", next_step="paritygate run x", reason="Broken")
    said = progress.outcome(broken)
    assert said == "! ERROR: Broken\n\n  It broke.\n  Mend it.\n\n  Next  paritygate run x\n"
