"""A base image from the machine's own packages, for machines that reach no image registry: Debian with Python.

It is what `python:3.11-slim-bookworm` is in small: Python, its venv module, certificates and a shell.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

PACKAGES: Final = ("ca-certificates", "python3", "python3-venv")
# Nobody reads documentation in a container. The others tell where the packages came from or on which machine.
_REMOVED: Final = (
    *("usr/share/doc", "usr/share/info", "usr/share/locale", "usr/share/man", "usr/share/lintian"),
    *("var/cache/apt", "var/cache/debconf", "var/lib/apt/lists", "var/log"),
    *("etc/apt/sources.list", "etc/apt/sources.list.d", "etc/hostname", "etc/resolv.conf", "debootstrap"),
)
_EMPTIED: Final = ("etc/apt/sources.list.d", "var/cache/apt/archives/partial", "var/lib/apt/lists/partial", "var/log")


class NoBase(Exception):
    """No base image can be made here."""


def digest() -> str:
    """Of what goes into the base, 16 hexadecimal digits; the versions of packages are those of the day it was made."""
    parts = (_codename(), platform.machine(), *PACKAGES, Path(__file__).read_text())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def make(archive: Path) -> None:
    """Writes the root file system as a tar archive. NoBase: it cannot be made on this machine."""
    if os.geteuid() != 0:
        raise NoBase("making a base image with debootstrap needs root")
    if shutil.which("debootstrap") is None:
        raise NoBase("debootstrap is not installed")
    suite, mirror = _codename(), _mirror()
    sys.stderr.write(f"Making a base image of {suite} from this machine's package sources: about 40 seconds, once.\n")
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix="base-") as made:
        root = Path(made) / "root"
        root.mkdir(mode=0o755)
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", suite, str(root), mirror]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            raise NoBase(f"debootstrap failed with {done.returncode}: {done.stdout[-2000:]}")
        strip(root)
        unfinished = Path(made) / "root.tar"
        tar = ["tar", "--create", "--file", str(unfinished), "--directory", str(root), "--numeric-owner", "--sort=name"]
        subprocess.run([*tar, "."], check=True)
        unfinished.rename(archive)


def strip(root: Path) -> None:
    """Takes away documentation, caches, logs and what tells of the machine."""
    for name in _REMOVED:
        path = root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for name in _EMPTIED:
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "etc/machine-id").write_text("")


def _codename() -> str:
    """The name of this machine's distribution, such as 'bookworm'. NoBase: it is not Debian's kind."""
    try:
        codename = platform.freedesktop_os_release().get("VERSION_CODENAME")
    except OSError:
        codename = None
    if codename is None or shutil.which("apt-get") is None:
        raise NoBase("a base image can be made on Debian and its kind only")
    return codename


def _mirror() -> str:
    """The address of this machine's package sources for its own distribution. NoBase: there is none."""
    command = ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in asked.stdout.splitlines():
        site, *release = shlex.split(line)
        if release == [_codename(), "main"]:
            return site
    raise NoBase(f"no package source of {_codename()} main is configured: {asked.stderr.strip()}")
