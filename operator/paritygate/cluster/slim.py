"""What the cache keeps of objects: what decisions follow from, in as little memory as Python needs for it.

A Job with its pod is some 20 KiB of JSON and several times that as Python's objects, and nearly all of it is what we
wrote ourselves. What is left out here can change without anybody having to look.
"""

from __future__ import annotations

import sys
from collections.abc import Container, Mapping
from typing import Any, Final

from paritygate.cluster.manifests.serving import RUNS

Object = dict[str, Any]
_LEFT_OUT: Final = frozenset({"managedFields", "generateName", "selfLink"})
_LEFT_OUT_OF_CHILDREN: Final = _LEFT_OUT | {"finalizers"}
_JOB_SPEC: Final = frozenset({"suspend"})
_JOB_STATUS: Final = frozenset({"conditions", "startTime", "completionTime"})
_POD: Final = frozenset({"name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp"})
_POD_STATUS: Final = frozenset({"phase", "reason", "message", "startTime"})
_CONTAINER_STATUS: Final = frozenset({"name", "restartCount", "state", "lastState"})
_ENDED: Final = frozenset({"exitCode", "reason", "message", "startedAt", "finishedAt"})
_CONTAINERS: Final = ("initContainers", "containers")
_STATUSES: Final = ("initContainerStatuses", "containerStatuses")
_LONGEST_SHARED: Final = 128


def slim(item: Object) -> Object:
    """A copy with what is looked at. A copy of a copy is the same."""
    kind = item["kind"]
    left_out = _LEFT_OUT if kind == "ModelMigration" else _LEFT_OUT_OF_CHILDREN
    found = {**item, "metadata": {key: value for key, value in item["metadata"].items() if key not in left_out}}
    if kind == "Job":
        _reduce(found, "spec", _JOB_SPEC)
        _reduce(found, "status", _JOB_STATUS)
    elif kind == "Pod":
        _reduce_pod(found)
    elif kind == "Deployment" and "template" in found.get("spec", {}):
        found["spec"] = {**found["spec"], "template": _template(found["spec"]["template"])}
    shared: Object = _shared(found)
    return shared


def _reduce(item: Object, part: str, kept: Container[str]) -> None:
    if isinstance(item.get(part), Mapping):
        item[part] = {key: value for key, value in item[part].items() if key in kept}


def _reduce_pod(pod: Object) -> None:
    """Of containers, what tells which memory limit was too low; of conditions, those that say what is wrong."""
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    pod["metadata"] = {
        **{key: value for key, value in metadata.items() if key in _POD},
        "labels": metadata.get("labels", {}),
        "ownerReferences": [{"uid": r["uid"], "controller": True} for r in metadata.get("ownerReferences", ())
                            if r.get("controller")],
    }  # fmt: skip
    pod["spec"] = {part: list(map(_container, spec[part])) for part in _CONTAINERS if part in spec}
    # A pod that was scheduled is no news: what it does next is.
    conditions = [
        c
        for c in status.get("conditions", ())
        if c["type"] == "DisruptionTarget" or (c["type"] == "PodScheduled" and c["status"] == "False")
    ]
    pod["status"] = {
        **{key: value for key, value in status.items() if key in _POD_STATUS},
        **({"conditions": conditions} if conditions else {}),
        **{part: list(map(_container_status, status[part])) for part in _STATUSES if part in status},
    }


def _template(template: Object) -> Object:
    """What it runs."""
    spec = template["spec"]
    kept = {
        part: [{key: one[key] for key in RUNS if key in one} for one in spec[part]]
        for part in _CONTAINERS
        if part in spec
    }
    return {"spec": kept | ({"nodeSelector": spec["nodeSelector"]} if spec.get("nodeSelector") else {})}


def _container(one: Object) -> Object:
    limit = one.get("resources", {}).get("limits", {}).get("memory")
    return {"name": one["name"], **({"resources": {"limits": {"memory": limit}}} if limit else {})}


def _container_status(one: Object) -> Object:
    """Its image only where it waits, likely for that."""
    found = {key: value for key, value in one.items() if key in _CONTAINER_STATUS and value != {}}
    for part in ("state", "lastState"):
        ended = one.get(part, {}).get("terminated")
        if ended:
            found[part] = {"terminated": {key: value for key, value in ended.items() if key in _ENDED}}
    return {**found, "image": one["image"]} if "image" in one and "waiting" in one.get("state", {}) else found


def _shared(value: Any) -> Any:
    """The same, with one copy of each short string: parsed JSON has as many as there are objects."""
    kind = type(value)  # not isinstance: this is asked for every value of every event
    if kind is str:
        return sys.intern(value) if len(value) <= _LONGEST_SHARED else value
    if kind is dict:
        return {sys.intern(key): _shared(one) for key, one in value.items()}
    if kind is list:
        return [_shared(one) for one in value]
    return value
