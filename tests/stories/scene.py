"""A migration as a person meets it: what they do, and pods that wait until the operator has said where it is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from control_plane.client import Client
from control_plane.migrations import is_ready
from control_plane.scripts import Director, Outcome, Script
from paritygate.cluster.manifests import pods
from stories.recorder import MIGRATION, Recorder

Object = dict[str, Any]
_PHASES: Final = {
    "convert": {"fetch": "Assessing", "capture": "Capturing", "convert": "Converting"},
    "validate": {"validate": "Validating"},
    None: {"fetch": "RollingOut"},
}
"""By label of the pod and container: containers do not end before the migration is said to be there. So every run of
a story has the same steps, however slow the machine."""


_UNTOLD: Final = frozenset({"Queued", "Converting", "Validating"})
"""Reasons that come without an event."""


@dataclass(frozen=True)
class _Said:
    """Set while a person can read this phase; stands in for a threading.Event."""

    recorder: Recorder
    migration: str
    phase: str

    def is_set(self) -> bool:
        found = self.recorder.latest(self.migration)
        return found is None or found.get("status", {}).get("phase") == self.phase


def paced(director: Director, recorder: Recorder) -> Director:
    """The same director, whose containers wait for the operator to say that they run."""

    def chosen(pod: Mapping[str, Any]) -> Script:
        script = director(pod)
        containers, labels = dict(script.containers), pod["metadata"]["labels"]
        for name, phase in _PHASES[labels.get(pods.JOB)].items():
            outcome = containers.get(name, Outcome())
            if outcome.until is None and outcome.exit_code is not None:
                containers[name] = replace(outcome, until=_Said(recorder, labels[pods.MIGRATION], phase))
        return replace(script, containers=containers)

    return chosen


class Scene:
    """What a person does, and when they do the next thing: once nothing happens any more."""

    def __init__(self, api: Client, namespace: str, recorder: Recorder) -> None:
        self._api, self._namespace, self._recorder = api, namespace, recorder

    def notes(self, text: str) -> None:
        """What a person does, or should know, next."""
        self._recorder.notes(text)

    def applies(self, text: str, manifest: Object) -> None:
        """`kubectl apply` of something new."""
        self.notes(text)
        self._api.create(manifest)

    def edits(self, text: str, spec: Object, name: str = "churn") -> None:
        """`kubectl edit`."""
        self.notes(text)
        self._api.patch(MIGRATION, name, self._namespace, {"spec": spec})

    def deletes(self, text: str, goes: Iterable[str], name: str = "churn") -> None:
        """`kubectl delete`, and the end of all children of the kinds that go with it."""
        self.notes(text)
        self._api.delete(MIGRATION, name, self._namespace)
        self._api.until_gone(MIGRATION, name, self._namespace)
        for kind in goes:
            # The garbage collector hears of a new CRD within half a minute.
            self._api.until_listed(kind, self._namespace, bool, count=0, seconds=90)
        self.rests()

    def rests(self) -> None:
        """Waits until nothing happens any more."""
        self._recorder.until_quiet()

    def comes_to(self, reason: str, name: str = "churn", *, drained: bool = False) -> None:
        """Waits until the spec as it is now has come to this, and nothing happens any more.

        `drained`: also until the revision before is gone, which is given some seconds to answer what it was asked.
        """
        self._api.until(MIGRATION, name, self._namespace, is_ready(reason), seconds=120)
        if reason not in _UNTOLD:
            self._recorder.until_told(reason)
        if drained:
            self._api.until_listed("Deployment", self._namespace, bool, seconds=120)
        self.rests()
