"""Stands in for the kubelet of a scale benchmark, in a process of its own: `standin.py SESSION`, until its input ends.

Pods end at once with the messages that real stages would publish; nothing is fetched, converted or judged. States that
no watcher could tell apart are not written, so that the stand-in takes as little of the API server as it can.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from control_plane import plane
from control_plane.kubelet import Kubelet
from control_plane.migrations import Work


def main() -> None:
    """Joins the control plane of the folder SESSION, completes its pods, and ends with whoever started it."""
    with plane.shared(Path(sys.argv[1])) as found, Kubelet(found, None, Work(), steps=False):
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
