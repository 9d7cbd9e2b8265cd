"""What Prometheus is told: the names, each event once, and nothing of migrations that are gone."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from control_plane.migrations import migration
from control_plane.scripts import OUT_OF_MEMORY
from doubles.cluster import KEY, NAMESPACE, Cluster, stamp
from paritygate.api.report import Verdict
from paritygate.cluster.keys import Key
from paritygate.errors import Conflict, Unavailable
from paritygate.handlers.metrics import Metrics

REFERENCE = Path(__file__).parents[3] / "docs/reference/operator-metrics.md"


def counted():
    """A cluster whose reconciler tells its metrics."""
    cluster = Cluster()
    cluster.told = Metrics(lambda: cluster.slots.held, migrations=lambda: list(cluster.cache.migrations()))
    cluster.start()
    return cluster


def samples(metrics):
    """Value by name and labels."""
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        f"{s.name}{{{','.join(f'{k}={v}' for k, v in sorted(s.labels.items()))}}}": s.value
        for family in families
        for s in family.samples
        if s.name.startswith("paritygate_") and not s.name.endswith("_bucket")
    }


def of(metrics, name):
    return {key.removeprefix(name): value for key, value in samples(metrics).items() if key.startswith(name + "{")}


def standing_so(name, conditions):
    """A migration with these conditions."""
    told = [{"type": kind, "status": status, "reason": reason} for kind, (status, reason) in conditions.items()]
    return {**migration(NAMESPACE, name), "status": {"conditions": told}} | {
        "metadata": {"namespace": NAMESPACE, "name": name, "uid": name, "resourceVersion": "1"}
    }


def busy():
    """Metrics in which everything happened once."""
    cluster = counted()
    cluster.told.asked("GET", "jobs", 200)
    cluster.told.worked(0.1, failed=False)
    cluster.promote()
    standing = {"Stalled": ("True", "ParityFailed"), "ServingAvailable": ("False", "ServingUnavailable")}
    cluster.cache.apply(None, standing_so("other", standing))
    families = text_string_to_metric_families(cluster.told.text().decode())
    return {f.name + ("_total" if f.type == "counter" else ""): f for f in families}


def documented():
    """Type and labels by name, as the reference lists them."""
    found = {}
    for line in REFERENCE.read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 4 and cells[0].startswith("`") and not cells[0].startswith("`/"):
            for name in re.findall(r"`(\w+)`", cells[0]):
                found[name] = (cells[1], set(re.findall(r"`(\w+)`", cells[2])))
    return found


def test_the_reference_names_every_metric_with_its_type_and_labels_and_no_other():
    exposed = busy()
    assert set(documented()) == set(exposed)
    for name, (kind, labels) in documented().items():
        if name.startswith("paritygate_"):
            assert kind == exposed[name].type
            seen = {label for sample in exposed[name].samples for label in sample.labels} - {"le"}
            assert seen == labels, name


def test_names_follow_the_rules_of_prometheus():
    for name, family in busy().items():
        assert (family.type == "counter") == name.endswith("_total"), name
        assert family.type != "histogram" or name.endswith("_seconds"), name
        assert "_created" not in name


def test_a_promoted_migration_counts_once_however_often_it_is_looked_at():
    cluster = counted()
    cluster.promote()
    for _ in range(3):
        cluster.reconcile()
    assert of(cluster.told, "paritygate_verdicts_total") == {"{result=Passed}": 1}
    assert of(cluster.told, "paritygate_stage_starts_total") == {"{stage=Assess}": 1, "{stage=Validate}": 1}
    assert of(cluster.told, "paritygate_stage_seconds_count") == {
        "{stage=Convert,state=Succeeded}": 1, "{stage=Validate,state=Succeeded}": 1,
    }  # fmt: skip
    assert of(cluster.told, "paritygate_active_runs") == {"{}": 0}


def test_a_failure_counts_for_the_stage_that_it_came_to_and_a_second_verdict_anew():
    cluster = counted()
    cluster.settle()
    cluster.finish(convert=OUT_OF_MEMORY)
    cluster.settle()
    assert of(cluster.told, "paritygate_stage_seconds_count") == {"{stage=Convert,state=Failed}": 1}
    for result, uri in ((Verdict.FAILED, "s3://models/a.pkl"), (Verdict.PASSED, "s3://models/b.pkl")):
        cluster.work.verdict = result
        cluster.edit(source={"format": "SKLearn", "uri": uri})
        for _ in range(2):
            cluster.settle()
            cluster.finish()
        cluster.settle()
    assert of(cluster.told, "paritygate_verdicts_total") == {"{result=Failed}": 1, "{result=Passed}": 1}


def test_what_an_earlier_leader_counted_is_not_counted_again():
    cluster = counted()
    cluster.promote()
    later = Metrics()
    later.leads(cluster.now + timedelta(seconds=1))
    cluster.told = later
    cluster.start()
    cluster.reconcile()
    assert of(later, "paritygate_verdicts_total") == {}
    assert of(later, "paritygate_stage_seconds_count") == {}


def test_how_long_a_stage_took_is_the_time_of_its_job():
    cluster = counted()
    cluster.settle()
    cluster.api.put({**cluster.job, "status": {"startTime": stamp(cluster.now)}})
    cluster.pass_time(90)
    cluster.finish()
    cluster.reconcile()
    assert of(cluster.told, "paritygate_stage_seconds_sum") == {"{stage=Convert,state=Succeeded}": 90}


def test_nothing_is_kept_of_a_migration_that_is_gone():
    cluster = counted()
    cluster.promote()
    before = set(samples(cluster.told))
    assert KEY in cluster.told._told
    cluster.api.drop("ModelMigration", NAMESPACE, "churn")
    cluster.reconcile()
    assert cluster.told._told == {}
    assert set(samples(cluster.told)) == before - {"paritygate_migrations{reason=Promoted}"}
    assert not any("churn" in name for name in before)


def test_requests_are_counted_by_their_answer_and_those_without_one_too():
    metrics = Metrics()
    for status in (200, 200, 409, 0):
        metrics.asked("PATCH", "jobs", status)
    assert of(metrics, "paritygate_api_requests_total") == {
        "{resource=jobs,status=0,verb=PATCH}": 1,
        "{resource=jobs,status=200,verb=PATCH}": 2,
        "{resource=jobs,status=409,verb=PATCH}": 1,
    }


def test_the_queue_tells_its_depth_waits_work_and_retries():
    metrics = Metrics(oldest=lambda: 7.5, leading=lambda: True)
    metrics.depth(3)
    metrics.waited(0.5)
    metrics.worked(2, failed=True)
    metrics.worked(1, failed=False)
    metrics.retried()
    found = samples(metrics)
    assert found["paritygate_queue_depth{}"] == 3
    assert found["paritygate_queue_wait_seconds_sum{}"] == 0.5
    assert found["paritygate_reconcile_seconds_sum{result=error}"] == 2
    assert found["paritygate_reconcile_seconds_sum{result=success}"] == 1
    assert found["paritygate_queue_retries_total{}"] == 1
    assert found["paritygate_queue_oldest_seconds{}"] == 7.5
    assert found["paritygate_leading{}"] == 1


# --- what it says in the log


@pytest.mark.parametrize(
    ("error", "level", "traced"),
    [(Conflict("newer"), "INFO", False), (Unavailable("503"), "WARNING", False), (KeyError("spec"), "ERROR", True)],
    ids=["a conflict is routine", "the surroundings", "a defect is told with where it arose"],
)
def test_a_reconcile_that_failed_is_told_by_what_it_means(caplog, error, level, traced):
    caplog.set_level("INFO")
    Metrics().failed(Key("ns", "m"), error, 1.5)
    (record,) = caplog.records
    assert (record.levelname, record.pg_reason, record.pg_name) == (level, type(error).__name__, "m")
    assert (record.exc_info is not None) == traced
    assert "tried again in 1.5 s" in record.getMessage()


def test_every_step_of_a_migration_is_a_line_with_its_keys(caplog):
    caplog.set_level("INFO")
    cluster = counted()
    cluster.settle()
    cluster.edit(suspend=True)
    cluster.settle()
    cluster.edit(suspend=False)
    cluster.promote()
    told = {}
    for record in caplog.records:
        assert (record.pg_namespace, record.pg_name) == ("ns", "churn")
        assert record.pg_uid == cluster.migration["metadata"]["uid"]
        told.setdefault(record.getMessage(), record)
    assert set(told) >= {
        "StartStage", "CancelStage", "ApplyRevision", "SetTraffic", "Verdict", "Ended: Succeeded",
    }  # fmt: skip
    assert told["StartStage"].pg_attempt == 1
    assert told["CancelStage"].pg_reason == "Suspended"
    (deployment,) = cluster.api.all("Deployment")
    assert told["SetTraffic"].pg_revision == deployment["metadata"]["name"]
    assert told["Verdict"].pg_reason == "Passed"


STANDINGS = {
    "new": {},
    "works": {"Ready": ("False", "Capturing"), "Reconciling": ("True", "Capturing"),
              "ServingAvailable": ("False", "NothingServes")},
    "serves": {"Ready": ("True", "Promoted"), "ServingAvailable": ("True", "RevisionServing")},
    "fails and serves": {"Ready": ("False", "ParityFailed"), "Stalled": ("True", "ParityFailed"),
                         "ServingAvailable": ("True", "RevisionServing")},
    "is gone": {"Ready": ("False", "ServingUnavailable"), "Reconciling": ("True", "ServingUnavailable"),
                "ServingAvailable": ("False", "ServingUnavailable")},
}  # fmt: skip


def test_migrations_are_counted_by_how_they_stand():
    told = Metrics(migrations=lambda: [standing_so(name, found) for name, found in STANDINGS.items()])
    assert of(told, "paritygate_migrations") == {
        "{reason=Unseen}": 1, "{reason=Capturing}": 1, "{reason=Promoted}": 1, "{reason=ParityFailed}": 1,
        "{reason=ServingUnavailable}": 1,
    }  # fmt: skip
    assert of(told, "paritygate_stalled_migrations") == {"{reason=ParityFailed}": 1}
    assert of(told, "paritygate_unavailable_migrations") == {"{reason=ServingUnavailable}": 1}
