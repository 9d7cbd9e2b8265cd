"""Asks a served model without pause, over connections that are kept and over new ones, and counts what goes wrong.

    python load.py --url http://HOST:PORT/PATH --body FILE [--rate 100] [--connections 8] [--seconds 120]

Runs in a pod, with nothing but the standard library. Each of the two ways asks `--rate` times a second, at times that
are set beforehand, so that slow answers do not thin out what is asked. At SIGTERM, or after `--seconds`, one line of
JSON says how it went, and the exit status is 0 whatever was counted.

An answer other than 200, a connection that is refused or reset, and silence for `--patience` seconds are failures. None
is tried again.
"""

import argparse
import hashlib
import http.client
import itertools
import json
import signal
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

REVISION = "x-model-revision"
KEPT_FAILURES = 50


@dataclass
class Answers:
    """Answers of one revision."""

    count: int = 0
    first: float = 0.0
    """When the first request was sent that it answered; seconds of Unix time."""
    last: float = 0.0
    """When the last one was."""
    bodies: list = field(default_factory=list)
    """Digests of the different answers; the request is always the same."""


@dataclass
class Tally:
    """What came of one way of asking."""

    sent: int = 0
    answered: int = 0
    failed: int = 0
    failures: list = field(default_factory=list)
    """The first ones: when each was sent, and what happened."""
    last_failure: float = 0.0
    revisions: dict = field(default_factory=dict)
    went_back: int = 0
    """How often one that asks in turn met a revision again after another one: a flip happens once."""
    connections: int = 0
    slowest: float = 0.0
    """Longest wait for an answer, in seconds."""


class Asking:
    """One way of asking, by several threads that share a timetable and a tally."""

    def __init__(self, options, address, keep):
        self.tally = Tally()
        self._options, self._address, self._keep = options, address, keep
        self._body = Path(options.body).read_bytes()
        self._path = urlsplit(options.url).path
        self._lock = threading.Lock()
        self._turns = itertools.count()
        threads = options.connections if keep else 4 * options.connections
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(threads)]

    def start(self, begins, ends):
        self._begins, self._ends = begins, ends
        for thread in self._threads:
            thread.start()

    def join(self):
        for thread in self._threads:
            thread.join(2 * self._options.patience)

    def _ask(self):
        connection, seen = None, []
        while True:
            with self._lock:
                due = self._begins + next(self._turns) / self._options.rate
            if self._ends.wait(max(0.0, due - time.monotonic())):
                break
            if connection is None:
                connection = http.client.HTTPConnection(*self._address, timeout=self._options.patience)
            if connection.sock is None:  # also where the server asked for the end of the one before
                with self._lock:
                    self.tally.connections += 1
            sent, began = time.time(), time.monotonic()
            try:
                status, revision, body = self._answer(connection)
                problem = None if status == http.HTTPStatus.OK else f"{status}: {body[:200].decode(errors='replace')}"
            except (OSError, http.client.HTTPException) as error:
                problem, revision, body = f"{type(error).__name__}: {error}", None, b""
            if problem or not self._keep:
                connection.close()
                connection = None
            self._count(sent, time.monotonic() - began, problem, revision, body, seen)
        if connection is not None:
            connection.close()

    def _answer(self, connection):
        headers = {"Content-Type": "application/json", "Connection": "keep-alive" if self._keep else "close"}
        connection.request("POST", self._path, self._body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers.get(REVISION, "none"), answer.read()

    def _count(self, sent, took, problem, revision, body, seen):
        with self._lock:
            tally = self.tally
            tally.sent += 1
            tally.slowest = max(tally.slowest, took)
            if problem is not None:
                tally.failed += 1
                tally.last_failure = max(tally.last_failure, sent)
                if len(tally.failures) < KEPT_FAILURES:
                    tally.failures.append({"at": sent, "after": round(took, 3), "problem": problem})
                return
            tally.answered += 1
            found = tally.revisions.setdefault(revision, Answers(first=sent))
            found.count += 1
            found.first, found.last = min(found.first, sent), max(found.last, sent)
            digest = hashlib.sha256(body).hexdigest()[:16]
            if digest not in found.bodies and len(found.bodies) < 5:
                found.bodies.append(digest)
            if revision in seen[:-1] and revision != seen[-1]:
                tally.went_back += 1
            if not seen or seen[-1] != revision:
                seen.append(revision)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--body", required=True)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--patience", type=float, default=10.0)
    options = parser.parse_args()
    where = urlsplit(options.url)
    # Once: names are not under test, and an address of a Service stays.
    address = socket.getaddrinfo(where.hostname, where.port or 80, type=socket.SOCK_STREAM)[0][4][:2]
    ends = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ends.set())
    ways = {name: Asking(options, address, keep) for name, keep in (("kept", True), ("new", False))}
    begins = time.monotonic() + 0.1
    for way in ways.values():
        way.start(begins, ends)
    print(json.dumps({"event": "started", "at": time.time()}), flush=True)
    ends.wait(options.seconds)
    ends.set()
    for way in ways.values():
        way.join()
    told = {name: asdict(way.tally) for name, way in ways.items()}
    print(json.dumps({"event": "ended", "seconds": time.monotonic() - begins, **told}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
