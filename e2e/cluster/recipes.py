"""Which images the suite needs, how each is built, and what its content follows from."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from cluster import programs

ROOT: Final = Path(__file__).parents[2]
REGISTRY: Final = "paritygate.test"
"""Of the images' names. There is no such registry, so that nothing is ever pulled from one by mistake."""
DOCKERFILES: Final = ROOT / "e2e" / "images"
# By target of our Dockerfile: its lock.
_OURS: Final = {"operator": "operator", "server": "server", "worker": "worker-tabular"}
_SOURCES: Final = (
    *("Dockerfile", ".dockerignore", "LICENSE", "README.md", "pyproject.toml", "operator"),
    *("requirements/build.txt", "tools/image-environment.sh", "tools/image-package.sh"),
)


@dataclasses.dataclass(frozen=True)
class Ground:
    """What images stand on."""

    reference: str
    key: str
    """What its content follows from."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One image."""

    name: str
    dockerfile: Path
    key: str
    """Digest of all that the image follows from."""
    context: Path | None = None
    """None = a folder of the Dockerfile's `files` alone."""
    files: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    target: str | None = None
    arguments: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def tag(self) -> str:
        """The name that the image has in a store and in pods that do not pin it."""
        return f"{REGISTRY}/{self.name}:e2e"


def recipes(ground: Ground) -> list[Recipe]:
    """All images. NoToolchain, NotBuilt: programs that go into them are not there."""
    return [*_ours(ground), _legacy(ground), _base(ground), *_programs()]


def digest_of(folder: Path, names: Iterable[str], *parts: str) -> str:
    """Of files and whole folders in `folder`, without bytecode, and of further parts; 16 hexadecimal digits."""
    digest = hashlib.sha256(json.dumps(parts).encode())
    for name in names:
        path = folder / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.suffix != ".pyc":
                content = hashlib.sha256(file.read_bytes()).hexdigest()
                digest.update(json.dumps((str(file.relative_to(folder)), os.access(file, os.X_OK), content)).encode())
    return digest.hexdigest()[:16]


def _ours(ground: Ground) -> list[Recipe]:
    return [
        Recipe(
            target,
            ROOT / "Dockerfile",
            digest_of(ROOT, [*_SOURCES, f"requirements/{lock}.txt"], target, ground.key),
            context=ROOT,
            target=target,
            arguments={"BASE": ground.reference},
        )
        for target, lock in _OURS.items()
    ]


def _legacy(ground: Ground) -> Recipe:
    folder = DOCKERFILES / "legacy"
    key = digest_of(folder, [""], ground.key)
    return Recipe("legacy", folder / "Dockerfile", key, context=folder, arguments={"BASE": ground.reference})


def _base(ground: Ground) -> Recipe:
    folder = DOCKERFILES / "base"
    key = digest_of(folder, [""], ground.key)
    return Recipe("base", folder / "Dockerfile", key, context=folder, arguments={"BASE": ground.reference})


def _programs() -> list[Recipe]:
    folder = DOCKERFILES / "program"
    # Names of programs hold the digest of what they were built from.
    return [
        Recipe(name, folder / "Dockerfile", digest_of(folder, [""], path.name), files={"program": path})
        for name, path in (("s3", programs.s3()), ("pause", programs.pause()))
    ]
