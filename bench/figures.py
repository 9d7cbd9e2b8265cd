"""Figures of runs as a table."""

from __future__ import annotations

from typing import Any

ROWS = (
    ("migrations", "count"),
    ("caps", "caps"),
    ("observed", "observed"),
    ("start to all observed, s", "all_observed_s"),
    ("CPU s until then", "all_observed_cpu_s"),
    ("promoted", "promoted"),
    ("promoted a second", "promoted_per_s"),
    ("reconciles a second", "reconciles_per_s"),
    ("reconciles a migration", "reconciles_per_promoted"),
    ("Job's end to next write, p50 ms", "event_to_write.p50_ms"),
    ("Job's end to next write, p99 ms", "event_to_write.p99_ms"),
    ("writes a migration", "writes_per_promoted"),
    ("most writes for one migration", "writes_most"),
    ("peak RSS, MiB", "peak_rss_mib"),
    ("peak PSS, MiB", "peak_pss_mib"),
    ("RSS at rest, MiB", "rest.rss_mib"),
    ("CPU s", "cpu_s"),
    ("CPU ms a migration", "cpu_ms_per_promoted"),
    ("share of one core", "cpu_share"),
    ("share of the stand-in", "standin_cpu_share"),
    ("CPU s at rest", "rest.cpu_s"),
    ("restart to all looked at, s", "restart.all_looked_at_s"),
    ("RSS after restart, MiB", "restart.rss_mib"),
)
"""Titles, and where the figure lies in a run."""


def table(runs: list[dict[str, Any]]) -> str:
    """Figures as a table, one column for each run."""
    rows = [(title, [_found(one, path) for one in runs]) for title, path in ROWS]
    lines = [f"{title:<34}" + "".join(f"{_shown(value):>12}" for value in values) for title, values in rows]
    for one in runs:
        head = f"{one['count']} {one['caps']}"
        lines.append(f"{head}: writes " + ", ".join(f"{k} {v}" for k, v in one["writes_by_kind"].items()))
        spread = ", ".join(f"{number} for {many}" for number, many in one["writes_spread"].items())
        lines.append(f"{head}: writes so far {spread} migrations")
        lines.append(f"{head}: other requests " + ", ".join(f"{k} {v}" for k, v in one["other_requests"].items()))
        if "rest" in one:
            told = ", ".join(f"{k} {v}" for k, v in one["rest"]["requests"].items()) or "nothing"
            again = ", ".join(f"{k} {v}" for k, v in one["restart"]["writes"].items())
            lines.append(f"{head}: writes after a restart {again or 'none'}")
            lines.append(f"{head}: in {one['rest']['seconds']:.0f} s at rest {told}")
    return "\n".join(lines)


def _found(one: Any, path: str) -> Any:
    for part in path.split("."):
        one = one.get(part) if one else None
    return one


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"
