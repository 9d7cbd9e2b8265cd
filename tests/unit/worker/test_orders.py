"""A whole convert Job and the steps around validation, as their containers run, on folders instead of volumes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from paritygate.api.artifacts import StageFailure, StageName
from paritygate.api.digests import digest_of
from paritygate.api.orders import Fetched, JobOrder, Published
from paritygate.api.report import EvidenceSummary, Subject, Verdict
from paritygate.api.spec import Equivalence
from paritygate.errors import InfrastructureError
from paritygate.storage.digests import digest_of_path
from paritygate.storage.remote import MountedStore, ObjectStore
from paritygate.worker import orders
from paritygate.worker.__main__ import main


@pytest.fixture
def inputs(tmp_path):
    rows = load_iris(as_frame=True).frame
    claim = tmp_path / "volumes" / "claims" / "models"
    claim.mkdir(parents=True)
    rows.to_csv(claim / "holdout.csv", index=False)
    features = rows.drop(columns="target").to_numpy()
    joblib.dump(LogisticRegression(max_iter=500).fit(features, rows["target"]), claim / "iris.pkl")
    return tmp_path


@pytest.fixture
def step(inputs, monkeypatch):
    """Runs a step of a Job; its exit status and its message."""

    def run(name, order):
        message = inputs / "message"
        message.unlink(missing_ok=True)
        for volume in ("inputs", "captured", "converted", "model", "judged"):
            (inputs / "volumes" / volume).mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv("PARITYGATE_ORDER", order.model_dump_json(by_alias=True, exclude_none=True))
        monkeypatch.setenv("PARITYGATE_VOLUMES", str(inputs / "volumes"))
        monkeypatch.setenv("PARITYGATE_TERMINATION", str(message))
        status = main([name])
        return status, message.read_bytes() if message.exists() else b""

    return run


def convert_order(folder, **source):
    return JobOrder.model_validate(
        {
            "job": "Convert",
            "migration": "iris",
            "spec": {
                "source": {"format": "SKLearn", "uri": "pvc://models/iris.pkl", **source},
                "target": {"format": "ONNX"},
                "validation": {"dataset": {"uri": "pvc://models/holdout.csv", "label": "target"}},
            },
            "recipe": 1,
            "environment": digest_of("e"),
            "converter": digest_of("c"),
            "runtime": digest_of("r"),
            "store": (folder / "store").as_uri(),
        }
    )


def work(folder):
    volumes = folder / "volumes"
    agent = [sys.executable, str(volumes / "inputs" / "paritygate-agent.pyz"), "capture"]
    subprocess.run(
        [*agent, "--request", str(volumes / "inputs/capture.json"), "--out", str(volumes / "captured/out")],
        check=True, capture_output=True,
    )  # fmt: skip
    request = ["--request", str(volumes / "inputs/convert.json"), "--out", str(volumes / "converted/out")]
    assert main(["convert", *request]) == 0


def test_a_convert_job_publishes_what_it_made_and_the_next_one_has_nothing_to_do(inputs, step):
    order = convert_order(inputs)
    status, message = step("fetch", order)
    fetched = Fetched.model_validate_json(message)
    assert (status, fetched.assessment.framework) == (0, "scikit-learn")
    work(inputs)
    status, message = step("publish", order)
    published = Published.model_validate_json(message)
    assert status == 0
    assert len(message) <= 2400
    assert [r.stage for r in published.receipts] == [StageName.ASSESS, StageName.CAPTURE, StageName.CONVERT]
    assert published.inputs == fetched.inputs
    assert published.candidate_size > 0
    assert step("fetch", order)[0] == 0
    assert (inputs / "volumes/inputs/done.json").exists()
    assert Published.model_validate_json(step("publish", order)[1]).receipts == published.receipts


def test_a_stage_whose_artefact_was_damaged_is_done_again(inputs, step):
    order = convert_order(inputs)
    step("fetch", order)
    work(inputs)
    published = Published.model_validate_json(step("publish", order)[1])
    candidate = inputs / "store" / "artifacts" / published.receipts[-1].output.removeprefix("sha256:")
    (candidate / "model.onnx").write_bytes(b"of somebody else")
    assert step("fetch", order)[0] == 0
    assert not (inputs / "volumes/inputs/done.json").exists()
    for name in ("captured", "converted"):
        shutil.rmtree(inputs / "volumes" / name / "out")
    work(inputs)
    assert Published.model_validate_json(step("publish", order)[1]).receipts == published.receipts
    MountedStore(inputs / "store").fetch(published.receipts[-1].output, inputs / "whole")


def test_recorded_answers_are_taken_for_their_own_model_and_dataset_only(inputs, step):
    step("fetch", convert_order(inputs))
    work(inputs)
    first = Published.model_validate_json(step("publish", convert_order(inputs))[1])
    claim = inputs / "volumes" / "claims" / "models"
    shutil.copytree(inputs / "volumes" / "captured" / "out", claim / "recorded")
    for name in ("captured", "converted"):
        shutil.rmtree(inputs / "volumes" / name / "out")
    order = convert_order(inputs, capture={"uri": "pvc://models/recorded"})
    assert step("fetch", order)[0] == 0
    assert not (inputs / "volumes/inputs/capture.json").exists()
    assert main(["convert", "--request", str(inputs / "volumes/inputs/convert.json"),
                 "--out", str(inputs / "volumes/converted/out")]) == 0  # fmt: skip
    again = Published.model_validate_json(step("publish", order)[1])
    assert [r.output for r in again.receipts][1:] == [r.output for r in first.receipts][1:]

    rows = claim / "holdout.csv"
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-1]))
    status, message = step("fetch", order)
    failure = StageFailure.model_validate_json(message)
    assert (status, failure.reason) == (3, "CaptureMismatch")
    assert "pvc://models/recorded" in failure.message
    assert "pvc://models/holdout.csv" in failure.message


def test_a_validate_job_gets_what_it_judges_and_a_revision_what_it_serves(inputs, step):
    store = MountedStore(inputs / "store")
    digests = {}
    for stage in StageName:
        (inputs / stage).mkdir()
        (inputs / stage / "content").write_text(stage)
        digests[stage] = store.put(inputs / stage)
    order = convert_order(inputs).model_copy(
        update={"job": "Validate", "stage": digest_of("s"), "artefacts": digests, "server_identity": digest_of("i")}
    )
    assert step("fetch", order)[0] == 0
    request = json.loads((inputs / "volumes/inputs/validate.json").read_text())
    assert request["candidateDigest"] == digests[StageName.CONVERT]
    assert request["serverIdentity"] == digest_of("i")
    assert (Path(request["candidate"]) / "content").read_text() == "Convert"
    serve = JobOrder(job="Serve", migration="iris", store=order.store, artefacts=digests)
    assert step("fetch", serve)[0] == 0
    assert (inputs / "volumes/model/verdict/content").read_text() == "Validate"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ({"digest": f"sha256:{'0' * 64}"}, "DigestMismatch"),
        ({"uri": "pvc://models/v2/iris.pkl"}, "NotFound"),
        ({"uri": "file:///proc/self/environ"}, "UnsupportedScheme"),
        ({"uri": "iris.pkl"}, "UnsupportedScheme"),
    ],
)
def test_what_cannot_be_fetched_is_said_in_the_termination_message(inputs, step, source, reason):
    status, message = step("fetch", convert_order(inputs, **source))
    failure = StageFailure.model_validate_json(message)
    assert (status, failure.reason, failure.failure) == (3, reason, "Configuration")


def test_a_digest_that_differs_is_told_with_both(inputs, step):
    stated = f"sha256:{'0' * 64}"
    message = StageFailure.model_validate_json(step("fetch", convert_order(inputs, digest=stated))[1]).message
    found = digest_of_path(inputs / "volumes/claims/models/iris.pkl")
    assert f"spec.source.digest is {stated}, but what is there has {found}" in message


def test_an_input_that_changed_during_the_run_is_refused(inputs, step):
    order = convert_order(inputs)
    fetched = Fetched.model_validate_json(step("fetch", order)[1])
    (inputs / "volumes/claims/models/holdout.csv").write_text("a,target\n1,2\n")
    status, message = step("fetch", order.model_copy(update={"pinned": fetched.inputs}))
    assert (status, StageFailure.model_validate_json(message).reason) == (3, "DigestMismatch")
    assert "spec.runID" in StageFailure.model_validate_json(message).message


def test_a_verdict_without_a_summary_is_no_evidence(inputs, step):
    order = convert_order(inputs).model_copy(update={"job": "Validate", "stage": digest_of("s")})
    status, message = step("publish", order)
    assert (status, StageFailure.model_validate_json(message).reason) == (3, "EvidenceMissing")


def judged_order(folder, **fields):
    """An order to judge, whose summary lies there already."""
    order = convert_order(folder).model_copy(update={"job": "Validate", "stage": digest_of("s"), **fields})
    out = folder / "volumes" / "judged" / "out"
    out.mkdir(parents=True)
    known = {name: digest_of(name) for name in ("source", "dataset", "capture", "candidate", "runtime", "policy")}
    summary = EvidenceSummary(
        stage=digest_of("s"), subject=Subject(**known), report=digest_of("r"), candidate="plain",
        equivalence=Equivalence.NUMERIC, verdict=Verdict.FAILED, checks=(),
    )  # fmt: skip
    (out / "summary.json").write_text(summary.model_dump_json(by_alias=True))
    return order


def stored(folder, *names):
    """Artefacts by name, written long ago and named by no receipt."""
    store = MountedStore(folder / "store")
    digests = {}
    for name in names:
        (folder / "made" / name).mkdir(parents=True)
        (folder / "made" / name / "content").write_text(name)
        digests[name] = store.put(folder / "made" / name)
        os.utime(folder / "store" / "artifacts" / digests[name].removeprefix("sha256:"), (0, 0))
    return digests


def left(folder):
    return {f"sha256:{path.name}" for path in (folder / "store" / "artifacts").iterdir()}


def test_publish_sweeps_what_its_order_does_not_keep_and_spares_what_it_read_and_made(inputs, step):
    made = stored(inputs, "serves", "read", "nobody's")
    order = judged_order(inputs, kept=(made["serves"],), artefacts={StageName.CONVERT: made["read"]})
    status, message = step("publish", order)
    (receipt,) = Published.model_validate_json(message).receipts
    assert status == 0
    assert left(inputs) == {made["serves"], made["read"], receipt.output}


def test_an_order_that_does_not_say_what_to_keep_sweeps_nothing(inputs, step):
    made = stored(inputs, "serves", "nobody's")
    assert step("publish", judged_order(inputs))[0] == 0
    assert set(made.values()) < left(inputs)


def test_a_sweep_that_fails_costs_no_verdict(inputs, step, monkeypatch):
    def fail(*_):
        raise InfrastructureError("StoreUnavailable", "the object store failed")

    monkeypatch.setattr(MountedStore, "sweep", fail)
    status, message = step("publish", judged_order(inputs, kept=()))
    assert (status, len(Published.model_validate_json(message).receipts)) == (0, 1)


@pytest.mark.parametrize("kind", ["mounted", "bucket"])
def test_every_read_is_checked_by_digest(tmp_path, kind):
    from obstore.store import LocalStore

    (tmp_path / "store").mkdir()
    root = tmp_path / "store"
    store = MountedStore(root) if kind == "mounted" else ObjectStore(LocalStore(str(root)))
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "model.onnx").write_bytes(b"bytes")
    digest = store.put(tmp_path / "made")
    store.fetch(digest, tmp_path / "whole")
    assert (tmp_path / "whole" / "model.onnx").read_bytes() == b"bytes"
    (root / "artifacts" / digest.removeprefix("sha256:") / "model.onnx").write_bytes(b"other")
    with pytest.raises(InfrastructureError, match="was changed in the store"):
        store.fetch(digest, tmp_path / "changed")
    with pytest.raises(InfrastructureError, match="is not in the store"):
        store.fetch(digest_of("nothing"), tmp_path / "gone")


def test_an_order_that_cannot_be_read_is_refused(monkeypatch):
    monkeypatch.setenv("PARITYGATE_ORDER", "{}")
    with pytest.raises(orders.ConfigurationError, match="holds no JobOrder"):
        orders.order()
