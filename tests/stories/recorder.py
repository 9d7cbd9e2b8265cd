"""Watches a namespace and keeps everything that was written there, in the order in which it was written."""

import asyncio
import json
import ssl
import threading
from dataclasses import dataclass
from typing import Any, Final, Self

import aiohttp

from control_plane.client import Client, path_of
from control_plane.plane import ControlPlane
from paritygate import clock

Object = dict[str, Any]
MIGRATION: Final = "ModelMigration"
WATCHED: Final = (MIGRATION, "Job", "Deployment", "Service", "Event")
TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"
"""What kubectl asks for: the server then prints the columns that the CRD states."""
_QUIET_SECONDS: Final = 1.5
_POLL_SECONDS: Final = 0.02
_CLOSE_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Seen:
    """One write, as a watch told of it, or something that a person did."""

    version: int
    """Of the store when it was written: versions order the writes of all kinds."""
    kind: str
    """Of the object; `User` = a person did what `text` says."""
    event: str = ""
    """ADDED, MODIFIED or DELETED."""
    item: Object | None = None
    row: tuple[tuple[str, str], ...] = ()
    """Of a migration: what kubectl prints, column by column."""
    text: str = ""

    @property
    def name(self) -> str:
        """Of the object; empty where there is none."""
        return "" if self.item is None else str(self.item["metadata"]["name"])


class Recorder:
    """Everything that is written to a namespace while it is entered."""

    def __init__(self, plane: ControlPlane, api: Client, namespace: str) -> None:
        self._plane, self._api, self._namespace = plane, api, namespace
        self._seen: list[Seen] = []
        self._changed = threading.Condition()
        self._last = clock.monotonic()
        self._failure: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._from = self._version()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join()
        self._loop.close()
        if self._failure is not None:
            raise self._failure

    def notes(self, text: str) -> None:
        """What a person does next. Call it once everything is quiet."""
        self._keep(Seen(self._version(), "User", text=text))

    def story(self) -> list[Seen]:
        """All writes so far, in order."""
        with self._changed:
            # What a person did comes after everything that was written until then.
            return sorted(self._seen, key=lambda seen: (seen.version, seen.kind == "User"))

    def until_quiet(self, seconds: float = 120) -> None:
        """Returns once all that was written was heard of, and nothing more comes. AssertionError: something does."""
        ends = clock.monotonic() + seconds
        while not (clock.monotonic() > self._last + _QUIET_SECONDS and self._is_up_to_date()):
            assert self._failure is None, self._failure
            assert clock.monotonic() < ends, f"something is still written, or not heard of, after {seconds} s"
            threading.Event().wait(_POLL_SECONDS)

    def until_told(self, reason: str, seconds: float = 120) -> None:
        """Returns once the operator told of this since a person last did something. AssertionError: it does not."""

        def told() -> bool:
            since = max(number for number, seen in enumerate(self._seen) if seen.kind == "User")
            return any(s.kind == "Event" and s.item["reason"] == reason for s in self._seen[since:])

        with self._changed:
            assert self._changed.wait_for(told, seconds), f"no event {reason} after {seconds} s"

    def _is_up_to_date(self) -> bool:
        """Whether the watches, which may lag behind on a busy machine, have told of all that a listing shows."""
        listed = {
            (kind, item["metadata"]["uid"]): int(item["metadata"]["resourceVersion"])
            for kind in WATCHED
            for item in self._api.list(kind, self._namespace)
        }
        with self._changed:
            known = {(s.kind, s.item["metadata"]["uid"]): s for s in self._seen if s.item is not None}
        there = {key: seen.version for key, seen in known.items() if seen.event != "DELETED"}
        # What was there before the watches began was never told of.
        return there.keys() <= listed.keys() and all(
            version <= max(self._from, there.get(key, 0)) for key, version in listed.items()
        )

    def latest(self, name: str) -> Object | None:
        """A migration as last seen; None = there is none."""
        with self._changed:
            last = next((s for s in reversed(self._seen) if s.kind == MIGRATION and s.name == name), None)
        return None if last is None or last.event == "DELETED" else last.item

    def _version(self) -> int:
        listed = self._api.request("GET", path_of(MIGRATION, self._namespace), limit="1")
        return int(listed["metadata"]["resourceVersion"])

    def _keep(self, seen: Seen) -> None:
        with self._changed:
            self._seen.append(seen)
            self._last = clock.monotonic()
            self._changed.notify_all()

    def _serve(self) -> None:
        self._main = self._loop.create_task(self._watch_all())
        try:
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised where the test waits or leaves us
            with self._changed:
                self._failure = error
                self._changed.notify_all()
        finally:
            # Connections are closed in the loop's next rounds; what is left is the pipe by which the loop wakes itself.
            ends = clock.monotonic() + _CLOSE_SECONDS
            while len(self._loop._selector.get_map()) > 1 and clock.monotonic() < ends:
                self._loop.run_until_complete(asyncio.sleep(_POLL_SECONDS))
            self._loop.run_until_complete(asyncio.sleep(_POLL_SECONDS))

    async def _watch_all(self) -> None:
        context = ssl.create_default_context(cafile=str(self._plane.authority))
        if self._plane.certificate:
            context.load_cert_chain(*map(str, self._plane.certificate))
        headers = {"Authorization": f"Bearer {self._plane.token}"} if self._plane.token else {}
        timeout = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(ssl=context)
        async with (
            aiohttp.ClientSession(self._plane.url, connector=connector, headers=headers, timeout=timeout) as http,
            asyncio.TaskGroup() as tasks,
        ):
            for kind in WATCHED:
                tasks.create_task(self._watch(http, kind))

    async def _watch(self, http: aiohttp.ClientSession, kind: str) -> None:
        parameters = {"watch": "true", "resourceVersion": str(self._from), "includeObject": "Object"}
        accept = TABLE if kind == MIGRATION else "application/json"
        columns: list[str] = []
        async with http.get(path_of(kind, self._namespace), params=parameters, headers={"Accept": accept}) as answer:
            rest = b""
            async for piece in answer.content.iter_any():
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    told = event["object"]
                    if event["type"] == "ERROR":
                        raise RuntimeError(f"the watch of {kind}s ended: {told}")
                    if kind == MIGRATION:
                        columns = [c["name"].upper() for c in told.get("columnDefinitions") or ()] or columns
                        (row,) = told["rows"]
                        cells = tuple(zip(columns, map(_cell, row["cells"]), strict=True))
                        self._keep(_seen(kind, event["type"], row["object"], cells))
                    else:
                        self._keep(_seen(kind, event["type"], told))
        raise RuntimeError(f"the watch of {kind}s ended by itself")


def _seen(kind: str, event: str, item: Object, row: tuple[tuple[str, str], ...] = ()) -> Seen:
    return Seen(int(item["metadata"]["resourceVersion"]), kind, event, item, row)


def _cell(value: object) -> str:
    return "" if value is None else str(value)
