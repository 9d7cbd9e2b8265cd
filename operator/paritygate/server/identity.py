"""What an answer depends on besides the model's bytes: versions, session options, the kind of processor."""

from __future__ import annotations

import math
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import paritygate

if TYPE_CHECKING:
    import onnxruntime

_CPU_FEATURES: Final = frozenset({"avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_tile", "asimd", "sve", "i8mm"})
"""What changes the kernels that onnxruntime picks, and with them the last bits of an answer."""
_PACKAGES: Final = ("numpy", "onnxruntime", "orjson", "uvicorn", "uvloop", "httptools")

PART_ROWS: Final = 512
"""Of a batch of independent rows, answered by one thread: what onnxruntime keeps for each row and tree fits caches."""


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """The options of a session whose inferences take `threads` threads each; `identity` reports them."""
    import onnxruntime  # noqa: PLC0415 - the identity is asked for at the start of every run, and needs its version only

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    # Errors reach the client as answers and the log as JSON; onnxruntime's own lines are neither.
    options.log_severity_level = 4
    for key, value in _SESSION_ENTRIES.items():
        options.add_session_config_entry(key, value)
    return options


_SESSION_ENTRIES: Final = {
    # Threads that spin between requests starve their neighbours on a shared machine and hit the CPU limit of a pod.
    "session.intra_op.allow_spinning": "0",
    "session.set_denormal_as_zero": "0",
    "mlas.enable_gemm_fastmath_arm64_bfloat16": "0",
}


def identity(threads: int) -> dict[str, object]:
    """Versions and options as JSON-ready data; equal identities and equal bytes give equal answers."""
    return {
        "name": "paritygate",
        "version": paritygate.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: version(name) for name in _PACKAGES if name != "uvloop" or sys.platform != "win32"},
        "options": {
            "execution_provider": "CPUExecutionProvider",
            "graph_optimization_level": "ORT_ENABLE_ALL",
            "execution_mode": "ORT_SEQUENTIAL",
            "intra_op_num_threads": str(threads),
            "independent_rows": f"in parts of at most {PART_ROWS} rows, one thread each",
            "inter_op_num_threads": "1",
            "use_deterministic_compute": "true",
            **_SESSION_ENTRIES,
        },
        "cpu": {"architecture": platform.machine(), "features": sorted(_features())},
    }


def cpu_limit(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Processors that this process may use: its affinity, and the quota of its control group (v2 or v1), rounded up."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, math.ceil(_quota(cgroup) or affinity)))


def _quota(cgroup: Path) -> float | None:
    """Processors' worth of time that the control group grants; None = no limit."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    return None if quota in ("max", "-1") else int(quota) / int(period)


def _features() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    lines = (line.partition(":") for line in text.splitlines())
    flags = next((value.split() for key, _, value in lines if key.strip() in ("flags", "Features")), [])
    return _CPU_FEATURES & set(flags)
