"""The one status write of a reconcile."""

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doubles.api import MemoryApi
from paritygate.api.status import Condition, ConditionType, ModelMigrationStatus
from paritygate.cluster import status as writing
from paritygate.errors import Conflict

NOW = datetime(2026, 1, 1, tzinfo=UTC)
METADATA = {"namespace": "ns", "name": "m", "uid": "u1"}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.text("ab", max_size=2)
    | st.lists(st.integers(0, 2), max_size=2),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=1), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text("abc", min_size=1, max_size=1), VALUES, max_size=3)


def without_nulls(value):
    if isinstance(value, dict):
        return {key: without_nulls(one) for key, one in value.items() if one is not None}
    return value


def applied(before, patch):
    """RFC 7386, as its section 2 has it."""
    if not isinstance(patch, dict):
        return patch
    found = dict(before) if isinstance(before, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = applied(found.get(key), value)
    return found


@given(OBJECTS, OBJECTS)
def test_a_merge_patch_leads_from_one_object_to_the_other(before, after):
    before, after = without_nulls(before), without_nulls(after)
    patch = writing.merge_patch(before, after)
    assert applied(before, patch) == after
    assert bool(patch) == (before != after)


@pytest.mark.parametrize(
    ("before", "after", "patch"),
    [
        ({"a": 1}, {"a": 1}, {}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {"a": {"c": None}}),
        ({"a": [1, 2]}, {"a": [1]}, {"a": [1]}),
        ({"a": {"b": 1}}, {"a": {}}, {"a": {"b": None}}),
        ({}, {"a": {}}, {"a": {}}),
        ({"a": 1}, {"a": {"b": 1}}, {"a": {"b": 1}}),
    ],
)
def test_only_what_differs_is_sent(before, after, patch):
    assert writing.merge_patch(before, after) == patch


def api_with(**status):
    api = MemoryApi()
    api.put({"kind": "ModelMigration", "apiVersion": "paritygate.dev/v1alpha1", "metadata": METADATA, "spec": {},
             "status": status})  # fmt: skip
    return api, api.find("ModelMigration", "ns", "m")


def test_a_status_is_written_for_the_version_that_was_observed_and_only_what_changed():
    before = ModelMigrationStatus(observed_generation=1, phase="Assess", url="http://x")
    api, seen = api_with(**before.to_dict())
    after = ModelMigrationStatus(observed_generation=1, phase="Convert")
    stored = asyncio.run(writing.write_status(api, seen, after))
    assert api.sent("PATCH/status ModelMigration m") == [
        {"metadata": {"resourceVersion": seen["metadata"]["resourceVersion"], "uid": "u1"},
         "status": {"phase": "Convert", "url": None}}
    ]  # fmt: skip
    assert stored["status"]["phase"] == "Convert"


def test_a_status_that_says_the_same_is_not_written():
    after = ModelMigrationStatus(observed_generation=1, phase="Assess")
    api, seen = api_with(**after.to_dict())
    assert asyncio.run(writing.write_status(api, seen, after)) is None
    assert api.requests == []


@pytest.mark.parametrize("changed", ["another version", "another object of the name"])
def test_a_status_for_what_is_no_more_is_refused(changed):
    api, seen = api_with(phase="Assess")
    now = api.find("ModelMigration", "ns", "m")
    if changed == "another version":
        api.put({**now, "spec": {"suspend": True}})
    else:
        api.drop("ModelMigration", "ns", "m")
        api.put({**now, "metadata": {**METADATA, "uid": "u2"}})
    with pytest.raises(Conflict):
        asyncio.run(writing.write_status(api, seen, ModelMigrationStatus(phase="Convert")))
    assert api.find("ModelMigration", "ns", "m")["status"] == {"phase": "Assess"}


# --- what the planner cannot see


def condition(kind, status, reason):
    return Condition(
        type=kind, status=status, reason=reason, message="m", observed_generation=1,
        last_transition_time="2025-01-01T00:00:00Z",
    )  # fmt: skip


def test_what_cannot_go_on_is_stalled_beside_what_was_reached():
    before = ModelMigrationStatus(
        observed_generation=1, url="http://x",
        conditions=(
            condition(ConditionType.PARITY_VERIFIED, "True", "Passed"),
            condition(ConditionType.SERVING_AVAILABLE, "True", "Serving"),
            condition(ConditionType.READY, "True", "Promoted"),
            condition(ConditionType.RECONCILING, "True", "Convert"),
            condition(ConditionType.SUSPENDED, "True", "Suspended"),
        ),
    )  # fmt: skip
    after = writing.stalled(before, "NameConflict", "rename it", 2, NOW)
    told = {c.type: (c.status, c.reason, c.observed_generation, c.last_transition_time) for c in after.conditions}
    assert told == {
        "ParityVerified": ("True", "Passed", 2, "2025-01-01T00:00:00Z"),
        "ServingAvailable": ("True", "Serving", 2, "2025-01-01T00:00:00Z"),
        "Ready": ("False", "NameConflict", 2, "2026-01-01T00:00:00Z"),
        "Stalled": ("True", "NameConflict", 2, "2026-01-01T00:00:00Z"),
    }
    assert (after.phase, after.observed_generation, after.url) == ("NameConflict", 2, "http://x")


def test_a_stall_that_goes_on_is_the_same_status():
    once = writing.stalled(None, "InvalidSpec", "m", 1, NOW)
    assert writing.stalled(once, "InvalidSpec", "m", 1, datetime(2027, 1, 1, tzinfo=UTC)) == once
