"""The Grafana dashboard of the chart, from a table of what it shows.

Its form is that of Grafana 9 and newer: https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

_COLUMNS: Final = 24
_HEIGHT: Final = 8
_LOW: Final = 4
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_OF: Final = 'job="$job", namespace="$namespace"'
"""The series of one release: two may be in one cluster."""


@dataclass(frozen=True)
class _Panel:
    title: str
    description: str
    kind: str
    unit: str
    queries: dict[str, str]
    """Legend → expression, in which OF stands for what selects the release."""
    width: int = 8


_WAITS: Final = "sum by (le) (rate(paritygate_queue_wait_seconds_bucket{OF}[5m]))"
_STAT: Final = "stat"
_TIME: Final = "timeseries"
_ROWS: Final[dict[str, tuple[_Panel, ...]]] = {
    "Is anything wrong?": (
        _Panel("Leads", "Replicas that lead: one, or migrations stand still.", _STAT, "none",
               {"": "sum(paritygate_leading{OF})"}, 4),
        _Panel("Not serving", "Promoted models that do not serve as they should.", _STAT, "none",
               {"": "sum(paritygate_unavailable_migrations{OF}) or vector(0)"}, 4),
        _Panel("Stalled", "Migrations that go on only when somebody changes something.", _STAT, "none",
               {"": "sum(paritygate_stalled_migrations{OF}) or vector(0)"}, 4),
        _Panel("At work", "Migrations with work at hand.", _STAT, "none", {"": "max(paritygate_active_runs{OF})"}, 4),
        _Panel("Since the last listing", "Everything is listed anew every `resync`.", _STAT, "s",
               {"": "time() - max(paritygate_last_listing_timestamp_seconds{OF} > 0)"}, 4),
        _Panel("Version", "Of each replica.", _STAT, "none",
               {"{{version}}": "count by (version) (paritygate_build_info{OF})"}, 4),
    ),
    "Migrations": (
        _Panel("By reason of Ready", "Where migrations stand.", _TIME, "none",
               {"{{reason}}": "sum by (reason) (paritygate_migrations{OF})"}, 12),
        _Panel("Stalled, by reason", "The reference of reasons says what to do about each.", _TIME, "none",
               {"{{reason}}": "sum by (reason) (paritygate_stalled_migrations{OF})"}, 12),
        _Panel("Verdicts", "Reached within the hour before.", _TIME, "none",
               {"{{result}}": "sum by (result) (increase(paritygate_verdicts_total{OF}[1h]))"}),
        _Panel("Attempts started", "Within the hour before; Assess stands for a convert Job.", _TIME, "none",
               {"{{stage}}": "sum by (stage) (increase(paritygate_stage_starts_total{OF}[1h]))"}),
        _Panel("How long attempts take", "90th percentile within six hours, of those that ended so.", _TIME, "s",
               {"{{stage}} {{state}}": "histogram_quantile(0.9, sum by (le, stage, state) "
                                       "(rate(paritygate_stage_seconds_bucket{OF}[6h])))"}),
    ),
    "The operator": (
        _Panel("Queue", "Migrations that wait for a worker, and since when the oldest does.", _TIME, "none",
               {"waiting": "max(paritygate_queue_depth{OF})", "oldest, s": "max(paritygate_queue_oldest_seconds{OF})"}),
        _Panel("Waiting for a worker", "Of looks at migrations.", _TIME, "s",
               {f"{part} %": f"histogram_quantile(0.{part}, {_WAITS})" for part in (50, 90, 99)}),
        _Panel("Reconciles", "A second, by how they ended, and those that are tried again.", _TIME, "ops",
               {"{{result}}": "sum by (result) (rate(paritygate_reconcile_seconds_count{OF}[5m]))",
                "tried again": "sum(rate(paritygate_queue_retries_total{OF}[5m]))"}),
        _Panel("Requests to the API server", "A second, by verb and resource.", _TIME, "reqps",
               {"{{verb}} {{resource}}": "sum by (verb, resource) (rate(paritygate_api_requests_total{OF}[5m]))"}),
        _Panel("Requests that failed", "A second, by status; 0 = no answer, 409 is routine.", _TIME, "reqps",
               {"{{status}}": 'sum by (status) (rate(paritygate_api_requests_total{OF, status!~"2.."}[5m]))'}),
        _Panel("Changes that no event told of", "Within the hour before; many say that watches fail.",
               _TIME, "none", {"": "sum(increase(paritygate_listing_repairs_total{OF}[1h]))"}),
        _Panel("Memory", "Of each replica.", _TIME, "bytes", {"{{pod}}": "process_resident_memory_bytes{OF}"}, 12),
        _Panel("Processor", "Cores, of each replica.", _TIME, "none",
               {"{{pod}}": "rate(process_cpu_seconds_total{OF}[5m])"}, 12),
    ),
}  # fmt: skip
_GOOD: Final = {"Leads": (None, "red", 1, "green"), "Not serving": (None, "green", 1, "red"),
                "Stalled": (None, "green", 1, "orange")}  # fmt: skip
"""From which value on a number has which colour."""


def dashboard() -> str:
    """The dashboard as JSON."""
    found = {
        "uid": "paritygate-operator",
        "title": "ParityGate",
        "description": "Migrations of machine-learning models, and the operator that carries them out.",
        "tags": ["paritygate"],
        "schemaVersion": 38,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "timezone": "",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "links": [],
        "panels": _panels(),
    }
    return json.dumps(found, indent=2) + "\n"


def _variables() -> list[dict[str, Any]]:
    source: dict[str, Any] = {
        "name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus",
        "current": {}, "hide": 0, "refresh": 1,
    }  # fmt: skip
    queries = {
        "namespace": "label_values(paritygate_build_info, namespace)",
        "job": 'label_values(paritygate_build_info{namespace="$namespace"}, job)',
    }
    return [source] + [
        {"name": name, "label": name.capitalize(), "type": "query", "datasource": _DATASOURCE, "definition": query,
         "query": {"query": query, "refId": name}, "current": {}, "hide": 0, "refresh": 2, "sort": 1}
        for name, query in queries.items()
    ]  # fmt: skip


def _panels() -> list[dict[str, Any]]:
    numbers, found, top = count(1), [], 0
    for title, panels in _ROWS.items():
        place = {"x": 0, "y": top, "w": _COLUMNS, "h": 1}
        found.append(
            {"id": next(numbers), "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        )
        top, left = top + 1, 0
        height = _LOW if panels[0].kind == _STAT else _HEIGHT
        for panel in panels:
            if left + panel.width > _COLUMNS:
                top, left = top + height, 0
            place = {"x": left, "y": top, "w": panel.width, "h": height}
            found.append({"id": next(numbers), "gridPos": place, **_panel(panel)})
            left += panel.width
        top += height
    return found


def _panel(panel: _Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.title in _GOOD:
        low, below, high, above = _GOOD[panel.title]
        steps = [{"value": low, "color": below}, {"value": high, "color": above}]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    named = panel.title == "Version"
    options: dict[str, Any] = (
        {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
         "textMode": "name" if named else "value", "colorMode": "value", "graphMode": "none"}
        if panel.kind == _STAT
        else {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
              "tooltip": {"mode": "multi"}}
    )  # fmt: skip
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": _DATASOURCE, "expr": expression.replace("OF", _OF),
             "legendFormat": legend}
            for index, (legend, expression) in enumerate(panel.queries.items())
        ],
    }  # fmt: skip
