"""The status of one pod as the kubelet would write it."""

from collections.abc import Mapping
from typing import Any, Final

from control_plane.scripts import RUNS, Outcome
from paritygate import clock

_MESSAGE_BYTES: Final = 4096
_ALL_MESSAGES_BYTES: Final = 12288
_KILLED: Final = 137
_TERMINATED: Final = 143


class PodStatus:
    """States of all containers, and what follows from them for the pod."""

    def __init__(self, pod: Mapping[str, Any], address: str) -> None:
        spec = pod["spec"]
        self._restarts_always = spec.get("restartPolicy", "Always") == "Always"
        self._never_restarts = spec.get("restartPolicy") == "Never"
        self._init = [container["name"] for container in spec.get("initContainers", ())]
        self.mains: list[str] = [container["name"] for container in spec["containers"]]
        self.sidecars = {c["name"] for c in spec.get("initContainers", ()) if c.get("restartPolicy") == "Always"}
        self._images = {c["name"]: c["image"] for c in (*spec.get("initContainers", ()), *spec["containers"])}
        self._message_bytes = min(_MESSAGE_BYTES, _ALL_MESSAGES_BYTES // len(self._images))
        self._entries: dict[str, dict[str, Any]] = {name: self._waiting(name) for name in self._images}
        self._address, self._began = address, _now()
        self.phase = "Pending"
        self._reason: dict[str, str] = {}
        self._disrupted = False
        self._codes_at_stop: dict[str, int] = {}
        self.ready = True
        """Whether a test lets the pod pass its readiness probes."""

    @property
    def init_order(self) -> list[str]:
        """Init containers and sidecars, as they start."""
        return self._init

    @property
    def restarts(self) -> bool:
        """Whether containers that fail are started again."""
        return not self._never_restarts

    def default(self, name: str) -> Outcome:
        """What becomes of a container that no script names."""
        return RUNS if name in self.sidecars or (self._restarts_always and name in self.mains) else Outcome()

    def waits(self, name: str, reason: str, message: str = "") -> None:
        self._entries[name]["state"] = {"waiting": {"reason": reason, **({"message": message} if message else {})}}

    def runs(self, name: str, outcome: Outcome) -> None:
        entry = self._entries[name]
        entry.update(state={"running": {"startedAt": _now()}}, started=True, restartCount=outcome.restarts)
        entry["ready"] = outcome.ready if name in self.sidecars or name in self.mains else False
        if outcome.restarts:
            last = self._ended(name, outcome.exit_code or 1, outcome.reason or "Error", outcome.message, _now())
            entry["lastState"] = {"terminated": last}
        elif name in self.sidecars:
            self._codes_at_stop[name] = outcome.exit_code or 0
        if all("running" in self._entries[main]["state"] for main in self.mains):
            self.phase = "Running"

    def ends(self, name: str, outcome: Outcome) -> None:
        """A container ended by itself."""
        code = outcome.exit_code or 0
        self._end(name, code, outcome.reason or ("Error" if code else "Completed"), outcome.message)

    def crashes(self, name: str, outcome: Outcome) -> None:
        """A container ended and will be started again, which the kubelet puts off."""
        self.ends(name, outcome)
        entry = self._entries[name]
        entry.update(lastState=entry["state"], restartCount=outcome.restarts + 1, ready=False, started=False)
        self.waits(name, "CrashLoopBackOff", f"back-off restarting failed container={name}")

    def concludes(self) -> None:
        """No container will run again: what still runs is stopped, and the pod has succeeded or failed."""
        for name in self._running():
            code = self._codes_at_stop.get(name, 0) if name in self.sidecars else _TERMINATED
            self._end(name, code, "Error" if code else "Completed")
        codes = [self._code(name) for name in (*self._init, *self.mains) if name not in self.sidecars]
        self.phase = "Failed" if any(code != 0 for code in codes) else "Succeeded"

    def is_evicted(self, message: str, *, disruption: bool) -> None:
        for name in self._running():
            self._end(name, _KILLED, "ContainerStatusUnknown")
        self.phase, self._reason, self._disrupted = "Failed", {"reason": "Evicted", "message": message}, disruption

    def is_done(self) -> bool:
        return self.phase in ("Succeeded", "Failed")

    def patch(self) -> dict[str, Any]:
        """The status as a strategic merge patch, which spares conditions of others."""
        init_done = all(self._passed(name) for name in self._init)
        up = self.phase == "Running" and self.ready and all(self._entries[name]["ready"] for name in self.mains)
        conditions = {
            "PodReadyToStartContainers": not self.is_done(),
            "Initialized": init_done,
            "ContainersReady": up,
            "Ready": up,
        }
        listed = [
            {"type": kind, "status": str(value), "lastTransitionTime": _now()} for kind, value in conditions.items()
        ]
        if self._disrupted:
            target = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}
            listed.append({**target, "message": self._reason["message"], "lastTransitionTime": _now()})
        return {
            "phase": self.phase,
            **self._reason,
            "conditions": listed,
            "hostIP": "127.0.0.1",
            "podIP": self._address,
            "podIPs": [{"ip": self._address}],
            "startTime": self._began,
            "initContainerStatuses": [self._seen(name) for name in self._init],
            "containerStatuses": [self._seen(name) for name in self.mains],
        }

    def _seen(self, name: str) -> dict[str, Any]:
        entry = self._entries[name]
        return {**entry, "ready": entry["ready"] and (self.ready or name in self.sidecars)}

    def _waiting(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "image": self._images[name],
            "imageID": self._images[name],
            "containerID": "",
            "ready": False,
            "started": False,
            "restartCount": 0,
            "state": {"waiting": {"reason": "PodInitializing"}},
        }

    def _running(self) -> list[str]:
        return [name for name, entry in self._entries.items() if "running" in entry["state"]]

    def _code(self, name: str) -> int | None:
        return self._entries[name]["state"].get("terminated", {}).get("exitCode")

    def _passed(self, name: str) -> bool:
        entry = self._entries[name]
        return bool(entry["started"]) if name in self.sidecars else self._code(name) == 0

    def _end(self, name: str, code: int, reason: str, message: str = "") -> None:
        entry = self._entries[name]
        started = entry["state"].get("running", {}).get("startedAt", _now())
        entry["state"] = {"terminated": self._ended(name, code, reason, message, started)}
        entry["ready"] = code == 0 and name in self._init and name not in self.sidecars
        entry["started"] = False

    def _ended(self, name: str, code: int, reason: str, message: str, started: str) -> dict[str, Any]:
        cut = message.encode()[: self._message_bytes].decode(errors="replace")
        ended = {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": _now()}
        return {**ended, "containerID": f"stand-in://{name}", **({"message": cut} if cut else {})}


def _now() -> str:
    return clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
