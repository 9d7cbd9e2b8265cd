"""Makes the models and data sets that the manifests of this example name, as they are to lie in the bucket `models`.

    python models.py FOLDER [tumours] [progression] [wine]

writes all of them, or those that are named, to folders of these names in FOLDER. `wine` is trained under scikit-learn
1.2, which uv installs into an environment of its own; it needs Python 3.11.
"""

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1]


def tumours(folder: Path) -> None:
    """The model of example 01, its export, and a second model for the same clients."""
    run(sys.executable, "01-breast-cancer/train.py", folder)
    run(sys.executable, "05-cluster/retrain.py", folder)


def progression(folder: Path) -> None:
    """The model of example 02, and its usual export."""
    run(sys.executable, "02-diabetes/train.py", folder)
    run(sys.executable, "02-diabetes/export.py", folder)


def wine(folder: Path) -> None:
    """The model of example 04."""
    from uv import find_uv_bin

    old = "04-old-scikit-learn"
    environment = ("--no-project", "--python", "3.11", "--with-requirements", EXAMPLES / old / "requirements.txt")
    run(find_uv_bin(), "run", *environment, f"{old}/train.py", folder)


def run(*command: str | Path) -> None:
    """Runs a command in the folder of the examples; ends with its status if it fails."""
    status = subprocess.run(command, cwd=EXAMPLES, check=False).returncode
    if status:
        sys.exit(status)


KNOWN = {"tumours": tumours, "progression": progression, "wine": wine}

if __name__ == "__main__":
    target, *names = sys.argv[1:] or sys.exit(__doc__)
    if unknown := set(names) - set(KNOWN):
        sys.exit(f"models.py: there is no {', '.join(sorted(unknown))}; there are {', '.join(KNOWN)}")
    for name in names or KNOWN:
        KNOWN[name](Path(target).resolve() / name)
