"""What a test wants its pods to do."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from control_plane.podwork import PodWork

_OUT_OF_MEMORY = 137


@dataclass(frozen=True)
class Outcome:
    """What becomes of one container."""

    exit_code: int | None = 0
    """None = runs until the pod is stopped. Of a sidecar: with what it ends when it is stopped."""
    message: str = ""
    """Its termination message, cut as the kubelet cuts it."""
    reason: str = ""
    """Why it ended; empty = Completed or Error, by exit code."""
    seconds: float = 0.0
    """For how long it runs, at least."""
    until: threading.Event | None = None
    """It does not end before this is set."""
    waiting: tuple[str, str] | None = None
    """Reason and message for which it never starts."""
    ready: bool = True
    """Whether it passes its readiness probe while it runs."""
    restarts: int = 0
    """How often it ended, with this exit code and reason, and was started again; then it runs well."""
    evicts: str = ""
    """Instead of ending, its pod is evicted with this message."""
    disruption: bool = False
    """The eviction is marked by the condition DisruptionTarget: pressure on the node is, a full volume is not."""

    @property
    def passes_at_once(self) -> bool:
        """Whether nobody could see it running."""
        return self.exit_code is not None and not self.seconds and self.until is None


RUNS = Outcome(exit_code=None)
OUT_OF_MEMORY = Outcome(exit_code=_OUT_OF_MEMORY, reason="OOMKilled")


def cannot_pull(image: str) -> Outcome:
    """The image is not to be had."""
    return Outcome(waiting=("ImagePullBackOff", f'Back-off pulling image "{image}"'))


@dataclass(frozen=True)
class Script:
    """What becomes of one pod."""

    containers: Mapping[str, Outcome] = field(default_factory=dict)
    """By name; containers that are not named succeed, or run where they are meant to run for ever."""
    delay: float = 0.0
    """Seconds until its first container starts."""


Director = Callable[[Mapping[str, Any]], "Script | PodWork"]
"""Chooses a script for a pod as it is first seen on the node, or has it carried out: see `machine.Machine`."""


def play(**containers: Outcome) -> Director:
    """The same for every pod, by names of containers."""
    script = Script(containers)
    return lambda _: script
