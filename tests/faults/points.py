"""Faults at every write: which writes a migration makes, and which of them were struck."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from faults.proxy import Fault, Request

BEST_EFFORT = ("PATCH modelmigrations/status ", "POST events ")
"""Writes that fall together where the operator comes late, so that not every run makes each of them."""


def labels(writes: Iterable[Request]) -> Counter[str]:
    """How often a run made each write."""
    return Counter(write.label for write in writes)


class Every:
    """Strikes every write of a run once, and lets its repetition pass.

    Args:
        points: the writes of an undisturbed run.
        fault: what each of them meets.
    """

    def __init__(self, points: Counter[str], fault: Fault) -> None:
        self._points, self._fault = points, fault
        self._struck: Counter[str] = Counter()
        self._passed: Counter[str] = Counter()

    def __call__(self, request: Request) -> Fault | None:
        if not request.writes:
            return None
        label = request.label
        strikes = self._struck[label] < self._points[label] and self._struck[label] <= self._passed[label]
        self._struck[label] += strikes
        self._passed[label] += not strikes or self._fault.delivers
        return self._fault if strikes else None

    @property
    def struck(self) -> int:
        """How many writes were."""
        return self._struck.total()

    @property
    def missed(self) -> Counter[str]:
        """Writes that every run makes, and that were not struck."""
        left = self._points - self._struck
        return Counter({label: number for label, number in left.items() if not label.startswith(BEST_EFFORT)})


class Once:
    """A fault at one write of a migration, by its label and the how manieth of these it is; then never again."""

    def __init__(self, label: str, number: int, fault: Fault) -> None:
        self._label, self._number, self._fault = label, number, fault
        self._seen = 0
        self.struck = False

    def __call__(self, request: Request) -> Fault | None:
        if not request.writes or request.label != self._label or self.struck:
            return None
        self._seen += 1
        self.struck = self._seen == self._number
        return self._fault if self.struck else None
