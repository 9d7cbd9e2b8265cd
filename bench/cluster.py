"""How the operator bears many migrations, on a real API server.

    python bench/cluster.py [FOLDER] [--count N …] [--caps default|raised …] [--seconds S] [--rest S]

Without --count and --caps: 1,000 migrations with default and with raised caps, and 5,000 with raised ones, in less than
14 minutes on two idle cores.

Each run has a control plane of its own (tests/control_plane), N migrations that are there before the operator, the
operator as its own process and as a ServiceAccount, and a stand-in for the kubelet in another process, whose pods end
at once with evidence that passes. Planning, writing, Jobs, scheduling and rollouts are what they are in a cluster; only
containers do not run. Writes are counted from the audit log of the API server.

A run ends when every migration is promoted and has rested, or `--seconds` after all were observed or START_SECONDS
passed. Whatever ends the benchmark, also Ctrl-C, its processes and files go with it. The figures also go to
FOLDER/cluster.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import aiohttp
import audit
from compare import machine
from figures import table
from fleet import Fleet, connected, create
from operating import SYSTEM, Process, completing, metrics, operating, prepare, reconciles

from control_plane import plane
from paritygate import clock

CAPS: Mapping[str, Mapping[str, int]] = {
    "default": {},
    "raised": {
        "activeRuns": 200, "activeRunsPerNamespace": 50, "workers": 32, "requestsPerSecond": 1000, "burst": 2000,
    },
}  # fmt: skip
"""By name, what an administrator would state. Raised: more than a control plane of two cores takes."""
PLAN = ((1000, "default", 45.0), (1000, "raised", 180.0), (5000, "raised", 300.0))
"""Migrations, caps, and seconds that they may take once all are observed. By default 20 run at once: that 1,000 do
takes longer than anybody waits, and that all are observed is what is asked."""
PER_NAMESPACE = 100
SETTLED_SECONDS = 17.0
"""After the last promotion the operator looks once more, 15 s later, whether pods of ended Jobs had a last word."""
START_SECONDS = 300.0
"""After so long the run goes on, whether or not all were looked at."""
LATE_SECONDS = 5.0
"""After a restart, for what might still be written."""


@dataclass(frozen=True)
class Given:
    """What one run is to do."""

    folder: Path
    """For logs."""
    count: int
    caps: str
    seconds: float
    rest: float


async def run(given: Given, session: Path) -> dict[str, Any]:
    """One run; its figures."""
    count, caps = given.count, CAPS[given.caps]
    namespaces = [f"team-{number:02}" for number in range(max(1, count // PER_NAMESPACE))]
    with contextlib.ExitStack() as parts:
        found = parts.enter_context(plane.shared(session, audit.policy(SYSTEM)))
        kubeconfig = prepare(found, namespaces)
        async with connected(found) as http:
            version = await create(http, namespaces, count)
            standin = Process(parts.enter_context(completing(given.folder, session)).pid)
            fleet = Fleet(http, count)
            following = asyncio.create_task(fleet.follow(version))
            try:
                with operating(given.folder, kubeconfig, caps) as (process, url):
                    figures = await _first(given, fleet, process, url, found.folder)
                figures["standin_cpu_share"] = standin.cpu() / figures["seconds"]
                if "rest" in figures:
                    with operating(given.folder, kubeconfig, caps) as (process, url):
                        figures["restart"] = await _again(fleet, process, url, found.folder)
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
        return {"count": count, "caps": given.caps, "stated": dict(caps)} | figures


async def _first(
    given: Given, fleet: Fleet, process: subprocess.Popen[bytes], url: str, record: Path
) -> dict[str, Any]:
    """From the operator's start to the end of the run."""
    began, watched = time.monotonic(), Process(process.pid)
    sampling = asyncio.create_task(watched.sample())
    every = await fleet.until(fleet.observed, START_SECONDS, process)
    observed = max(fleet.observed.values(), default=time.monotonic())
    figures: dict[str, Any] = {
        "observed": len(fleet.observed),
        "all_observed_s": observed - began if every else None,
        "all_observed_cpu_s": watched.cpu() if every else None,
        "all_observed_rss_mib": watched.memory()[0],
    }
    say(f"{len(fleet.observed)} observed after {observed - began:.1f} s")
    whole = await fleet.until(fleet.ready, given.seconds, process)
    ended = max(fleet.ready.values()) if whole else time.monotonic()
    looked, done, cpu = reconciles(await metrics(fleet.http, url)), len(fleet.ready), watched.cpu()
    say(f"{done} promoted after {ended - began:.0f} s")
    figures |= {
        "promoted": done,
        "seconds": ended - began,
        "promoted_per_s": done / (ended - observed),
        "reconciles": looked,
        "reconciles_per_s": looked / (ended - began),
        "reconciles_per_promoted": looked / done if whole else None,
        "cpu_s": cpu,
        "cpu_ms_per_promoted": 1000 * cpu / done if whole else None,
        "cpu_share": cpu / (ended - began),
    }
    if whole:
        figures["rest"] = await _resting(watched, record, given.rest)
    sampling.cancel()
    figures |= {"peak_rss_mib": watched.peak_rss, "peak_pss_mib": watched.peak_pss}
    return figures | audit.writes(record, SYSTEM, done if whole else None) | audit.latencies(record, SYSTEM)


async def _resting(watched: Process, record: Path, rest: float) -> dict[str, Any]:
    await asyncio.sleep(SETTLED_SECONDS)
    began, before = clock.now().timestamp(), watched.cpu()
    await asyncio.sleep(rest)
    until, rss_pss = clock.now().timestamp(), watched.memory()
    found = Counter(f"{r.verb} {r.resource}" for r in audit.requests(record, SYSTEM)
                    if r.ours and began <= r.began <= until and r.verb != "watch")  # fmt: skip
    return {
        "seconds": rest,
        "requests": dict(found.most_common()),
        "cpu_s": watched.cpu() - before,
        "rss_mib": rss_pss[0],
        "pss_mib": rss_pss[1],
    }


async def _again(fleet: Fleet, process: subprocess.Popen[bytes], url: str, record: Path) -> dict[str, Any]:
    """The operator anew among migrations that are all promoted: it looks at each and finds nothing to do."""
    since, began, watched = clock.now().timestamp(), time.monotonic(), Process(process.pid)
    sampling = asyncio.create_task(watched.sample())
    while time.monotonic() < began + START_SECONDS and process.poll() is None:
        with contextlib.suppress(aiohttp.ClientConnectionError):
            if reconciles(await metrics(fleet.http, url)) >= fleet.count:
                break
        await asyncio.sleep(0.2)
    seconds, cpu = time.monotonic() - began, watched.cpu()
    await asyncio.sleep(LATE_SECONDS)
    rss, pss = watched.memory()
    sampling.cancel()
    written = Counter(
        f"{r.verb} {r.resource}" for r in audit.requests(record, SYSTEM) if r.ours and r.writes and r.began >= since
    )
    return {
        "all_looked_at_s": seconds, "cpu_s": cpu, "writes": dict(written), "rss_mib": rss, "pss_mib": pss,
        "peak_rss_mib": watched.peak_rss,
    }  # fmt: skip


def say(line: str) -> None:
    """To people who wait."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Runs what is asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(".build/bench-operator"))
    parser.add_argument("--count", type=int, action="append", help="migrations")
    parser.add_argument("--caps", action="append", choices=CAPS, help="both if only a count is stated")
    parser.add_argument("--seconds", type=float, help="most that the migrations of a run may take; 180 with --count")
    parser.add_argument("--rest", type=float, default=60, help="seconds to watch it at rest")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    plan: tuple[tuple[int, str, float], ...] = PLAN
    if arguments.count or arguments.caps:
        plan = tuple((count, name, 180.0) for count in arguments.count or [1000] for name in arguments.caps or CAPS)
    runs = []
    for count, name, seconds in plan:
        say(f"{count} migrations, caps: {name}")
        folder = arguments.folder / f"{count}-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        given = Given(folder, count, name, arguments.seconds or seconds, arguments.rest)
        with tempfile.TemporaryDirectory() as session:
            runs.append(asyncio.run(run(given, Path(session))))
        (arguments.folder / "cluster.json").write_text(json.dumps({"machine": machine(), "runs": runs}, indent=1))
    print(machine())
    print(table(runs))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
