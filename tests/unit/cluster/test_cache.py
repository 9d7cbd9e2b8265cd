"""What the cache makes of events that come late, twice or not at all; and who may start under caps."""

import pytest

from paritygate.cluster.cache import Cache
from paritygate.cluster.keys import Key
from paritygate.cluster.settings import Caps
from paritygate.cluster.slots import Slots

KEY = Key("ns", "m")


def item(kind="Job", name="j", uid="u1", version=1, **more):
    labels = {} if kind == "ModelMigration" else {"paritygate.dev/migration": "m"}
    metadata = {"namespace": "ns", "name": name, "uid": uid, "resourceVersion": str(version), "labels": labels}
    return {"kind": kind, "metadata": {**metadata, "managedFields": [1]}, **more}


def uids(cache):
    return [job["metadata"]["uid"] for job in cache.snapshot(KEY).of("Job")]


def test_children_wake_their_migration_and_strangers_nobody():
    cache = Cache()
    assert cache.apply("ADDED", item()) == KEY
    stranger = item()
    stranger["metadata"]["labels"] = {}
    assert cache.apply("ADDED", stranger) is None
    assert "managedFields" not in cache.snapshot(KEY).of("Job")[0]["metadata"]


def test_an_older_version_never_replaces_a_newer_one():
    cache = Cache()
    assert cache.apply("ADDED", item(version=5, status={"startTime": "new"})) == KEY
    assert cache.apply("MODIFIED", item(version=4, status={"startTime": "old"})) is None
    assert cache.snapshot(KEY).of("Job")[0]["status"] == {"startTime": "new"}


def test_what_no_decision_follows_from_wakes_nobody_and_its_version_is_remembered():
    cache = Cache()
    cache.apply("ADDED", item(version=1, status={"active": 0}, spec={"template": {}, "suspend": False}))
    assert cache.apply("MODIFIED", item(version=2, status={"active": 1}, spec={"suspend": False})) is None
    (job,) = cache.snapshot(KEY).of("Job")
    assert (job["metadata"]["resourceVersion"], job["spec"], job["status"]) == ("2", {"suspend": False}, {})
    assert cache.apply("MODIFIED", item(version=3, spec={"suspend": True})) == KEY


def test_a_migration_is_active_while_one_of_its_jobs_has_not_ended():
    cache = Cache()
    ended = {"conditions": [{"type": "Complete", "status": "True"}]}
    cache.apply("ADDED", item(name="a", uid="u1"))
    cache.apply("ADDED", item(name="b", uid="u2"))
    cache.apply("MODIFIED", item(name="a", uid="u1", version=2, status=ended))
    assert set(cache.active()) == {KEY}
    cache.apply("DELETED", item(name="b", uid="u2", version=3))
    assert not cache.active()


@pytest.mark.parametrize(("uid", "left"), [("u1", ["u2"]), ("u2", [])])
def test_a_late_deletion_takes_only_the_object_that_it_speaks_of(uid, left):
    cache = Cache()
    cache.apply("ADDED", item(uid="u2", version=9))
    cache.apply("DELETED", item(uid=uid, version=10))
    assert uids(cache) == left


def test_a_listing_removes_what_was_deleted_without_an_event_and_keeps_what_is_newer():
    cache = Cache()
    cache.apply("ADDED", item(name="gone", uid="u1", version=1))
    began = cache.newest()
    cache.apply("ADDED", item(name="new", uid="u2", version=2))
    assert cache.replace("Job", [], began) == {KEY}
    assert uids(cache) == ["u2"]


def test_runs_beyond_the_caps_wait_and_the_one_that_waits_longest_is_woken():
    woken = []
    slots = Slots(Caps(active_runs=2, active_runs_per_namespace=1), woken.append)
    first, second, third = Key("a", "1"), Key("a", "2"), Key("b", "3")
    assert slots.ask(first, set()) is None
    assert "1 of 1 runs are active in namespace a" in slots.ask(second, set())
    assert slots.ask(third, set()) is None
    assert "2 of 2 runs are active in this cluster" in slots.ask(Key("c", "4"), set())
    slots.release(first)
    assert woken == [second]


def test_what_runs_in_the_cluster_counts_after_a_restart():
    slots = Slots(Caps(active_runs=1, active_runs_per_namespace=1), lambda _: None)
    running = Key("a", "1")
    assert slots.ask(Key("b", "2"), {running}) is not None
    assert slots.ask(running, {running}) is None


def test_a_namespace_that_is_full_does_not_hold_up_another():
    woken = []
    slots = Slots(Caps(active_runs=3, active_runs_per_namespace=2), woken.append)
    for number in range(4):
        slots.ask(Key("a", str(number)), set())
    slots.ask(Key("b", "0"), set())
    slots.ask(Key("b", "1"), set())
    slots.release(Key("b", "0"))
    assert woken == [Key("b", "1")]
    slots.release(Key("a", "0"))
    assert woken[1:] == [Key("a", "2"), Key("b", "1")]
    assert slots.held == 1
