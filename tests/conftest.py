"""What holds for every test."""

import os

from control_plane.fixtures import (
    api,
    control_plane,
    identity,
    kubectl,
    migrations,
    namespace,
    own_control_plane,
    scene,
)
from control_plane.nothing_skipped import pytest_sessionfinish

__all__ = [
    "api",
    "control_plane",
    "identity",
    "kubectl",
    "migrations",
    "namespace",
    "own_control_plane",
    "pytest_sessionfinish",
    "scene",
]


def pytest_xdist_auto_num_workers() -> int:
    """Workers for `-n auto`: two for each core, since what runs on the control plane mostly waits."""
    return 2 * (os.cpu_count() or 1)
