"""Clusters that are not of our making: one that KUBECONFIG names, or kind where there is Docker or Podman."""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from cluster import models
from cluster.bare import TOOLS
from cluster.problems import Unavailable
from control_plane import plane

CHOICES: Final = ("existing", "kind", "bare")


def chosen() -> str:
    """Which cluster is used: PARITYGATE_CLUSTER says it, else KUBECONFIG if it is meant, kind if it works, or our own.

    Unavailable: the one that was asked for cannot be used.
    """
    asked = os.environ.get("PARITYGATE_CLUSTER")
    if asked:
        if asked not in CHOICES:
            raise Unavailable(f"PARITYGATE_CLUSTER is {asked!r}; use one of {', '.join(CHOICES)}")
        return asked
    given = plane.kubeconfig_given()
    if given and plane.meant_for_tests(given):
        return "existing"
    if given:
        sys.stderr.write(
            f"{given} names a cluster elsewhere, which is left alone; USE_EXISTING_CLUSTER=true uses it for tests.\n"
        )
    return "kind" if provider() else "bare"


def provider() -> str | None:
    """What kind can make nodes with; None = there is no kind, or nothing for it."""
    if shutil.which("kind") is None:
        return None
    return next((name for name in ("docker", "podman") if _works(name)), None)


def images_given() -> Path:
    """The file that names images which an existing cluster can pull. Unavailable: there is none."""
    given = os.environ.get("PARITYGATE_IMAGES")
    if given and Path(given).is_file():
        return Path(given)
    raise Unavailable(
        "An existing cluster must be able to pull the images: push the archives that `.build/images/images.json` names "
        "to a registry of yours, and let PARITYGATE_IMAGES name a copy of that file with their references there."
    )


def environment(kubeconfig: Path, images: Path) -> dict[str, str]:
    """What a command is told of such a cluster."""
    told = {"KUBECONFIG": str(kubeconfig), "PARITYGATE_IMAGES": str(images), "USE_EXISTING_CLUSTER": "true"}
    told["PARITYGATE_MODELS"] = str(models.FOLDER)
    return {**os.environ, "PATH": f"{TOOLS}:{os.environ.get('PATH', '')}", **told}


@contextlib.contextmanager
def kind(images: Path, folder: Path) -> Iterator[Path]:
    """The kubeconfig of a cluster of kind with our images on its node. Unavailable: there can be none."""
    engine = provider()
    if engine is None:
        raise Unavailable("PARITYGATE_CLUSTER=kind needs kind, and Docker or Podman that answers")
    name, kubeconfig = f"paritygate-{secrets.token_hex(4)}", folder / "kubeconfig"
    settings = {**os.environ, "KIND_EXPERIMENTAL_PROVIDER": engine}

    def call(*command: str) -> None:
        subprocess.run(command, env=settings, check=True, stdout=sys.stderr)

    try:
        call("kind", "create", "cluster", "--name", name, "--kubeconfig", str(kubeconfig), "--wait", "120s")
        for one in json.loads(images.read_text()).values():
            _load(engine, f"{name}-control-plane", one)
        yield kubeconfig
    finally:
        call("kind", "delete", "cluster", "--name", name, "--kubeconfig", str(kubeconfig))


def _load(engine: str, node: str, image: Mapping[str, str]) -> None:
    """`kind load` would keep only the tag; pods name images by digest."""
    base = image["reference"].partition("@")[0]
    command = [
        "exec",
        "-i",
        node,
        "ctr",
        "--namespace=k8s.io",
        "images",
        "import",
        "--base-name",
        base,
        "--digests",
        "-",
    ]
    with Path(image["archive"]).open("rb") as archive:
        subprocess.run([engine, *command], stdin=archive, stdout=sys.stderr, check=True)


def _works(engine: str) -> bool:
    return (
        bool(shutil.which(engine)) and not subprocess.run([engine, "info"], capture_output=True, check=False).returncode
    )
