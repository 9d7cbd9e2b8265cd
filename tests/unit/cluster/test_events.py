"""What people are told: how an event looks, that it is told once, and what becomes of it when something fails."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from doubles.api import MemoryApi
from doubles.cluster import NAMESPACE, Cluster
from paritygate.api.report import Verdict
from paritygate.cluster.events import LATELY, Teller, key_of
from paritygate.core.conditions import PlannedEvent
from paritygate.errors import ClusterError, Conflict, Forbidden, Refused, Throttled, Unavailable

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SINCE = "2026-01-01T00:00:00Z"
METADATA = {"namespace": "ns", "name": "m", "uid": "u1"}
FAILED = PlannedEvent("Warning", "ParityFailed", "x" * 2000, SINCE)
PROMOTED = PlannedEvent("Normal", "Promoted", "m", SINCE)


def told_by(api, *events, now=NOW, uid="u1"):
    """Events of a status that was stored; what could not be told."""
    missed = []
    teller = Teller(api, "replica-1" + "r" * 200, lambda _key, error: missed.append(error))
    migration = {"metadata": {**METADATA, "uid": uid}}
    asyncio.run(teller.stored(migration, events, now))
    return missed


def reasons(api):
    return [e["reason"] for e in sorted(api.all("Event"), key=lambda e: int(e["metadata"]["resourceVersion"]))]


def test_an_event_is_as_the_api_wants_it_and_about_the_migration():
    api = MemoryApi()
    told_by(api, FAILED)
    (event,) = api.all("Event")
    assert (event["type"], event["reason"], event["action"]) == ("Warning", "ParityFailed", "Reconcile")
    assert len(event["note"]) == 1024
    assert len(event["reportingInstance"]) == 128
    assert event["eventTime"] == "2026-01-01T00:00:00.000000Z"
    assert event["regarding"] == {
        "apiVersion": "paritygate.dev/v1alpha1", "kind": "ModelMigration", "namespace": "ns", "name": "m", "uid": "u1",
    }  # fmt: skip


def test_the_same_news_is_one_event_whoever_tells_it_and_other_news_is_another():
    api = MemoryApi()
    told_by(api, FAILED)
    told_by(api, FAILED, PROMOTED, now=NOW + timedelta(seconds=90))
    told_by(api, PlannedEvent("Warning", "ParityFailed", "again", "2026-01-01T00:10:00Z"))
    told_by(api, FAILED, uid="u2")
    assert reasons(api) == ["ParityFailed", "Promoted", "ParityFailed", "ParityFailed"]


def test_what_happens_time_and_again_is_told_each_time():
    api, retrying = MemoryApi(), PlannedEvent("Warning", "Retrying", "m")
    told_by(api, retrying)
    told_by(api, retrying, now=NOW + timedelta(seconds=5))
    assert reasons(api) == ["Retrying", "Retrying"]


def test_names_sort_in_the_order_of_what_happened():
    api = MemoryApi()
    for minutes in range(20):
        told_by(api, PlannedEvent("Warning", f"R{minutes}", "m"), now=NOW + timedelta(minutes=minutes))
    assert [e["reason"] for e in sorted(api.all("Event"), key=lambda e: e["metadata"]["name"])] == reasons(api)


@pytest.mark.parametrize("error", [Forbidden("no"), Refused("no")])
def test_an_event_that_is_refused_is_given_up_and_the_next_is_told_all_the_same(error):
    api = MemoryApi()

    def refuse(request):
        if request.body["reason"] == "ParityFailed":
            raise error

    api.interfere = refuse
    assert told_by(api, FAILED, PROMOTED) == [error]
    assert reasons(api) == ["Promoted"]


# --- told once, whatever fails


def failing(cluster):
    """A migration at the moment when its status is about to tell that it failed."""
    cluster.work.verdict = Verdict.FAILED
    for _ in range(2):
        cluster.settle()
        cluster.finish()
    return cluster


def once(error, verb, kind, *, delivered):
    """Lets the next request of this kind fail, before or after it is carried out."""
    left = [error]

    def fails(request):
        if (request.verb, request.kind) == (verb, kind) and left:
            raise left.pop()

    return {"afterwards" if delivered else "interfere": fails}


@pytest.mark.parametrize("delivered", [True, False], ids=["that was stored", "that was not stored"])
@pytest.mark.parametrize("stale", [True, False], ids=["by a stale cache", "by a fresh cache"])
def test_the_event_of_a_status_whose_answer_was_lost_is_told_once(delivered, stale):
    cluster = failing(Cluster())
    cluster.look()
    vars(cluster.api).update(once(Unavailable("lost"), "PATCH/status", "ModelMigration", delivered=delivered))
    with pytest.raises(Unavailable):
        cluster.reconcile(look=False)
    assert reasons(cluster.api) == []
    cluster.pass_time(1)
    if stale and delivered:
        with pytest.raises(Conflict):
            cluster.reconcile(look=False)
        assert reasons(cluster.api) == []
    elif stale:
        cluster.reconcile(look=False)
    for _ in range(3):
        cluster.pass_time(3)
        cluster.reconcile()
    assert reasons(cluster.api) == ["ParityFailed"]


@pytest.mark.parametrize("delivered", [True, False], ids=["that was stored", "that was not stored"])
@pytest.mark.parametrize("error", [Unavailable("lost"), Throttled("later", retry_after=1.0)])
def test_an_event_whose_answer_was_lost_is_told_once_and_soon(error, delivered):
    cluster = failing(Cluster())
    vars(cluster.api).update(once(error, "CREATE", "Event", delivered=delivered))
    assert cluster.reconcile() == 2
    assert cluster.told.untold == [error]
    cluster.pass_time(2)
    cluster.reconcile()
    assert reasons(cluster.api) == ["ParityFailed"]
    cluster.pass_time(600)
    cluster.api.requests.clear()
    cluster.reconcile()
    assert cluster.api.requests == []


def test_the_event_of_a_refusal_is_tried_again_as_soon_as_any_other():
    cluster = Cluster(jobs={"unheardOf": 1})
    vars(cluster.api).update(once(Unavailable("lost"), "CREATE", "Event", delivered=False))
    assert cluster.reconcile() == 2
    assert reasons(cluster.api) == []
    cluster.pass_time(2)
    assert cluster.reconcile() == 60
    assert reasons(cluster.api) == ["InvalidSpec"]


def test_an_event_that_cannot_be_told_for_long_is_given_up():
    cluster = failing(Cluster())

    def refuse(request):
        if request.kind == "Event":
            raise Unavailable("down")

    cluster.api.interfere = refuse
    tries, waited = 0, 0.0
    while (pause := cluster.reconcile()) is not None:
        tries, waited = tries + 1, waited + pause
        assert waited < 3 * LATELY.total_seconds()
        cluster.pass_time(pause)
    assert 5 < tries < 12
    cluster.api.interfere = lambda _: None
    cluster.reconcile()
    assert reasons(cluster.api) == []


def test_pauses_stay_short_of_the_time_for_which_is_tried_however_often_something_else_leads_here():
    api, migration = MemoryApi(), {"metadata": METADATA}
    teller = Teller(api, "replica-1", lambda _key, _error: None)

    def refuse(_):
        raise Unavailable("down")

    async def look_often():
        await teller.stored(migration, (FAILED,), NOW)
        for _ in range(40):
            await teller.catch_up(migration, None, NOW)

    api.interfere = refuse
    asyncio.run(look_often())
    assert teller.again(key_of(migration)) == timedelta(seconds=256) < LATELY


@pytest.mark.parametrize("died", ["before it told", "after it told"])
def test_what_the_operator_that_died_may_not_have_told_is_told_once_by_the_next(died):
    cluster = failing(Cluster())

    class Killed(BaseException):
        pass

    vars(cluster.api).update(once(Killed(), "CREATE", "Event", delivered=died == "after it told"))
    with pytest.raises(Killed):
        cluster.reconcile()
    for seconds in (30, 200):
        cluster.pass_time(seconds)
        cluster.start()
        cluster.settle()
        assert reasons(cluster.api) == ["ParityFailed"]


def test_what_a_migration_came_to_long_ago_is_not_told_again():
    cluster = failing(Cluster())
    cluster.settle()
    for one in cluster.api.all("Event"):
        cluster.api.drop("Event", NAMESPACE, one["metadata"]["name"])  # as API servers do after an hour
    cluster.pass_time(LATELY.total_seconds() + 1)
    cluster.start()
    cluster.api.requests.clear()
    cluster.settle()
    assert cluster.api.requests == []


def test_a_migration_that_is_made_anew_under_its_name_owes_nothing_of_the_one_before():
    cluster = failing(Cluster())
    vars(cluster.api).update(once(ClusterError("no"), "PATCH/status", "ModelMigration", delivered=True))
    with pytest.raises(ClusterError):
        cluster.reconcile()
    there = cluster.migration
    cluster.api.drop("ModelMigration", NAMESPACE, "churn")
    cluster.look()
    cluster.reconcile(look=False)
    cluster.api.put({**there, "metadata": {**there["metadata"], "uid": "another"}})
    cluster.pass_time(3600)
    cluster.reconcile()
    assert reasons(cluster.api) == []
