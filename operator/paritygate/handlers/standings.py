"""How many migrations stand how, counted whenever Prometheus asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from paritygate.api.status import ConditionType
from paritygate.core.standing import NOTHING_SERVES

_UNSEEN: Final = "Unseen"
"""In place of a reason, where a migration has no status yet."""


class Standings(Collector):
    """Gauges over all migrations, by reasons of their conditions.

    Args:
        migrations: all that are known, as Kubernetes objects.
    """

    def __init__(self, migrations: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
        self._migrations = migrations

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The three gauges."""
        ready: Counter[str] = Counter()
        stalled: Counter[str] = Counter()
        unavailable: Counter[str] = Counter()
        for migration in self._migrations():
            found = {c["type"]: c for c in (migration.get("status") or {}).get("conditions") or ()}
            ready[found.get(ConditionType.READY, {}).get("reason", _UNSEEN)] += 1
            if ConditionType.STALLED in found:
                stalled[found[ConditionType.STALLED]["reason"]] += 1
            serving = found.get(ConditionType.SERVING_AVAILABLE)
            if serving is not None and serving["status"] == "False" and serving["reason"] != NOTHING_SERVES:
                unavailable[serving["reason"]] += 1
        yield _gauge("migrations", "Migrations by the reason of their condition Ready.", ready)
        yield _gauge("stalled_migrations", "Migrations that go on only when somebody changes something.", stalled)
        yield _gauge("unavailable_migrations", "Migrations whose promoted model does not serve.", unavailable)


def _gauge(name: str, what: str, counted: Counter[str]) -> GaugeMetricFamily:
    found = GaugeMetricFamily(f"paritygate_{name}", what, labels=["reason"])
    for reason, number in sorted(counted.items()):
        found.add_metric([reason], number)
    return found
