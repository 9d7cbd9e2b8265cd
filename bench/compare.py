"""Times whole migrations against the plainest scripts that do the same export and comparison, paired in one run.

    python bench/compare.py FOLDER [--pairs N] [--case NAME …]

Each pair runs the plain script and then `paritygate run` with all checks on, in a fresh work directory, from process
start to exit. Peak memory is the largest sum of proportional set sizes over all processes of a run, sampled ten times
a second. Prints medians and the median of the paired ratios, and the machine; ratios travel between machines, seconds
do not.
"""

from __future__ import annotations

import argparse
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

HERE = Path(__file__).parent
CASES = ("pipeline", "boosting", "encoder")
SAMPLE_SECONDS = 0.1


@dataclass(frozen=True)
class Run:
    """One timed process tree."""

    seconds: float
    peak_mib: float
    status: int


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
        status = process.wait()
        seconds = time.perf_counter() - start
        ended.set()
        sampler.join()
    return Run(seconds, peak, status)


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


def compare(case: str, folder: Path, pairs: int) -> dict[str, object]:
    """Runs `pairs` pairs of one case, after one uncounted pair, and returns the figures."""
    plain, ours = [], []
    for pair in range(pairs + 1):
        plain_run = timed([sys.executable, str(HERE.resolve() / "plain" / f"{case}.py")], folder, folder / "plain.log")
        workdir = folder / "workdir"
        shutil.rmtree(workdir, ignore_errors=True)
        command = [sys.executable, "-m", "paritygate", "run", "migration.yaml", "--workdir", str(workdir)]
        our_run = timed(command, folder, folder / "paritygate.log")
        for name, run, log in (("plain script", plain_run, "plain.log"), ("paritygate run", our_run, "paritygate.log")):
            if run.status != 0:
                sys.exit(f"{case}: the {name} ended with status {run.status}; see {folder / log}")
        if pair:  # the first pair only warms the file caches
            plain.append(plain_run)
            ours.append(our_run)
            print(
                f"{case} pair {pair}: plain {plain_run.seconds:.1f} s, paritygate {our_run.seconds:.1f} s",
                file=sys.stderr,
            )
    return {
        "case": case,
        "plain_seconds": statistics.median(run.seconds for run in plain),
        "paritygate_seconds": statistics.median(run.seconds for run in ours),
        "time_ratio": statistics.median(b.seconds / a.seconds for a, b in zip(plain, ours, strict=True)),
        "plain_peak_mib": statistics.median(run.peak_mib for run in plain),
        "paritygate_peak_mib": statistics.median(run.peak_mib for run in ours),
        "memory_ratio": statistics.median(b.peak_mib / a.peak_mib for a, b in zip(plain, ours, strict=True)),
        "runs": {"plain": [asdict(run) for run in plain], "paritygate": [asdict(run) for run in ours]},
    }


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
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--case", action="append", choices=CASES)
    arguments = parser.parse_args()
    # In a process of its own: what training leaves in memory must not be counted.
    subprocess.run([sys.executable, str(HERE / "cases.py"), str(arguments.folder)], check=True)
    figures = [compare(case, arguments.folder.resolve() / case, arguments.pairs) for case in arguments.case or CASES]
    (arguments.folder / "figures.json").write_text(json.dumps({"machine": machine(), "cases": figures}, indent=1))
    print(machine())
    print(f"{'case':<10}{'plain s':>9}{'ours s':>9}{'ratio':>7}{'plain MiB':>11}{'ours MiB':>10}{'ratio':>7}")
    for row in figures:
        print(
            f"{row['case']:<10}{row['plain_seconds']:>9.1f}{row['paritygate_seconds']:>9.1f}{row['time_ratio']:>7.2f}"
            f"{row['plain_peak_mib']:>11.0f}{row['paritygate_peak_mib']:>10.0f}{row['memory_ratio']:>7.2f}"
        )


if __name__ == "__main__":
    main()
