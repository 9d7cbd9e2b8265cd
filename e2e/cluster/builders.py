"""Builds images to archives with what this machine has: buildah, Podman or Docker."""

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

from cluster import pip_settings

_AUTHORITY: Final = "/run/package-index-ca.pem"


class NoBuilder(Exception):
    """No image can be built here."""


class NotBuilt(Exception):
    """Building an image failed."""


@dataclasses.dataclass(frozen=True)
class Build:
    """One image to build."""

    tag: str
    dockerfile: Path
    context: Path
    target: str | None = None
    arguments: Mapping[str, str] = dataclasses.field(default_factory=dict)
    reproducible: bool = True
    """Whether files lose their times, so that the same sources give the same digest."""


class Builder(Protocol):
    """What builds images."""

    makes_base: bool
    """Whether it builds on a machine that reaches no image registry, on a base made here."""

    def build(self, image: Build) -> None:
        """Builds the image into the builder's store. NotBuilt: it failed."""

    def save(self, tag: str, archive: Path) -> None:
        """Writes an image as an archive in OCI's layout. NotBuilt: it failed."""

    def has(self, tag: str) -> bool:
        """Whether an image of that name can be built upon."""


def found(cache: Path) -> Builder:
    """What builds on this machine; `cache`: a folder for its images. NoBuilder: there is nothing."""
    name = builds("buildah", "podman", "docker")
    if name is None:
        raise NoBuilder(
            "Images are built with buildah, Podman or Docker, and none of them is here (Docker counts when `docker "
            "info` succeeds). On Debian: apt-get install buildah debootstrap"
        )
    path = shutil.which(name) or name
    return Docker(path) if name == "docker" else Buildah(path, cache)


def builds(*names: str) -> str | None:
    """The first of these programs that can build here; Docker's is often there without its daemon."""
    for name in names:
        path = shutil.which(name)
        if path and (name != "docker" or _succeeds(path, "info")):
            return name
    return None


class Buildah:
    """buildah or Podman, with a store of their own in the cache and no daemon."""

    makes_base = True

    def __init__(self, program: str, cache: Path) -> None:
        state = Path("/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
        places = ("--root", str(cache / "store"), "--runroot", str(state / f"paritygate-images-{os.geteuid()}"))
        self._command = (program, *places, "--storage-driver", "overlay")

    def build(self, image: Build) -> None:
        """Builds by chroot, which needs neither a container runtime nor a network of its own."""
        options = ["--isolation", "chroot", "--layers", "--format", "oci", "--tag", image.tag]
        options += ["--timestamp", "0"] if image.reproducible else []
        with _mounted() as volumes:
            _run([*self._command, "build", *options, *volumes, *_described(image)])

    def save(self, tag: str, archive: Path) -> None:
        """Saves with a compression that costs a third of gzip's time, and no size; containerd knows it since 1.5."""
        compression = ("--compression-format", "zstd", "--compression-level", "1")
        _run([*self._command, "push", "--quiet", *compression, tag, f"oci-archive:{archive}:{tag}"])

    def has(self, tag: str) -> bool:
        """Whether the store has the image."""
        return _succeeds(*self._command, "inspect", "--type", "image", tag)


class Docker:
    """Docker with BuildKit."""

    makes_base = False

    def __init__(self, program: str) -> None:
        self._program = program

    def build(self, image: Build) -> None:
        """Builds in the daemon's own store."""
        epoch = ["--build-arg", "SOURCE_DATE_EPOCH=0"] if image.reproducible else []
        _run([self._program, "build", "--tag", image.tag, *epoch, *_index_argument(), *_described(image)])

    def save(self, tag: str, archive: Path) -> None:
        """Saves in OCI's layout, as Docker does since version 25."""
        _run([self._program, "save", "--output", str(archive), tag])

    def has(self, tag: str) -> bool:
        """Whether the daemon has the image."""
        return _succeeds(self._program, "image", "inspect", tag)


def manifest_digest(archive: Path) -> str:
    """The digest by which a registry or a containerd knows the archive's only image. NotBuilt: it names none."""
    with tarfile.open(archive) as tar:
        try:
            file = tar.extractfile("index.json")
        except KeyError:
            file = None
        if file is None:
            raise NotBuilt(f"{archive} is not in OCI's layout; Docker writes it since version 25")
        manifests = json.load(file)["manifests"]
    if len(manifests) != 1:
        raise NotBuilt(f"{archive} holds {len(manifests)} images instead of one")
    digest: str = manifests[0]["digest"]
    return digest


def _described(image: Build) -> list[str]:
    arguments = [part for name, value in image.arguments.items() for part in ("--build-arg", f"{name}={value}")]
    target = ["--target", image.target] if image.target else []
    return [*arguments, *target, "--file", str(image.dockerfile), str(image.context)]


def _known() -> dict[str, str]:
    return pip_settings.settings(os.environ, pip_settings.files(os.environ, Path.home()))


@contextlib.contextmanager
def _mounted() -> Iterator[list[str]]:
    """Options that show this machine's pip configuration to a build, and to nothing that comes of it."""
    known = _known()
    volumes = []
    if authority := known.get("cert"):
        volumes += ["--volume", f"{Path(authority).resolve()}:{_AUTHORITY}:ro"]
        known["cert"] = _AUTHORITY
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(pip_settings.written(known))
        file.flush()
        yield [*volumes, "--volume", f"{file.name}:/etc/pip.conf:ro"]


def _index_argument() -> list[str]:
    index = _known().get("index-url")
    return ["--build-arg", f"PIP_INDEX_URL={index}"] if index else []


def _run(command: list[str]) -> None:
    """Runs a command whose words are shown if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        # The whole command may hold the address of a package index, with a password.
        raise NotBuilt(
            f"{Path(command[0]).name} for {command[-1]} ended with {done.returncode}:\n{done.stdout[-4000:]}"
        )


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0
