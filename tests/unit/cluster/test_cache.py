"""What the cache makes of events that come late, twice or not at all."""

import pytest

from paritygate.cluster.cache import Cache
from paritygate.cluster.keys import Key

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


def test_an_answer_that_comes_after_the_word_of_deletion_brings_nothing_back():
    cache = Cache()
    cache.apply("DELETED", item(version=7))
    assert cache.apply(None, item(version=5)) is None
    assert uids(cache) == []
    assert cache.apply("ADDED", item(uid="u2", version=8)) == KEY


def test_what_comes_back_under_our_label_is_seen_again():
    cache = Cache()
    cache.apply("ADDED", item(version=5))
    assert cache.apply("DELETED", item(version=6)) == KEY
    assert cache.apply("ADDED", item(version=7)) == KEY
    assert uids(cache) == ["u1"]


def test_a_listing_that_began_before_the_deletion_brings_nothing_back():
    cache = Cache()
    cache.apply("ADDED", item(version=5))
    began = cache.newest()
    cache.apply("DELETED", item(version=7))
    assert cache.replace("Job", [item(version=5)], began) == set()
    assert uids(cache) == []


@pytest.mark.parametrize(("status", "observed"), [({}, False), ({"observedGeneration": 1}, False),
                                                  ({"observedGeneration": 2}, True)])  # fmt: skip
def test_tells_whether_a_manifest_was_looked_at_as_it_is(status, observed):
    cache = Cache()
    found = item("ModelMigration", name="m", status=status)
    found["metadata"]["generation"] = 2
    cache.apply("ADDED", found)
    assert cache.observed(KEY) is observed
    assert cache.observed(Key("ns", "gone"))
