"""What holds for every test."""

import os

import pytest

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

__all__ = ["api", "control_plane", "identity", "kubectl", "migrations", "namespace", "own_control_plane", "scene"]


def pytest_xdist_auto_num_workers() -> int:
    """Workers for `-n auto`: two for each core, since what runs on the control plane mostly waits."""
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In continuous integration nothing may be missing, so a skipped test fails the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or os.environ.get("CI") != "true" or session.exitstatus != pytest.ExitCode.OK:
        return
    if reporter.stats.get("skipped"):
        reporter.write_line("\nCI=true: skipped tests count as failed; everything that tests need is installed here")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
