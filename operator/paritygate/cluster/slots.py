"""Fairness: how many migrations may have work at hand, over all and in one namespace; the others wait, oldest first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from itertools import count, islice

from paritygate.cluster.keys import Key
from paritygate.cluster.settings import Caps


class Slots:
    """Who has work at hand. What runs is read from the cluster each time, so that a restart forgets nobody."""

    def __init__(self, caps: Caps, wake: Callable[[Key], None]) -> None:
        self._caps, self._wake = caps, wake
        self._held: dict[str, set[Key]] = defaultdict(set)
        self._waiting: dict[str, dict[Key, tuple[int, str]]] = defaultdict(dict)
        """With what each was told: one that waits is not told anew whenever another starts or ends."""
        self._outlived: set[Key] = set()
        """Without a slot, but with a Job that kept somebody waiting: of migrations that are deleted or cannot go on."""
        self._turn = count()
        self._number = 0

    def ask(self, key: Key, active: AbstractSet[Key]) -> str | None:
        """None = `key` has a slot, and keeps it until `release`; else why it must wait."""
        if key not in self._held[key.namespace]:
            said = None if key in active else self._full(key, active)
            if said is not None:
                return self._wait(key, said)
            self._held[key.namespace].add(key)
            self._number += 1
        self._waiting[key.namespace].pop(key, None)
        return None

    def release(self, key: Key) -> None:
        """`key` needs no slot now; those who wait longest are woken."""
        self._waiting[key.namespace].pop(key, None)
        if key in self._held[key.namespace]:
            self._held[key.namespace].discard(key)
            self._number -= 1
        elif key not in self._outlived:
            return
        self._outlived.discard(key)
        ready = [
            (turn, other)
            for namespace, waiting in self._waiting.items()
            for other, (turn, _) in islice(waiting.items(), min(self.free, self._room(namespace)))
        ]
        for _, other in sorted(ready)[: self.free]:
            self._wake(other)

    def _wait(self, key: Key, said: str) -> str:
        ahead = sum(map(len, self._waiting.values()))
        told = f"{said}, after {ahead} that asked before it" if ahead else said
        return self._waiting[key.namespace].setdefault(key, (next(self._turn), told))[1]

    @property
    def free(self) -> int:
        """Slots that nobody holds."""
        return max(0, self._caps.active_runs - self._number)

    @property
    def held(self) -> int:
        """Slots in use."""
        return self._number

    def _room(self, namespace: str) -> int:
        return max(0, self._caps.active_runs_per_namespace - len(self._held[namespace]))

    def _full(self, key: Key, active: AbstractSet[Key]) -> str | None:
        caps = self._caps
        others = [other for other in active if other not in self._held[other.namespace]]
        self._outlived.update(others)
        if self._number + len(others) >= caps.active_runs:
            taken = self._number + len(others)
            return f"{taken} of {caps.active_runs} runs are active in this cluster; this one starts when one ends"
        there = len(self._held[key.namespace]) + sum(other.namespace == key.namespace for other in others)
        if there >= caps.active_runs_per_namespace:
            return (
                f"{there} of {caps.active_runs_per_namespace} runs are active in namespace {key.namespace}; "
                "this one starts when one ends"
            )
        return None
