"""Definitions of other people's kinds that the chart makes objects of, as their own releases hold them."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
import yaml

from control_plane.client import Client

_MODULE: Final = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
_SUM: Final = "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="
"""Of the module's content, as go.sum would state it."""


def prometheus(api: Client, kinds: Sequence[str] = ("ServiceMonitor", "PrometheusRule")) -> None:
    """Makes the API server know kinds of the Prometheus operator. Skips where there is no Go to fetch them with."""
    if shutil.which("go") is None:
        pytest.skip("Go is not installed: it fetches the definitions of the Prometheus operator")
    fetched = subprocess.run(["go", "mod", "download", "-json", _MODULE], capture_output=True, text=True, check=False)
    assert fetched.returncode == 0, fetched.stdout + fetched.stderr
    told = json.loads(fetched.stdout)
    assert told["Sum"] == _SUM, f"{_MODULE} is not what it was"
    for kind in kinds:
        name = f"monitoring.coreos.com_{kind.lower()}s.yaml"
        api.apply(
            yaml.safe_load((Path(told["Dir"]) / "example/prometheus-operator-crd" / name).read_text()), force="true"
        )
    for kind in kinds:
        api.until_served(kind)
