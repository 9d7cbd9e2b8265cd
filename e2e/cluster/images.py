"""The images of the suite, built from this checkout, and how they come into a containerd.

`python -m cluster.images` builds what is missing and writes `.build/images/images.json`. Archives are kept in the
user's cache, each by a digest of all that goes into it, so that checkouts share them and nothing is built twice.
`E2E_BASE` names the base to build on, with Python 3.11; without it one is made from this machine's packages where that
can be done, and elsewhere it is the Dockerfile's own.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from cluster import base, builders, programs
from cluster.recipes import DOCKERFILES, REGISTRY, ROOT, Ground, Recipe, recipes
from control_plane import binaries

DEFAULT_BASE: Final = "python:3.11-slim-bookworm"
"""As in the Dockerfile."""
# Archives of each image in the cache: some checkouts at different commits.
_KEPT: Final = 6


def build() -> Path:
    """Builds what is missing; the path of `images.json`. NoBuilder, NoBase, NoToolchain, NotBuilt: that failed."""
    programs.build_for_images()
    cache = binaries.cache() / "images"
    with binaries.locked(cache / ".lock"):
        builder = builders.found(cache)
        ground = _ground(builder)
        wanted = recipes(ground)
        if missing := [recipe for recipe in wanted if not _record(cache, recipe).exists()]:
            _lay(ground, builder, cache)
            for recipe in missing:
                _build(recipe, ground, builder, cache)
        described = {recipe.name: _described(recipe, cache) for recipe in wanted}
    path = ROOT / ".build" / "images" / "images.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_text(json.dumps(described, indent=2) + "\n")
    unfinished.rename(path)
    return path


def load(containerd: Path, images: Mapping[str, Mapping[str, str]]) -> None:
    """Brings images, as in `images.json`, into the containerd that listens at a socket, for pods to use by digest.

    containerd finds an image by the names that it was given, and the kubelet asks for exactly what a pod says. So each
    gets its name with the digest beside its tag. CalledProcessError: `ctr` failed.
    """
    ctr = ("ctr", "--address", str(containerd), "--namespace", "k8s.io", "images")
    listed = subprocess.run([*ctr, "list", "--quiet"], check=True, capture_output=True, text=True)
    for image in images.values():
        if image["reference"] not in listed.stdout.split():
            names = ("--base-name", image["reference"].partition("@")[0], "--digests")
            subprocess.run([*ctr, "import", *names, image["archive"]], check=True, stdout=sys.stderr)


def _ground(builder: builders.Builder) -> Ground:
    """What images stand on here."""
    if named := os.environ.get("E2E_BASE"):
        return Ground(named, named)
    if builder.makes_base:
        with contextlib.suppress(base.NoBase):
            key = base.digest()
            return Ground(f"{REGISTRY}/ground:{key}", key)
    return Ground(DEFAULT_BASE, DEFAULT_BASE)


def _lay(ground: Ground, builder: builders.Builder, cache: Path) -> None:
    """Makes the ground where it is one of our own."""
    if not ground.reference.startswith(REGISTRY) or builder.has(ground.reference):
        return
    root = cache / f"root-{ground.key}.tar"
    if not root.exists():
        base.make(root)
    dockerfile = DOCKERFILES / "ground" / "Dockerfile"
    with _context(Recipe("ground", dockerfile, ground.key, files={"root.tar": root}), cache) as context:
        # Times of files are kept here: the bytecode of the standard library is valid by them.
        builder.build(builders.Build(ground.reference, dockerfile, context, reproducible=False))


def _build(recipe: Recipe, ground: Ground, builder: builders.Builder, cache: Path) -> None:
    """Builds an image to its archive, and then records that it is complete."""
    sys.stderr.write(f"Building the image {recipe.name}\n")
    archive, record = _archive(cache, recipe), _record(cache, recipe)
    with _context(recipe, cache) as context, tempfile.TemporaryDirectory(dir=cache) as folder:
        image = builders.Build(recipe.tag, recipe.dockerfile, context, recipe.target, recipe.arguments)
        unfinished = Path(folder) / "archive.tar"
        builder.build(image)
        builder.save(image.tag, unfinished)
        digest = builders.manifest_digest(unfinished)
        if recipe not in recipes(ground):
            raise builders.NotBuilt(f"Sources of {recipe.tag} changed while it was built from them: build once more")
        unfinished.rename(archive)
        described = Path(folder) / "record.json"
        described.write_text(json.dumps({"digest": digest}))
        described.rename(record)
    records = sorted(cache.glob(f"{recipe.name}-*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in records[_KEPT:]:
        old.unlink()
        old.with_suffix(".tar").unlink()


@contextlib.contextmanager
def _context(recipe: Recipe, cache: Path) -> Iterator[Path]:
    """The folder that the Dockerfile copies from."""
    if recipe.context is not None:
        yield recipe.context
        return
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        for name, path in recipe.files.items():
            shutil.copy2(path, Path(folder) / name)
        yield Path(folder)


def _described(recipe: Recipe, cache: Path) -> dict[str, str]:
    """An image's entry in `images.json`."""
    record = _record(cache, recipe)
    record.touch()  # it is in use
    digest = json.loads(record.read_text())["digest"]
    reference = f"{recipe.tag.rpartition(':')[0]}@{digest}"
    return {"archive": str(_archive(cache, recipe)), "reference": reference, "tagged": recipe.tag, "digest": digest}


def _archive(cache: Path, recipe: Recipe) -> Path:
    return cache / f"{recipe.name}-{recipe.key}.tar"


def _record(cache: Path, recipe: Recipe) -> Path:
    return _archive(cache, recipe).with_suffix(".json")


def main() -> int:
    """Builds, and says where the images are described. Exit status 1: something cannot be built."""
    try:
        print(build())
    except (builders.NoBuilder, builders.NotBuilt, base.NoBase, binaries.NoToolchain, binaries.NotBuilt) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
