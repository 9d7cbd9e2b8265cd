"""Errors of uv, explained: with a stand-in for uv that says what uv says."""

import os
import signal
import subprocess
import sys
import threading
import time

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
        ("error: Failed to inspect Python interpreter from first …", ConfigurationError, "PythonNotFound"),
        ("fatal: unable to access: Could not resolve host: git", InfrastructureError, "RegistryUnreachable"),
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


def test_addresses_of_indexes_are_not_told_and_those_that_the_user_stated_are(tmp_path):
    stated = VirtualEnvironment(requirements=("six @ https://example.com/six.whl", "numpy"))
    said = "Failed to fetch: `https://user:secret@index.invalid/simple/six/` for https://example.com/six.whl"
    with pytest.raises(InfrastructureError) as caught:
        uv(tmp_path, f"sys.exit({said!r})\n").solve(stated, threading.Event())
    assert "secret" not in caught.value.message
    assert "index.invalid" not in caught.value.message
    assert caught.value.message.endswith("for https://example.com/six.whl")


def test_a_long_traceback_of_a_build_is_shortened(tmp_path):
    said = "\n".join(["error: Failed to build `left-pad==9`", *["frame"] * 100, "the last word"])
    with pytest.raises(ConfigurationError, match=r"(?s)left-pad==9`.*….*the last word") as caught:
        uv(tmp_path, f"sys.exit({said!r})\n").solve(ASKED, threading.Event())
    assert len(caught.value.message.splitlines()) < 20


BUILDING = """
folder = pathlib.Path(sys.argv[-1])
if sys.argv[1] == "venv":
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text("")
    with open(ROOT + "/built", "a") as stream:
        stream.write("x")
elif sys.argv[2] == "sync":
    import time
    time.sleep(PATIENCE)
else:
    pathlib.Path(sys.argv[sys.argv.index('-o') + 1]).write_text('numpy==1\\n')
"""


def builder(tmp_path, patience):
    return uv(tmp_path, BUILDING.replace("ROOT", repr(str(tmp_path))).replace("PATIENCE", str(patience)))


def built(tmp_path):
    return len((tmp_path / "built").read_text())


def test_an_environment_is_built_once_by_whoever_comes_first(tmp_path):
    environments = builder(tmp_path, 0.2)
    lock = environments.solve(ASKED, threading.Event())
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(environments.build(lock, ASKED, threading.Event())))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == built(tmp_path) == 1


def test_an_environment_whose_building_was_killed_is_built_anew(tmp_path):
    builder(tmp_path, 600)
    code = (
        "import sys, threading; from pathlib import Path; from paritygate.local.environments import Environments\n"
        "from paritygate.api.spec import VirtualEnvironment\n"
        "asked = VirtualEnvironment(requirements=('left-pad==9', 'numpy'), python='3.11')\n"
        "it = Environments(Path(sys.argv[1]) / 'environments', (sys.executable, sys.argv[1] + '/uv.py'))\n"
        "it.build(it.solve(asked, threading.Event()), asked, threading.Event())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) as building:
        ends = time.monotonic() + 60
        while not list((tmp_path / "environments").glob("uv-sync-*.log")) and time.monotonic() < ends:
            time.sleep(0.02)
        os.kill(building.pid, signal.SIGKILL)
    environments = builder(tmp_path, 0)
    lock = environments.solve(ASKED, threading.Event())
    assert environments.build(lock, ASKED, threading.Event()).exists()
    assert built(tmp_path) == 2
    environments.build(lock, ASKED, threading.Event())
    assert built(tmp_path) == 2
