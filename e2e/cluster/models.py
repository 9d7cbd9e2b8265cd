"""The models and data sets of examples/05-cluster, made before a cluster is entered: it has no way to a package index.

`python -m cluster.models` makes them in `.build/models`, unless they are there and what they follow from is unchanged.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / ".build" / "models"
_EXAMPLES: Final = ROOT / "examples"


def make(folder: Path = FOLDER) -> Path:
    """The folder. CalledProcessError: they cannot be made."""
    digest = _digest()
    # Beside the folder, all of whose files are uploaded.
    stamp = folder.with_name(f"{folder.name}.inputs")
    if folder.exists() and stamp.exists() and stamp.read_text() == digest:
        return folder
    unfinished = folder.with_name(f"{folder.name}.unfinished-{os.getpid()}")
    unfinished.mkdir(parents=True)
    try:
        command = [sys.executable, str(_EXAMPLES / "05-cluster" / "models.py"), str(unfinished)]
        subprocess.run([*command, "tumours", "progression"], check=True, stdout=sys.stderr)
        complete = not subprocess.run([*command, "wine"], check=False, stdout=sys.stderr).returncode
        if not complete:
            sys.stderr.write("`wine` could not be trained, as is said above: what needs it fails.\n")
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
        stamp.write_text(digest if complete else "")
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _digest() -> str:
    """Of the examples' programs and of the environment that runs them."""
    files = [*_EXAMPLES.rglob("*.py"), *_EXAMPLES.rglob("requirements.txt"), ROOT / "requirements" / "all.txt"]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


if __name__ == "__main__":
    print(make())
