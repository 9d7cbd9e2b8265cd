"""Each role runs with what its own lock installs, and nothing more."""

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[2] / "requirements"
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)
WITHOUT = """
import json, runpy, sys
missing = set(json.loads(sys.argv.pop(1)))
class Without:
    def __init__(self, finder):
        self._finder = finder
    def __getattr__(self, name):
        return getattr(self._finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in missing else self._finder.find_spec(name, path, target)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
sys.argv.pop(0)
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def not_installed(lock):
    """Modules of the development environment that the lock does not bring."""
    pinned = {name.lower().replace("_", "-") for name in PINNED.findall((REQUIREMENTS / lock).read_text())}
    return sorted(
        module
        for module, owners in packages_distributions().items()
        if not {owner.lower().replace("_", "-").replace(".", "-") for owner in owners} & {*pinned, "paritygate"}
    )


@pytest.mark.parametrize(
    ("lock", "command", "told"),
    [
        ("operator.txt", ["paritygate", "operator", "--config", "none.yaml"], "none.yaml: cannot be read"),
        ("operator.txt", ["paritygate", "crd"], "kind: CustomResourceDefinition"),
        ("server.txt", ["paritygate.server", "--identity"], "onnxruntime"),
        ("worker-tabular.txt", ["paritygate.worker", "convert", "--help"], "--request"),
        ("worker-tabular.txt", ["paritygate.worker", "fetch"], "PARITYGATE_ORDER"),
        ("worker-torch.txt", ["paritygate.worker", "validate", "--help"], "--request"),
    ],
)
def test_a_role_starts_with_its_own_packages(lock, command, told, tmp_path):
    absent = not_installed(lock)
    assert "pytest" in absent
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT, json.dumps(absent), *command],
        capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    assert told in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("lock", "never"),
    [
        ("operator.txt", {"numpy", "torch", "scikit-learn", "onnxruntime", "jinja2"}),
        ("server.txt", {"torch", "scikit-learn", "onnx", "pandas", "kopf"}),
        ("worker-tabular.txt", {"torch", "kopf"}),
        ("worker-torch.txt", {"scikit-learn", "kopf"}),
    ],
)
def test_nobody_installs_what_belongs_to_another_role(lock, never):
    assert not never & set(PINNED.findall((REQUIREMENTS / lock).read_text()))
