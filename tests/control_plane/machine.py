"""A node that really runs pods: images are interpreters of this machine, claims and volumes are folders."""

import base64
import itertools
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import pytest

from control_plane import sandbox
from control_plane.client import Client
from control_plane.podwork import PodWork
from control_plane.sandbox import Interpreter, Mount, Process, User

Object = Mapping[str, Any]
_EVERYBODY: Final = 0o777
_SET_GROUP: Final = 0o2000
_OF_GROUP: Final = 0o060
_TERMINATION_MODE: Final = 0o666
_UNITS: Final = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 10**3, "M": 10**6, "G": 10**9}


class Machine:
    """A director for `Kubelet` whose pods are processes. As a context it is entered first and left last."""

    def __init__(self, folder: Path, images: Mapping[str, Interpreter], api: Client) -> None:
        """`folder`: of volumes. `images`: by name as manifests state it; pulling any other fails.

        A test that needs it is skipped where this machine allows no namespaces.
        """
        missing = sandbox.obstacle()
        if missing:
            pytest.skip(missing)
        self._folder, self.images, self._api = folder, images, api
        self._numbers = itertools.count()
        self.pods: dict[str, PodWork] = {}
        """Every pod so far, by name."""

    def __call__(self, pod: Object) -> PodWork:
        """Takes a pod that is bound to the node."""
        work = PodWork(pod, self)
        self.pods[pod["metadata"]["name"]] = work
        return work

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def claim(self, namespace: str, name: str) -> Path:
        """The folder that a claim stands for. Root's, as a volume is that nobody has used yet."""
        folder = self._folder / "claims" / namespace / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def logs(self, pod: str) -> str:
        """What all containers of a pod have written."""
        folder = self.pods[pod].folder / "logs"
        parts = (f"--- {file.name}\n{file.read_text(errors='replace')}" for file in sorted(folder.iterdir()))
        return "\n".join(parts)

    def folder_of(self, pod: Object) -> Path:
        """A folder for a pod's own volumes, logs and root."""
        return self._folder / "pods" / pod["metadata"]["uid"]

    def volumes(self, pod: Object) -> dict[str, Path]:
        """Makes the volumes of a pod, with the rights that the kubelet gives them; by name."""
        group = pod["spec"].get("securityContext", {}).get("fsGroup")
        found = {}
        for volume in pod["spec"].get("volumes", ()):
            if "emptyDir" in volume:
                path = self.folder_of(pod) / "volumes" / volume["name"]
                path.mkdir(parents=True)
                path.chmod(_EVERYBODY)
            elif "persistentVolumeClaim" in volume:
                path = self.claim(pod["metadata"]["namespace"], volume["persistentVolumeClaim"]["claimName"])
            else:
                raise NotImplementedError(f"volume {volume}: this node has emptyDir and claims only")
            if group is not None:
                _give_to_group(path, group)
            found[volume["name"]] = path
        return found

    def process(self, pod: Object, container: Object, volumes: Mapping[str, Path]) -> Process:
        """A container as what is started."""
        limits = container.get("resources", {}).get("limits", {})
        security = {**pod["spec"].get("securityContext", {}), **container.get("securityContext", {})}
        path = container.get("terminationMessagePath", "/dev/termination-log")
        mounts = [_mount(one, volumes) for one in container.get("volumeMounts", ())]
        return Process(
            name=container["name"],
            command=[*container["command"], *container.get("args", ())],
            interpreter=self.images[container["image"]],
            environment={"HOSTNAME": pod["metadata"]["name"], **self._environment(pod, container)},
            mounts=[*mounts, Mount(self.termination(pod, container["name"]), path)],
            user=_user(security),
            folder=container.get("workingDir", "/"),
            memory=quantity(limits["memory"]) if "memory" in limits else None,
            cpus=self._cpus(limits.get("cpu")),
            read_only_root=security.get("readOnlyRootFilesystem", False),
        )

    def termination(self, pod: Object, container: str) -> Path:
        """The file that a container may leave its last word in; empty whenever it starts."""
        file = self.folder_of(pod) / "termination" / container
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
        file.chmod(_TERMINATION_MODE)
        return file

    def _environment(self, pod: Object, container: Object) -> dict[str, str]:
        found = {}
        for source in container.get("envFrom", ()):
            secret = self._api.get("Secret", source["secretRef"]["name"], pod["metadata"]["namespace"])
            found |= {key: base64.b64decode(value).decode() for key, value in secret.get("data", {}).items()}
        return found | {one["name"]: one.get("value", "") for one in container.get("env", ())}

    def _cpus(self, limit: str | None) -> Sequence[int]:
        """As many processors as a limit allows, rounded up: affinity is not a share of time, but bounds threads."""
        ours = sorted(os.sched_getaffinity(0))
        if limit is None:
            return ours
        count = -(-int(limit.removesuffix("m")) // 1000) if limit.endswith("m") else -(-float(limit) // 1)
        first = next(self._numbers)
        return [ours[(first + number) % len(ours)] for number in range(min(int(count), len(ours)))]


def quantity(text: str) -> int:
    """Bytes of a memory quantity."""
    unit = text.lstrip("0123456789.")
    return int(float(text.removesuffix(unit)) * _UNITS.get(unit, 1))


def _mount(one: Object, volumes: Mapping[str, Path]) -> Mount:
    source = volumes[one["name"]]
    if "subPath" in one:
        below = source / one["subPath"]
        if not below.exists():
            below.mkdir()
            # As the volume's own: the kubelet gives a new folder its rights.
            below.chmod(source.stat().st_mode & 0o7777)
            _owned(below, source.stat().st_gid)
        source = below
    return Mount(source, one["mountPath"], one.get("readOnly", False))


def _user(security: Object) -> User:
    group = security.get("runAsGroup", 0)
    shared = [security["fsGroup"]] if "fsGroup" in security else []
    return User(security.get("runAsUser", 0), group, tuple(dict.fromkeys([group, *shared])))


def _give_to_group(root: Path, group: int) -> None:
    """What fsGroup means under `OnRootMismatch`: all of a volume whose root is not the group's yet is given to it."""
    status = root.stat()
    if os.geteuid() == 0 and status.st_gid == group and status.st_mode & _SET_GROUP:
        return
    for path in (root, *root.rglob("*")):
        _owned(path, group)
        if not path.is_symlink():
            more = _OF_GROUP | (_SET_GROUP | 0o010 if path.is_dir() else 0)
            path.chmod(path.stat().st_mode & 0o7777 | more)


def _owned(path: Path, group: int) -> None:
    if os.geteuid() == 0:
        os.chown(path, -1, group, follow_symlinks=False)
