"""A run with stand-ins for its stages: results, failures, deadlines, resuming, serving."""

import json
import os
import subprocess
import sys
import time
import urllib.request

import pytest

from paritygate.api.artifacts import StageName
from paritygate.api.report import Verdict
from paritygate.errors import UsageError
from paritygate.local.events import StageFailed
from paritygate.local.run import LocalRun
from paritygate.local.workdir import WorkFolder

STAGES = ["assess", "dataset", "capture", "convert", "validate"]


def test_a_run_leaves_its_results_and_nothing_half_written(desk):
    outcome = desk.run()
    assert outcome.verdict is Verdict.PASSED
    assert desk.started() == STAGES
    names = {path.name for path in desk.work.results.iterdir()}
    assert names == {"report.json", "report.html", "candidate", "plan.json", "logs", "scratch", "lock"}
    assert list(desk.work.scratch.iterdir()) == []
    plan = json.loads((desk.work.results / "plan.json").read_text())
    assert [stage["state"] for stage in plan["stages"]] == ["Succeeded"] * 4


def test_a_second_run_reuses_everything(desk):
    first = desk.run()
    second = desk.run()
    assert second.receipts == first.receipts
    assert desk.started() == STAGES


def test_a_changed_dataset_is_judged_anew(desk):
    desk.run()
    (desk.folder / "d.csv").write_text("y\n2\n")
    desk.run()
    assert desk.started() == [*STAGES, *STAGES[1:]]


def test_an_artefact_that_was_changed_is_made_again(desk):
    first = desk.run()
    (desk.work.store.path(first.receipts[StageName.CONVERT].output) / "convert.txt").write_text("tampered")
    assert desk.run().receipts == first.receipts
    assert desk.started() == [*STAGES, "convert"]


def test_a_receipt_that_was_edited_is_not_believed(desk):
    """A failed verdict whose receipt, a small file beside its artefact, was made to say that it passed."""
    desk.behave(validate="Failed")
    assert desk.run().verdict is Verdict.FAILED
    (receipt,) = (desk.folder / "work" / "receipts").glob("Validate-*.json")
    receipt.write_text(receipt.read_text().replace('"Failed"', '"Passed"').replace('"measured":2.0', '"measured":0.5'))
    assert desk.run().verdict is Verdict.FAILED


def test_a_candidate_that_changes_while_it_is_judged_is_no_pass(desk):
    desk.behave(validate="tamper")
    desk.spec["jobs"] = {"retries": 0}
    outcome = desk.run()
    assert outcome.verdict is Verdict.ERROR
    assert "changed while it was judged" in outcome.message


def test_a_failed_verdict_is_reported_and_not_served(desk):
    desk.behave(validate="Failed")
    outcome = desk.run(serve=True)
    assert (outcome.verdict, outcome.url) == (Verdict.FAILED, None)
    assert (desk.work.results / "report.json").exists()


def test_an_error_takes_the_results_of_an_earlier_run_away(desk):
    desk.run()
    (desk.folder / "m.pkl").write_bytes(b"another")
    desk.behave(convert="Configuration")
    assert desk.run().verdict is Verdict.ERROR
    assert not (desk.work.results / "report.json").exists()
    assert not (desk.work.results / "candidate").exists()


@pytest.mark.parametrize(
    ("how", "reason", "said"),
    [
        ("Configuration", "Broken", "it broke"),
        ("Infrastructure", "Broken", "it broke"),
        ("killed", "OutOfMemory", "MiB at its peak"),
        ("segfault", "ProcessDied", "SIGSEGV"),
        ("raise", "ProcessDied", "boom"),
        ("nothing", "ProcessDied", "without a result"),
    ],
)
@pytest.mark.parametrize("stage", ["dataset", "validate"])
def test_every_way_for_a_stage_to_end_badly_is_an_error_that_says_why(desk, stage, how, reason, said):
    desk.behave(**{stage: how})
    desk.spec["jobs"] = {"retries": 0}
    outcome = desk.run()
    assert outcome.verdict is Verdict.ERROR
    assert said in outcome.message
    (failed,) = [e for e in desk.events if isinstance(e, StageFailed)]
    assert failed.reason == reason
    assert list(desk.work.scratch.iterdir()) == []


def test_a_stage_that_hangs_is_ended_with_its_children_at_the_deadline(desk, running):
    desk.behave(capture="hang-with-child")
    desk.spec["jobs"] = {"deadline": "2s"}
    outcome = desk.run()
    assert outcome.verdict is Verdict.ERROR
    assert "spec.jobs.deadline, 2s" in outcome.message
    assert not running(str(desk.fakes))


@pytest.mark.parametrize(("how", "said"), [("refuse", "cannot serve the candidate"), ("die", "ended (status 1)")])
def test_a_server_that_refuses_or_dies_is_no_pass(desk, how, said):
    desk.behave(server=how, validate="hang" if how == "die" else None)
    desk.spec["jobs"] = {"retries": 0, "deadline": "20s"}
    assert desk.run().verdict is Verdict.ERROR
    (failed,) = [e for e in desk.events if isinstance(e, StageFailed)]
    assert said in failed.message


def test_a_digest_that_does_not_match_is_named_with_both(desk):
    desk.spec["source"]["digest"] = "sha256:" + "0" * 64
    outcome = desk.run()
    assert outcome.verdict is Verdict.ERROR
    assert "spec.source.digest is sha256:000" in outcome.message
    assert desk.started() == []


def test_a_second_run_at_once_is_refused(desk):
    with WorkFolder(desk.folder / "work", "m").held(), pytest.raises(UsageError, match=f"process {os.getpid()}"):
        desk.run()


def test_what_no_last_run_refers_to_is_swept_once_it_is_old_and_nobody_else_works(desk):
    first = desk.run()
    for path in [*(desk.folder / "work" / "artifacts").iterdir(), *(desk.folder / "work" / "receipts").iterdir()]:
        os.utime(path, (0, 0))
    (desk.folder / "d.csv").write_text("y\n2\n")
    with WorkFolder(desk.folder / "work", "other").held():
        second = desk.run()
        assert desk.work.store.get(first.receipts[StageName.VALIDATE].output)
    kept = {path.name for path in (desk.folder / "work" / "artifacts").iterdir()}
    assert kept == {receipt.output.removeprefix("sha256:") for receipt in second.receipts.values()}


def test_a_migration_is_not_called_like_a_shared_folder(tmp_path):
    with pytest.raises(UsageError, match=r"'artifacts'.*choose another"):
        WorkFolder(tmp_path, "artifacts")


def test_a_single_stage_ends_without_a_verdict_and_keeps_results(desk):
    desk.run()
    outcome = desk.run(until=StageName.CAPTURE)
    assert (outcome.verdict, outcome.report) == (None, None)
    assert list(outcome.receipts) == [StageName.ASSESS, StageName.CAPTURE]
    assert (desk.work.results / "report.json").exists()


def test_a_single_stage_that_fails_is_an_error(desk):
    desk.behave(capture="Configuration")
    assert desk.run(until=StageName.CAPTURE).verdict is Verdict.ERROR


def test_what_failed_is_not_served_and_the_display_hears_why(desk):
    desk.behave(validate="Failed")
    desk.run(serve=True)
    (failed,) = [e for e in desk.events if isinstance(e, StageFailed)]
    assert (failed.stage, failed.reason) == ("Serve", "ParityFailed")
    assert "numeric Failed" in failed.message


def test_what_passed_is_served_until_interrupted(desk, running, monkeypatch):
    seen = []

    def close(run):
        with urllib.request.urlopen(run._revisions.url) as answer:  # noqa: S310
            seen.append(answer.status)
        original(run)

    original = LocalRun.close
    monkeypatch.setattr(LocalRun, "close", close)
    outcome = desk.run(serve=True)
    assert outcome.url
    assert seen == [200]
    assert not running(str(desk.fakes))


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_killed_in_any_stage_resumes_and_ends_the_same(desk, running, stage, tmp_path_factory):
    undisturbed = type(desk)(tmp_path_factory.mktemp("undisturbed")).run()
    desk.behave(**{stage: "stop-parent"})
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); os.environ['PARITYGATE_TEST_PARENT'] = str(os.getpid())\n"
        "from pathlib import Path; from paritygate.api.migration import ModelMigration\n"
        "from paritygate.local.commands import Commands; from paritygate.local.run import LocalRun, Options\n"
        "from paritygate.local.workdir import WorkFolder; import json\n"
        "given = json.loads(sys.argv[2]); folder = Path(given['folder'])\n"
        "commands = Commands(*map(tuple, given['commands']), ahead=False); work = WorkFolder(folder / 'work', 'm')\n"
        "migration = ModelMigration.model_validate({'metadata': {'name': 'm'}, 'spec': given['spec']})\n"
        "with work.held(): LocalRun(migration, folder / 'm.yaml', work, Options(commands=commands), print).run()\n"
    )
    commands = desk.commands
    given = {
        "folder": str(desk.folder),
        "spec": desk.spec,
        "commands": [commands.worker, commands.server, commands.agent],
    }
    killed = subprocess.run([sys.executable, "-c", code, ".", json.dumps(given)], capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr
    for _ in range(100):
        if not running(str(desk.fakes)):
            break
        time.sleep(0.05)
    assert not running(str(desk.fakes))
    desk.behave()
    outcome = desk.run()
    assert (outcome.verdict, outcome.receipts) == (undisturbed.verdict, undisturbed.receipts)
    again = STAGES.index("dataset" if stage == "capture" else stage)
    assert desk.started() == [*STAGES[: STAGES.index(stage) + 1], *STAGES[again:]]


def test_a_candidate_that_was_written_over_where_it_was_published_is_made_again(desk):
    first = desk.run()
    published = desk.work.results / "candidate" / "convert.txt"
    content = published.read_text()
    published.write_text("what somebody else wrote there")
    assert desk.run().receipts == first.receipts
    assert desk.started() == [*STAGES, "convert"]
    assert published.read_text() == content
