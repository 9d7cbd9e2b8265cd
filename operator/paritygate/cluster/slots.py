"""Fairness: how many migrations may have work at hand, over all and in one namespace; the others wait, oldest first."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet

from paritygate.cluster.keys import Key
from paritygate.cluster.settings import Caps


class Slots:
    """Who has work at hand. What runs is read from the cluster each time, so that a restart forgets nobody."""

    def __init__(self, caps: Caps, wake: Callable[[Key], None]) -> None:
        self._caps, self._wake = caps, wake
        self._held: set[Key] = set()
        self._waiting: dict[Key, None] = {}

    def ask(self, key: Key, active: AbstractSet[Key]) -> str | None:
        """None = `key` has a slot, and keeps it until `release`; else why it must wait."""
        taken = self._held | active
        if key not in taken:
            said = self._full(key, taken)
            if said is not None:
                self._waiting.setdefault(key)
                return said
        self._held.add(key)
        self._waiting.pop(key, None)
        return None

    def release(self, key: Key) -> None:
        """`key` needs no slot now; those who wait longest are woken."""
        self._waiting.pop(key, None)
        if key not in self._held:
            return
        self._held.discard(key)
        for other in [k for k in self._waiting if self._full(k, self._held) is None][: self.free]:
            self._wake(other)

    @property
    def free(self) -> int:
        """Slots that nobody holds."""
        return max(0, self._caps.active_runs - len(self._held))

    @property
    def held(self) -> int:
        """Slots in use."""
        return len(self._held)

    def _full(self, key: Key, taken: AbstractSet[Key]) -> str | None:
        caps = self._caps
        if len(taken) >= caps.active_runs:
            return f"{len(taken)} of {caps.active_runs} runs are active in this cluster; this one starts when one ends"
        there = sum(other.namespace == key.namespace for other in taken)
        if there >= caps.active_runs_per_namespace:
            return (
                f"{there} of {caps.active_runs_per_namespace} runs are active in namespace {key.namespace}; "
                "this one starts when one ends"
            )
        return None
