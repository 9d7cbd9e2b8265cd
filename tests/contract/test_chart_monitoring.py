"""What the chart brings for Prometheus and Grafana speaks of metrics that there are, in words that both understand."""

import json
import re
from itertools import combinations

import promql_parser as promql
import pytest
import yaml

from control_plane.chart import CHART, MONITORED, PINNED, of_kind, render
from paritygate.handlers.health import OLDEST_KEY

REFERENCE = CHART.parents[1] / "docs/reference/operator-metrics.md"
BY_PROMETHEUS = {"job", "namespace", "pod", "le"}
"""Labels that the ServiceMonitor brings, and that of histograms."""
SEVERITIES = {"critical", "warning", "info"}
RENDERED = PINNED | MONITORED


def exported():
    """Labels by name of series, as the reference has them; tests/unit/handlers holds it to the code."""
    found = {}
    for line in REFERENCE.read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) != 4 or not re.match(r"`(paritygate|process)_", cells[0]):
            continue
        labels = set(re.findall(r"`(\w+)`", cells[2]))
        for name in re.findall(r"`(\w+)`", cells[0]):
            ends = ("_bucket", "_sum", "_count") if cells[1] == "histogram" else ("",)
            found |= {name + end: labels for end in ends}
    return found


def dashboard():
    (found,) = (one for one in of_kind(render(RENDERED), "ConfigMap") if "paritygate.json" in one["data"])
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"grafana_folder": "Models"}
    return json.loads(found["data"]["paritygate.json"])


def rules():
    (found,) = of_kind(render(RENDERED), "PrometheusRule")
    assert found["metadata"]["labels"]["release"] == "prometheus"
    return [rule for group in found["spec"]["groups"] for rule in group["rules"]]


def expressions():
    """All of them, by where they stand; as Prometheus gets them, what is to be filled in filled in."""
    text = (CHART / "files" / "alerts.yaml").read_text()
    of = 'job="pg-paritygate-metrics", namespace="paritygate"'
    text = text.replace("SELECTOR", of).replace("LISTING_SECONDS", "1200")
    found = {f"alert {rule['alert']}": rule["expr"] for rule in yaml.safe_load(text)["groups"][0]["rules"]}
    text = (CHART / "files" / "dashboard.json").read_text()
    text = text.replace("$job", "pg-paritygate-metrics").replace("$namespace", "paritygate")
    for panel in json.loads(text)["panels"]:
        found |= {f"panel {panel['title']} {one['refId']}": one["expr"] for one in panel.get("targets", ())}
    return found


EXPRESSIONS = expressions()


def selectors(expression):
    """Every vector selector of an expression, and the labels that it is aggregated by."""
    found, by = [], set()

    def visit(node):
        if isinstance(node, promql.VectorSelector):
            found.append(node)
        if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            by.update(node.modifier.labels)
        return True

    promql.walk(promql.parse(expression), visit)
    return found, by


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_expressions_speak_of_metrics_and_labels_that_there_are(expression):
    known = exported()
    found, by = selectors(expression)
    assert found
    for one in found:
        named = {matcher.name for matcher in one.matchers.matchers}
        assert one.name in known, "no such metric"
        assert named <= known[one.name] | BY_PROMETHEUS
        assert {"job", "namespace"} <= named, "another release's series would be counted as well"
        assert by <= known[one.name] | BY_PROMETHEUS


def test_what_is_rendered_is_what_was_looked_at():
    assert {rule["expr"] for rule in rules()} <= set(EXPRESSIONS.values())
    assert sum(len(panel.get("targets", ())) for panel in dashboard()["panels"]) + len(rules()) == len(EXPRESSIONS)


def test_a_rule_says_what_happened_how_bad_it_is_and_what_to_do():
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert rule["labels"]["severity"] in SEVERITIES
        assert promql.parse_duration(rule["for"]).total_seconds() >= 60
        assert set(rule["annotations"]) == {"summary", "description"}
        _, by = selectors(rule["expr"])
        said = " ".join(rule["annotations"].values())
        assert set(re.findall(r"\$labels\.(\w+)", said)) <= by
        assert "SELECTOR" not in rule["expr"]
        assert "LISTING_SECONDS" not in rule["expr"]


def test_a_stuck_migration_is_told_before_the_kubelet_starts_the_operator_anew():
    (stuck,) = (rule for rule in rules() if rule["alert"] == "ParityGateMigrationStuck")
    allowed = float(stuck["expr"].rsplit(">", 1)[1]) + promql.parse_duration(stuck["for"]).total_seconds()
    assert allowed < OLDEST_KEY


@pytest.mark.parametrize(("resync", "late"), [(None, 1200), ("1m30s", 180), ("2h", 14400)])
def test_a_late_listing_is_told_by_how_often_everything_is_listed(resync, late):
    values = RENDERED | ({"config": {"resync": resync}} if resync else {})
    (found,) = of_kind(render(values), "PrometheusRule")
    (rule,) = (r for r in found["spec"]["groups"][0]["rules"] if r["alert"] == "ParityGateListingLate")
    assert rule["expr"].endswith(f"> {late}")
    # Told before the kubelet starts the operator anew, which is when its probe finds three times `resync` passed.
    assert late + promql.parse_duration(rule["for"]).total_seconds() < 1.5 * late


def test_series_may_be_selected_otherwise():
    alerts = {"enabled": True, "selector": 'job="kubernetes-pods", namespace="paritygate", app="paritygate"'}
    (found,) = of_kind(render(PINNED | {"metrics": {"alerts": alerts}}), "PrometheusRule")
    for rule in found["spec"]["groups"][0]["rules"]:
        assert all("kubernetes-pods" in str(one.matchers) for one in selectors(rule["expr"])[0])


def test_prometheus_is_led_to_the_port_of_the_operator():
    objects = render(RENDERED)
    (monitor,), (service,) = of_kind(objects, "ServiceMonitor"), of_kind(objects, "Service")
    (deployment,) = of_kind(objects, "Deployment")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    (port,) = (one for one in service["spec"]["ports"] if one["name"] == endpoint["port"])
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert port["targetPort"] in {one["name"] for one in container["ports"]}
    # What rules and dashboard select by: Prometheus calls a job by its Service.
    assert f'job="{service["metadata"]["name"]}"' in rules()[0]["expr"]


def test_nothing_of_it_is_made_unless_asked_for():
    kinds = {one["kind"] for one in render(PINNED)}
    assert not kinds & {"ServiceMonitor", "PrometheusRule"}
    assert len(of_kind(render(PINNED), "ConfigMap")) == 1


def test_the_dashboard_is_as_grafana_takes_it():
    found = dashboard()
    assert found["schemaVersion"] >= 36, "the first whose data sources are objects"
    assert (found["uid"], found["title"]) == ("paritygate-operator", "ParityGate")
    assert "id" not in found, "Grafana numbers dashboards itself"
    names = [variable["name"] for variable in found["templating"]["list"]]
    assert names == ["datasource", "namespace", "job"], "each is asked with those before it"
    assert found["templating"]["list"][0]["type"] == "datasource"
    source = {"type": "prometheus", "uid": "${datasource}"}
    ids = [panel["id"] for panel in found["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in found["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == source
        assert panel["description"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        assert all(target["datasource"] == source for target in panel["targets"])
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(found)))
    assert used == set(names)


def test_panels_do_not_overlap_and_fit_the_page():
    places = [panel["gridPos"] for panel in dashboard()["panels"]]
    cells = [{(x, y) for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])} for p in places]
    assert all(p["x"] >= 0 and p["x"] + p["w"] <= 24 for p in places)
    assert not any(a & b for a, b in combinations(cells, 2))
