"""Times whole migrations against the plainest scripts that do the same export and comparison, paired in one run.

    python bench/compare.py [FOLDER] [--pairs N] [--warm-ups N] [--case NAME …] [--rows N]

Each pair runs the plain script and then `paritygate run` with all checks on, in a fresh work directory, from process
start to exit. CPU seconds are user and system time of the whole process tree: beside other work on the machine they say
more than wall time. Peak memory is the largest sum of proportional set sizes over all processes of a run, sampled ten
times a second. Prints medians and the median of the paired ratios, and the machine; ratios travel between machines,
seconds do not.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CASES = ("pipeline", "boosting", "encoder")
SAMPLE_SECONDS = 0.1
_PR_SET_CHILD_SUBREAPER = 36
FIGURES = {"seconds": ("wall s", 1), "cpu_seconds": ("CPU s", 1), "peak_mib": ("MiB", 0)}
"""Figures of a `Run` that are compared: heading and digits."""


@dataclass(frozen=True)
class Run:
    """One timed process tree."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    status: int


def adopt_orphans() -> None:
    """Makes processes whose parent was killed ours to wait for, so that a candidate's server is counted too."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def timed(command: list[str], folder: Path, log: Path) -> Run:
    """Runs `command` in `folder` to its end; its output goes to `log`."""
    peak = 0.0
    with log.open("wb") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
        ended = threading.Event()

        def sample() -> None:
            nonlocal peak
            while not ended.wait(SAMPLE_SECONDS):
                peak = max(peak, sum(map(_pss_mib, _tree(process.pid))))

        sampler = threading.Thread(target=sample)
        sampler.start()
        # Not process.wait(): usage of the ended process and of all that it has waited for comes only this way.
        _, ended_as, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        status = process.returncode = os.waitstatus_to_exitcode(ended_as)
        ended.set()
        sampler.join()
    return Run(seconds, usage.ru_utime + usage.ru_stime + _orphans_cpu_seconds(), peak, status)


def _orphans_cpu_seconds() -> float:
    total = 0.0
    while True:
        try:
            _, _, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return total
        total += usage.ru_utime + usage.ru_stime


def _tree(root: int) -> list[int]:
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting.extend(map(int, (task / "children").read_text().split()))
        except OSError:  # it ended meanwhile
            continue
    return found


def _pss_mib(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:  # it ended meanwhile
        pass
    return 0.0


def compare(case: str, folder: Path, pairs: int, warm_ups: int) -> dict[str, Any]:
    """Runs `pairs` pairs of one case, after `warm_ups` uncounted ones, and returns the figures."""
    plain, ours = [], []
    for pair in range(1 - warm_ups, pairs + 1):
        plain_run = timed([sys.executable, str(HERE.resolve() / "plain" / f"{case}.py")], folder, folder / "plain.log")
        workdir = folder / "workdir"
        shutil.rmtree(workdir, ignore_errors=True)
        command = [sys.executable, "-m", "paritygate", "run", "migration.yaml", "--workdir", str(workdir)]
        our_run = timed(command, folder, folder / "paritygate.log")
        for name, run, log in (("plain script", plain_run, "plain.log"), ("paritygate run", our_run, "paritygate.log")):
            if run.status != 0:
                sys.exit(f"{case}: the {name} ended with status {run.status}; see {folder / log}")
        if pair > 0:  # those before only warm the file caches
            plain.append(plain_run)
            ours.append(our_run)
            print(
                f"{case} pair {pair}: plain {plain_run.seconds:.1f} s, paritygate {our_run.seconds:.1f} s (CPU "
                f"{plain_run.cpu_seconds:.1f} and {our_run.cpu_seconds:.1f} s)",
                file=sys.stderr,
            )
    return {
        "case": case,
        **{figure: _paired(figure, plain, ours) for figure in FIGURES},
        "stages": _stages(folder / "workdir"),
        "runs": {"plain": [asdict(run) for run in plain], "paritygate": [asdict(run) for run in ours]},
    }


def _paired(figure: str, plain: list[Run], ours: list[Run]) -> dict[str, float]:
    left, right = ([getattr(run, figure) for run in runs] for runs in (plain, ours))
    return {
        "plain": statistics.median(left),
        "paritygate": statistics.median(right),
        "ratio": statistics.median(b / a for a, b in zip(left, right, strict=True)),
    }


def _stages(workdir: Path) -> dict[str, float]:
    """Wall seconds of each stage of the last run."""
    plan = json.loads(next(workdir.glob("*/plan.json")).read_text())
    return {stage["name"]: stage["attempts"][-1]["seconds"] for stage in plan["stages"]}


def machine() -> str:
    """Processor, cores, memory and Python, in one line."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} × {cpu}, {memory:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"


def main() -> None:
    """Runs the chosen cases and prints a table; the figures also go to FOLDER/figures.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(".build/bench"))
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--warm-ups", type=int, default=1)
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--rows", type=int, help="rows of the tables (default: of bench/cases.py)")
    arguments = parser.parse_args()
    # In a process of its own: what training leaves in memory must not be counted.
    rows = [str(arguments.rows)] if arguments.rows else []
    subprocess.run([sys.executable, str(HERE / "cases.py"), str(arguments.folder), *rows], check=True)
    adopt_orphans()
    folder = arguments.folder.resolve()
    figures = [compare(case, folder / case, arguments.pairs, arguments.warm_ups) for case in arguments.case or CASES]
    (arguments.folder / "figures.json").write_text(json.dumps({"machine": machine(), "cases": figures}, indent=1))
    print(machine())
    print(f"{'case':<10}", *(f"{f'plain {name}':>14}{'ours':>7}{'ratio':>7}" for name, _ in FIGURES.values()))
    for row in figures:
        columns = (
            f"{row[figure]['plain']:>14.{digits}f}{row[figure]['paritygate']:>7.{digits}f}{row[figure]['ratio']:>7.2f}"
            for figure, (_, digits) in FIGURES.items()
        )
        print(f"{row['case']:<10}", *columns)
    for row in figures:
        print(f"{row['case']:<10} seconds of each stage:", ", ".join(f"{n} {s:.1f}" for n, s in row["stages"].items()))


if __name__ == "__main__":
    main()
