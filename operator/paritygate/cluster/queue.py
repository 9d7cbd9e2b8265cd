"""Which migrations to look at next: keyed, deduplicating, prioritised, with bounded workers.

What controller-runtime has and kopf lacks. A key that is added while it is being worked on is worked on once more
afterwards, never twice at a time; so a reconcile sees all that happened before it began, and nothing is lost.

Two ways lead back into the queue and are kept apart: an exact time that a plan asked for, and the backoff after an
error. A plan's time neither shortens nor resets the backoff of a key that keeps failing.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)
FIRST_BACKOFF: Final = 0.2
LONGEST_BACKOFF: Final = 300.0


class Priority(IntEnum):
    """What goes first. What people or the cluster just did goes before what a listing or a resync brings up."""

    HIGH = 0
    LOW = 1


class Hooks(Protocol):
    """Told of what the queue does, for metrics."""

    def depth(self, waiting: int) -> None:
        """How many keys wait for a worker."""

    def waited(self, seconds: float) -> None:
        """How long a key waited for a worker."""

    def worked(self, seconds: float, *, failed: bool) -> None:
        """How long a worker was at a key."""

    def retried(self) -> None:
        """A key failed and will be tried again."""


class Silent:
    """Hooks that tell nobody."""

    def depth(self, waiting: int) -> None:
        """Tells nobody."""

    def waited(self, seconds: float) -> None:
        """Tells nobody."""

    def worked(self, seconds: float, *, failed: bool) -> None:
        """Tells nobody."""

    def retried(self) -> None:
        """Tells nobody."""


@dataclass
class _Waiting:
    priority: Priority
    since: float
    order: int


class WorkQueue(Generic[K]):
    """Keys and the workers that take them. For one event loop; `add` may be called from its callbacks.

    Args:
        work: reconciles one key; gives seconds after which to look again, or None. What it raises is retried.
        workers: how many keys are worked on at once.
        spread: a random number from [0, 1), so that keys that failed together do not return together.
        hooks: told of depth, waits and durations.
        failed: told of what `work` raised and of the seconds until the next try.
    """

    def __init__(
        self,
        work: Callable[[K], Awaitable[float | None]],
        *,
        workers: int,
        spread: Callable[[], float],
        hooks: Hooks | None = None,
        failed: Callable[[K, Exception, float], None] | None = None,
    ) -> None:
        self._work, self._workers, self._spread = work, workers, spread
        self._hooks: Hooks = hooks or Silent()
        self._failed = failed or (lambda _key, _error, _seconds: None)
        self._order = itertools.count()
        self._waiting: dict[K, _Waiting] = {}
        self._heap: list[tuple[Priority, int, K]] = []
        self._processing: dict[K, float] = {}
        self._again: dict[K, Priority] = {}
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._retries: dict[K, asyncio.TimerHandle] = {}
        self._some = asyncio.Event()
        self._stopping = False

    def add(self, key: K, priority: Priority = Priority.HIGH) -> None:
        """Has `key` worked on soon. Waiting already, it may only move forward; being worked on, it comes once more."""
        if self._stopping:
            return
        if key in self._processing:
            self._again[key] = min(priority, self._again.get(key, priority))
            return
        there = self._waiting.get(key)
        if there is not None and there.priority <= priority:
            return
        since = there.since if there else self._now()
        entry = _Waiting(priority, since, next(self._order))
        self._waiting[key] = entry
        heapq.heappush(self._heap, (priority, entry.order, key))
        self._tell_depth()
        self._some.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Has `key` worked on at an exact time; of several times the earliest counts."""
        timer = self._timers.get(key)
        due = self._now() + max(0.0, seconds)
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_at(due, self._due, key, self._timers)

    def forget(self, key: K) -> None:
        """Drops what is remembered of a key that is gone: its times and its failures."""
        self._failures.pop(key, None)
        for timers in (self._timers, self._retries):
            timer = timers.pop(key, None)
            if timer is not None:
                timer.cancel()

    async def run(self) -> None:
        """Works until cancelled or stopped; what is being worked on is finished when stopped."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._worker(), name=f"worker-{number}")

    def stop(self) -> None:
        """Takes no more keys; `run` returns once the workers are done with theirs."""
        self._stopping = True
        for timers in (self._timers, self._retries):
            for timer in timers.values():
                timer.cancel()
            timers.clear()
        self._some.set()

    def oldest(self) -> float:
        """Seconds for which the key that waits or is worked on longest has done so; 0 = the queue is empty."""
        times = [*(w.since for w in self._waiting.values()), *self._processing.values()]
        return self._now() - min(times) if times else 0.0

    @property
    def waiting(self) -> int:
        """How many keys wait for a worker."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether no key waits, is worked on, or is to be retried; times that plans asked for do not count."""
        return not (self._waiting or self._processing or self._retries)

    async def _worker(self) -> None:
        while not self._stopping:
            key = self._take()
            if key is None:
                self._some.clear()
                await self._some.wait()
                continue
            await self._process(key)

    def _take(self) -> K | None:
        while self._heap:
            _, order, key = heapq.heappop(self._heap)
            entry = self._waiting.get(key)
            if entry is None or entry.order != order:
                continue  # it moved forward since, or was taken
            del self._waiting[key]
            self._processing[key] = self._now()
            self._hooks.waited(self._now() - entry.since)
            self._tell_depth()
            return key
        return None

    async def _process(self, key: K) -> None:
        # A reconcile sees all that there is: times that were asked for before it are answered by it.
        self._cancel(self._timers, key)
        self._cancel(self._retries, key)
        began, failed = self._now(), True
        try:
            again = await self._work(key)
            failed = False
            self._failures.pop(key, None)
            if again is not None and not self._stopping:
                self.add_after(key, again)
        except Exception as error:  # noqa: BLE001 - whatever a key does, the worker lives and the key comes back
            self._retry(key, error)
        finally:
            del self._processing[key]
            self._hooks.worked(self._now() - began, failed=failed)
            priority = self._again.pop(key, None)
            # A key that fails keeps to its backoff, however many events it causes or receives meanwhile.
            if priority is not None and key not in self._retries:
                self.add(key, priority)

    def _retry(self, key: K, error: Exception) -> None:
        count = self._failures.get(key, 0) + 1
        self._failures[key] = count
        stated = getattr(error, "retry_after", None)
        seconds = max(backoff(count) * self._spread(), stated or 0.0)
        self._hooks.retried()
        self._failed(key, error, seconds)
        if not self._stopping:
            self._retries[key] = asyncio.get_running_loop().call_later(seconds, self._due, key, self._retries)

    def _due(self, key: K, timers: dict[K, asyncio.TimerHandle]) -> None:
        timers.pop(key, None)
        self.add(key, Priority.HIGH)

    @staticmethod
    def _cancel(timers: dict[K, asyncio.TimerHandle], key: K) -> None:
        timer = timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _tell_depth(self) -> None:
        self._hooks.depth(len(self._waiting))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def backoff(failures: int) -> float:
    """The longest wait in seconds after the given number of failures in a row, at least 1.

    The wait is drawn from [0, this]: full jitter, as https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    measures to end contention soonest.
    """
    return min(FIRST_BACKOFF * 2.0 ** min(failures - 1, 30), LONGEST_BACKOFF)
