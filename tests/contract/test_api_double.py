"""The API server in memory does what the real one does, as far as tests rest on it."""

import asyncio

import pytest

from doubles.api import MemoryApi
from paritygate.cluster.client import MIGRATIONS, SERVICES, Client
from paritygate.cluster.connection import from_kubeconfig
from paritygate.errors import Conflict, Missing, Refused

NOBODY = "00000000-0000-0000-0000-000000000000"
TEST_VERSION = "/metadata/resourceVersion"


@pytest.fixture(params=["in memory", "real"])
def talk(request):
    """`talk(script)` runs `script(api, namespace)` against one of the two."""
    if request.param == "in memory":
        return lambda script: asyncio.run(script(MemoryApi(), "ns"))
    plane, namespace = request.getfixturevalue("control_plane"), request.getfixturevalue("namespace")
    request.getfixturevalue("migrations")

    async def main(script):
        async with Client(from_kubeconfig(plane.kubeconfig())) as client:
            await script(client, namespace)

    return lambda script: asyncio.run(main(script))


def service(namespace, name="s", **labels):
    metadata = {"namespace": namespace, "name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"selector": {"a": "1"}, "ports": [{"port": 80}]}}  # fmt: skip


def migration(namespace):
    spec = {
        "source": {"format": "SKLearn", "uri": "s3://m/x.pkl"}, "target": {"format": "ONNX"},
        "validation": {"dataset": {"uri": "s3://m/d.csv"}},
    }  # fmt: skip
    return {"apiVersion": "paritygate.dev/v1alpha1", "kind": "ModelMigration",
            "metadata": {"namespace": namespace, "name": "m"}, "spec": spec}  # fmt: skip


def version(item):
    return item["metadata"]["resourceVersion"]


def test_names_are_taken_once_and_a_dry_run_takes_none(talk):
    async def script(api, namespace):
        await api.create(SERVICES, service(namespace), dry_run=True)
        with pytest.raises(Missing):
            await api.get(SERVICES, namespace, "s")
        made = await api.create(SERVICES, service(namespace))
        for dry_run in (False, True):
            with pytest.raises(Conflict):
                await api.create(SERVICES, service(namespace), dry_run=dry_run)
        assert (await api.get(SERVICES, namespace, "s"))["metadata"]["uid"] == made["metadata"]["uid"]

    talk(script)


def test_a_merge_holds_to_the_version_and_the_object_that_it_names(talk):
    async def script(api, namespace):
        made = await api.create(SERVICES, service(namespace))
        annotated = {"metadata": {"annotations": {"a": "1", "b": "2"}}}
        after = await api.merge(SERVICES, namespace, "s", annotated)
        assert int(version(after)) > int(version(made))
        again = await api.merge(SERVICES, namespace, "s", {"metadata": {"annotations": {"b": "2"}}})
        assert version(again) == version(after)
        for stated in ({"resourceVersion": version(made)}, {"uid": NOBODY}):
            with pytest.raises(Conflict):
                await api.merge(SERVICES, namespace, "s", {"metadata": {**stated, "annotations": {"a": "9"}}})
        gone = await api.merge(SERVICES, namespace, "s", {"metadata": {"annotations": {"a": None}}})
        assert gone["metadata"]["annotations"] == {"b": "2"}
        with pytest.raises(Missing):
            await api.merge(SERVICES, namespace, "nobody", annotated)

    talk(script)


def test_a_json_patch_is_refused_when_its_test_does_not_hold(talk):
    async def script(api, namespace):
        made = await api.create(SERVICES, service(namespace))
        await api.merge(SERVICES, namespace, "s", {"metadata": {"annotations": {"a": "1"}}})
        move = {"op": "replace", "path": "/spec/selector", "value": {"b": "2"}}
        test = {"op": "test", "path": TEST_VERSION, "value": version(made)}
        with pytest.raises(Refused):
            await api.json_patch(SERVICES, namespace, "s", [test, move])
        there = await api.get(SERVICES, namespace, "s")
        assert there["spec"]["selector"] == {"a": "1"}
        test = {"op": "test", "path": TEST_VERSION, "value": version(there)}
        moved = await api.json_patch(SERVICES, namespace, "s", [test, move])
        assert moved["spec"]["selector"] == {"b": "2"}

    talk(script)


def test_a_status_is_written_apart_and_makes_no_generation(talk):
    async def script(api, namespace):
        made = await api.create(MIGRATIONS, {**migration(namespace), "status": {"phase": "forged"}})
        assert made.get("status", {}).get("phase") != "forged"
        patch = {"metadata": {"resourceVersion": version(made), "uid": made["metadata"]["uid"]},
                 "status": {"observedGeneration": 1, "phase": "Assess"}}  # fmt: skip
        stored = await api.merge(MIGRATIONS, namespace, "m", patch, subresource="status")
        assert (stored["status"]["phase"], stored["metadata"]["generation"]) == ("Assess", 1)
        for stated in (patch["metadata"], {**patch["metadata"], "uid": NOBODY}):
            with pytest.raises(Conflict):
                await api.merge(MIGRATIONS, namespace, "m", {**patch, "metadata": stated}, subresource="status")
        # Of the status of a custom resource the version alone is held to: a write must state it.
        await api.merge(MIGRATIONS, namespace, "m", {**patch, "metadata": {"uid": NOBODY}}, subresource="status")
        edited = await api.merge(MIGRATIONS, namespace, "m", {"spec": {"suspend": True}, "status": {"phase": "forged"}})
        assert (edited["status"]["phase"], edited["metadata"]["generation"]) == ("Assess", 2)

    talk(script)


def test_only_the_object_that_is_meant_is_deleted(talk):
    async def script(api, namespace):
        made = await api.create(SERVICES, service(namespace))
        assert await api.delete(SERVICES, namespace, "s", uid=NOBODY) is False
        assert await api.delete(SERVICES, namespace, "s", uid=made["metadata"]["uid"]) is True
        assert await api.delete(SERVICES, namespace, "s", uid=made["metadata"]["uid"]) is False

    talk(script)


def test_a_listing_holds_to_its_selector_and_namespace(talk):
    async def script(api, namespace):
        for name, labels in (("one", {"x": "1"}), ("two", {"x": "2"})):
            await api.create(SERVICES, service(namespace, name, **labels))
        for selector, names in (("x=1", ["one"]), ("x", ["one", "two"]), ("x,y", []), ("x=1,x=2", [])):
            found = [item async for item in api.pages(SERVICES, namespace, selector=selector)]
            assert [(f["kind"], f["metadata"]["name"]) for f in found] == [("Service", name) for name in names]
        assert [item async for item in api.pages(SERVICES, "elsewhere")] == []

    talk(script)
