"""Argo CD's health check and kstatus give one answer on every fixture."""

from pathlib import Path

import lupa.lua51
import pytest
import yaml

FOLDER = Path(__file__).parents[3] / "argocd" / "paritygate.dev" / "ModelMigration"
CASES = yaml.safe_load((FOLDER / "health_test.yaml").read_text())["tests"]
AGREE = {
    "InProgress": {"Progressing", "Suspended"},  # kstatus knows no suspension
    "Terminating": {"Progressing"},
    "Failed": {"Degraded"},
    "Current": {"Healthy"},
}


def health(found):
    """As Argo CD runs it: Lua 5.1, without the standard libraries but for iteration."""
    lua = lupa.lua51.LuaRuntime(register_eval=False)
    lua.execute("os, io, require, loadfile, dofile, package, debug = nil")
    lua.globals().obj = lua.table_from(found, recursive=True)
    result = lua.execute((FOLDER / "health.lua").read_text())
    return {"status": result["status"], "message": result["message"]}


def kstatus(found):
    """https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus/status, generic.go and status.go."""
    metadata, status = found["metadata"], found.get("status", {})
    if "deletionTimestamp" in metadata:
        return "Terminating"
    if "observedGeneration" in status and status["observedGeneration"] != metadata["generation"]:
        return "InProgress"
    conditions = status.get("conditions", ())
    for condition in conditions:
        if condition["status"] == "True" and condition["type"] in {"Reconciling", "Stalled"}:
            return "InProgress" if condition["type"] == "Reconciling" else "Failed"
    ready = next((c for c in conditions if c["type"] == "Ready"), None)
    return "InProgress" if ready is not None and ready["status"] != "True" else "Current"


@pytest.mark.parametrize("case", CASES, ids=lambda case: Path(case["inputPath"]).stem)
def test_argo_cd_is_told_what_the_fixture_says(case):
    assert health(yaml.safe_load((FOLDER / case["inputPath"]).read_text())) == case["healthStatus"]


@pytest.mark.parametrize("file", sorted(FOLDER.glob("testdata/*.yaml")), ids=lambda file: file.stem)
def test_argo_cd_and_kstatus_agree(file):
    found = yaml.safe_load(file.read_text())
    if file.stem == "without-status":
        assert "status" not in found  # the CRD's default keeps this from being: kstatus would call it Current
        assert health(found)["status"] == "Progressing"
        return
    assert health(found)["status"] in AGREE[kstatus(found)]


def test_every_fixture_is_tried():
    assert {Path(case["inputPath"]).name for case in CASES} == {file.name for file in FOLDER.glob("testdata/*.yaml")}
