"""Errors of uv, explained: with a stand-in for uv that says what uv says."""

import sys
import threading

import pytest

from paritygate.api.spec import VirtualEnvironment
from paritygate.errors import ConfigurationError, InfrastructureError
from paritygate.local.environments import Environments

ASKED = VirtualEnvironment(requirements=("left-pad==9", "numpy"), python="3.11")


def uv(tmp_path, body):
    script = tmp_path / "uv.py"
    script.write_text("import sys, pathlib\n" + body)
    return Environments(tmp_path / "environments", (sys.executable, str(script)))


@pytest.mark.parametrize(
    ("said", "kind", "reason"),
    [
        ("Because left-pad was not found, we can conclude …", ConfigurationError, "EnvironmentUnsolvable"),
        ("error: No interpreter found for Python 3.11", ConfigurationError, "PythonNotFound"),
        ("error sending request for url", InfrastructureError, "RegistryUnreachable"),
        ("No space left on device (os error 28)", InfrastructureError, "DiskFull"),
    ],
)
def test_what_uv_says_is_classified_and_shown(tmp_path, said, kind, reason):
    environments = uv(tmp_path, f"sys.exit({said!r})\n")
    with pytest.raises(kind, match=r"left-pad==9|registry|disk|Python 3.11") as caught:
        environments.solve(ASKED, threading.Event())
    assert caught.value.reason == reason
    assert said in caught.value.message


def test_an_environment_without_numpy_is_refused(tmp_path):
    environments = uv(tmp_path, "pathlib.Path(sys.argv[sys.argv.index('-o') + 1]).write_text('left-pad==9\\n')\n")
    with pytest.raises(ConfigurationError, match="add 'numpy'"):
        environments.solve(ASKED, threading.Event())


def test_a_lock_is_solved_once_and_remembered(tmp_path):
    first = uv(tmp_path, "pathlib.Path(sys.argv[sys.argv.index('-o') + 1]).write_text('numpy==1\\n')\n")
    lock = first.solve(ASKED, threading.Event())
    assert uv(tmp_path, "sys.exit('called again')\n").solve(ASKED, threading.Event()) == lock
