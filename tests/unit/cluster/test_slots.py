"""Who may start under caps, who waits, what they are told, and who is woken."""

import pytest

from doubles.cluster import KEY, NAMESPACE, NOW, Cluster, stamp
from paritygate.cluster.keys import Key
from paritygate.cluster.settings import Caps
from paritygate.cluster.slots import Slots

FIRST, SECOND, THIRD, FOURTH = (Key("a", "1"), Key("a", "2"), Key("b", "3"), Key("b", "4"))


class Woken(Slots):
    def __init__(self, runs=2, there=2):
        self.woken = []
        super().__init__(Caps(active_runs=runs, active_runs_per_namespace=there), self.woken.append)


def test_the_cap_of_a_namespace_leaves_room_for_others():
    slots = Woken(2, 1)
    assert slots.ask(FIRST, set()) is None
    assert slots.ask(SECOND, set()) == "1 of 1 runs are active in namespace a; this one starts when one ends"
    assert slots.ask(THIRD, set()) is None
    assert slots.ask(Key("c", "5"), set()) == (
        "2 of 2 runs are active in this cluster; this one starts when one ends, after 1 that asked before it"
    )


def test_who_waits_is_told_the_same_until_it_starts():
    slots = Woken(1, 1)
    slots.ask(FIRST, set())
    told = [slots.ask(SECOND, set()), slots.ask(THIRD, set()), slots.ask(FOURTH, set())]
    assert told[2].endswith("after 2 that asked before it")
    slots.release(SECOND)
    assert slots.ask(FOURTH, set()) == told[2]


def test_who_asked_first_is_woken_first_and_only_as_many_as_can_start():
    slots = Woken(2, 2)
    for key in (FIRST, SECOND, THIRD, FOURTH):
        slots.ask(key, set())
    slots.release(FIRST)
    assert slots.woken == [THIRD]
    slots.release(SECOND)
    assert slots.woken == [THIRD, THIRD, FOURTH]


def test_nobody_is_woken_whose_namespace_is_full():
    slots = Woken(3, 1)
    for key in (FIRST, THIRD, SECOND, FOURTH):
        slots.ask(key, set())
    slots.release(THIRD)
    assert slots.woken == [FOURTH]


def test_who_has_a_slot_keeps_it_however_full_it_is():
    slots = Woken(1, 1)
    slots.ask(FIRST, set())
    assert slots.ask(FIRST, {FIRST, SECOND, THIRD}) is None
    assert slots.held == 1


def test_who_needs_no_slot_wakes_nobody():
    slots = Woken(1, 1)
    slots.ask(FIRST, set())
    slots.ask(SECOND, set())
    slots.release(THIRD)
    slots.release(SECOND)
    assert slots.woken == []
    slots.release(FIRST)
    assert slots.woken == []


def test_what_runs_counts_after_a_restart():
    slots = Woken(1, 1)
    assert slots.ask(SECOND, {FIRST}) is not None
    assert slots.ask(FIRST, {FIRST}) is None


def test_a_job_that_outlives_its_migration_holds_others_up_until_it_is_gone():
    slots = Woken(1, 1)
    slots.ask(FIRST, set())
    slots.ask(SECOND, {FIRST})
    slots.release(FIRST)  # deleted; its Job is not yet
    assert slots.woken == [SECOND]
    assert slots.ask(SECOND, {FIRST}) is not None
    slots.release(FIRST)  # the Job is gone
    assert slots.woken == [SECOND, SECOND]
    assert slots.ask(SECOND, set()) is None


def test_a_namespace_that_is_full_does_not_hold_up_another():
    slots = Woken(3, 2)
    for key in (*(Key("a", str(number)) for number in range(4)), THIRD, FOURTH):
        slots.ask(key, set())
    slots.release(THIRD)
    assert slots.woken == [FOURTH]
    slots.release(Key("a", "0"))
    assert slots.woken[1:] == [Key("a", "2"), FOURTH]
    assert slots.held == 1


# --- as the reconciler uses them


def full():
    """Another migration has the one slot."""
    cluster = Cluster({"caps": {"activeRuns": 1, "activeRunsPerNamespace": 1}})
    cluster.slots.ask(Key("other", "x"), set())
    return cluster


def test_a_queued_migration_says_why_starts_nothing_and_starts_when_woken():
    cluster = full()
    assert cluster.reconcile() is None
    assert cluster.condition("Ready")["reason"] == "Queued"
    assert cluster.condition("Reconciling")["message"].startswith("1 of 1 runs are active in this cluster")
    assert cluster.api.all("Job") == []
    cluster.slots.release(Key("other", "x"))
    assert cluster.woken == [KEY]
    cluster.reconcile()
    assert len(cluster.api.all("Job")) == 1


def test_a_queued_migration_is_not_written_again_while_it_waits():
    cluster = full()
    cluster.reconcile()
    before = cluster.api.writes()
    cluster.reconcile()
    assert cluster.api.writes() == before


@pytest.mark.parametrize("how", ["deleted", "being deleted", "suspended", "no longer readable", "stalled", "promoted"])
def test_a_migration_gives_its_slot_back_when_it_is(how):
    cluster = Cluster()
    cluster.reconcile()
    assert cluster.slots.held == 1
    if how == "deleted":
        cluster.api.drop("ModelMigration", NAMESPACE, "churn")
    elif how == "being deleted":
        there = cluster.migration
        there["metadata"]["deletionTimestamp"] = stamp(NOW)
        cluster.api.put(there)
    elif how == "suspended":
        cluster.edit(suspend=True)
        cluster.reconcile()
    elif how == "no longer readable":
        cluster.edit(jobs={"unheardOf": 1})
    elif how == "stalled":
        cluster.edit(jobs={"retries": 5}, storage=None)
    else:
        cluster.promote()
    if how == "stalled":
        cluster.api.drop("Job", NAMESPACE, cluster.job["metadata"]["name"])
    cluster.reconcile()
    assert cluster.slots.held == 0
    assert (cluster.told.gone == [KEY]) == (how == "deleted")
