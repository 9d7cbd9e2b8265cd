"""A hook for every suite: where continuous integration runs it, a skipped test is a failure."""

import os

import pytest


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In continuous integration nothing may be missing, so a skipped test fails the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or os.environ.get("CI") != "true" or session.exitstatus != pytest.ExitCode.OK:
        return
    if reporter.stats.get("skipped"):
        reporter.write_line("\nCI=true: skipped tests count as failed; everything that tests need is installed here")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
