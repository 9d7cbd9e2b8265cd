"""Every line of the log is one JSON object with the keys that the reference lists."""

import io
import json
import logging
import re
import sys
import warnings
from pathlib import Path

import pytest

from paritygate.handlers import logs

REFERENCE = Path(__file__).parents[3] / "docs/reference/operator-metrics.md"


@pytest.fixture
def written(monkeypatch):
    """`written()` gives all lines of the log."""
    root, quiet = logging.getLogger(), [logging.getLogger(name) for name in ("kopf", "aiohttp.access", "asyncio")]
    before = root.handlers[:], root.level, [one.level for one in quiet]
    root.handlers[:] = []  # pytest's own would be closed
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure()
    (handler,) = root.handlers
    root.handlers[:] = before[0]
    root.addHandler(handler)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logging.captureWarnings(capture=False)
    root.removeHandler(handler)
    root.setLevel(before[1])
    for one, level in zip(quiet, before[2], strict=True):
        one.setLevel(level)


def test_a_line_has_the_keys_that_are_known_and_no_others(written):
    logging.getLogger("paritygate.x").info("%d of %d", 1, 2, extra=logs.keys(namespace="ns", name="m", attempt=2))
    (line,) = written()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line.pop("time"))
    assert line == {
        "level": "info", "logger": "paritygate.x", "message": "1 of 2", "namespace": "ns", "name": "m", "attempt": 2,
    }  # fmt: skip


def test_everything_is_one_line_whoever_says_it(written):
    logging.getLogger("kopf.objects").warning("first\nsecond")
    logging.getLogger("aiohttp.server").error("Error handling request")
    with warnings.catch_warnings():
        logging.captureWarnings(capture=False)
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("careful", UserWarning, stacklevel=1)
    try:
        _ = {}["missing"]
    except KeyError:
        logging.getLogger("paritygate").exception("a defect")
    lines = written()
    assert [line["logger"] for line in lines] == ["kopf.objects", "aiohttp.server", "py.warnings", "paritygate"]
    assert lines[0]["message"] == "first\nsecond"
    assert "KeyError: 'missing'" in lines[3]["exception"]


def test_what_kopf_says_of_every_event_is_left_out(written):
    logging.getLogger("kopf.objects").info("Handler 'observe-jobs' succeeded.")
    logging.getLogger("aiohttp.access").info("GET /livez")
    assert written() == []


def test_a_value_that_json_does_not_know_is_written_as_text(written):
    logging.getLogger("x").info("m", extra=logs.keys(uid=Path("a")))
    assert written()[0]["uid"] == "a"


def test_a_key_that_is_not_fixed_is_refused():
    with pytest.raises(KeyError, match="secret: log lines have the keys namespace, name"):
        logs.keys(namespace="ns", secret="s")


def test_a_key_never_takes_the_place_of_what_logging_has():
    record = logging.LogRecord("paritygate", logging.INFO, "f", 1, "m", (), None)
    record.__dict__.update(logs.keys(name="churn"))
    assert json.loads(logs.JsonFormatter().format(record))["logger"] == "paritygate"


def test_the_reference_lists_every_key():
    listed = re.findall(r"^\| `(\w+)` \| (?:every line|about|where|a defect)", REFERENCE.read_text(), re.MULTILINE)
    assert listed == ["time", "level", "logger", "message", *logs.KEYS, "exception"]


def test_a_connection_does_not_show_its_credentials_when_it_is_printed():
    from paritygate.cluster.connection import Connection

    shown = repr(Connection("https://x", "ns", certificate=b"C", key=b"hidden-key", token="hidden-token"))
    assert "hidden" not in shown
