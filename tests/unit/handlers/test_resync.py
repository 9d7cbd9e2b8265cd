"""A listing of everything: what it finds, in which order it is looked at, and what it asks for."""

import asyncio

from doubles.cluster import KEY, NAMESPACE, Cluster
from paritygate.cluster.keys import Key
from paritygate.handlers.resync import WATCHED, resync


def listed(cluster, *namespaces):
    return asyncio.run(resync(cluster.api, cluster.cache, namespaces))


def another(cluster, name, created):
    there = cluster.migration
    metadata = {"namespace": NAMESPACE, "name": name, "creationTimestamp": created}
    cluster.api.put({**there, "metadata": metadata})


def test_all_migrations_are_looked_at_the_oldest_first():
    cluster = Cluster()
    another(cluster, "younger", "2026-03-01T00:00:00Z")
    another(cluster, "oldest", "2025-01-01T00:00:00Z")
    assert [key.name for key in listed(cluster).keys] == ["oldest", "churn", "younger"]


def test_a_listing_that_finds_nothing_new_says_so_and_is_looked_at_all_the_same():
    cluster = Cluster()
    assert listed(cluster).changed == {KEY}
    again = listed(cluster)
    assert (again.keys, again.changed) == ((KEY,), frozenset())


def test_what_was_deleted_without_an_event_is_found():
    cluster = Cluster()
    cluster.settle()
    cluster.api.drop("Job", NAMESPACE, cluster.job["metadata"]["name"])
    assert listed(cluster).changed == {KEY}
    assert cluster.cache.snapshot(KEY).of("Job") == ()
    cluster.api.drop("ModelMigration", NAMESPACE, "churn")
    assert listed(cluster).keys == (KEY,)
    assert cluster.cache.snapshot(KEY).migration is None
    assert listed(cluster).keys == ()


def test_children_are_listed_before_migrations_and_only_where_they_are_looked_after():
    cluster = Cluster()
    there = cluster.migration
    cluster.api.put({**there, "metadata": {"namespace": "elsewhere", "name": "x"}})
    assert listed(cluster, NAMESPACE, "empty").keys == (KEY,)
    asked = [(r.kind, r.name) for r in cluster.api.requests]
    assert asked == [(resource.kind, namespace) for resource in WATCHED for namespace in (NAMESPACE, "empty")]
    assert asked[-1][0] == "ModelMigration"
    assert set(listed(cluster).keys) == {KEY, Key("elsewhere", "x")}
