"""What is begun before its stage is due changes when things are done, and nothing else."""

import time
from datetime import timedelta

import pytest

from paritygate.api.artifacts import StageName
from paritygate.api.report import Verdict
from paritygate.core import plan
from paritygate.local.environments import Environments, Lock
from paritygate.local.events import StageFailed


@pytest.fixture
def ahead(desk):
    desk.ahead = True
    return desk


def test_a_run_that_is_prepared_for_ends_as_one_that_is_not(ahead, tmp_path_factory):
    plain = type(ahead)(tmp_path_factory.mktemp("plain")).run()
    outcome = ahead.run()
    assert (outcome.verdict, outcome.receipts) == (plain.verdict, plain.receipts)
    assert sorted(ahead.started()) == ["assess", "capture", "convert", "dataset", "validate"]
    stood_by = ahead.fakes.with_suffix(".stood-by").read_text().split()
    assert sorted(stood_by) == ["--model", "capture", "convert", "validate"]
    assert ahead.run().receipts == plain.receipts
    assert len(ahead.started()) == 5


@pytest.mark.parametrize("how", ["Configuration", "killed", "nothing"])
def test_a_dataset_that_fails_ahead_of_time_fails_its_stage(ahead, how):
    ahead.behave(dataset=how)
    ahead.spec["jobs"] = {"retries": 0}
    assert ahead.run().verdict is Verdict.ERROR
    (failed,) = [event for event in ahead.events if isinstance(event, StageFailed)]
    assert failed.stage is StageName.CAPTURE
    assert list(ahead.work.scratch.iterdir()) == []


def test_a_dataset_that_is_read_already_is_not_read_again_for_a_second_attempt(ahead, monkeypatch):
    monkeypatch.setattr(plan, "FIRST_RETRY", timedelta(0))
    ahead.behave(assess="Infrastructure, once")
    assert ahead.run().verdict is Verdict.PASSED
    assert sorted(ahead.started()) == ["assess", "assess", "capture", "convert", "dataset", "validate"]
    assert [event.stage for event in ahead.events if isinstance(event, StageFailed)] == [StageName.ASSESS]


def test_a_worker_that_dies_while_it_stands_by_is_done_without(ahead):
    ahead.behave(**{"stand-by": "die"})
    assert ahead.run().verdict is Verdict.PASSED
    assert not ahead.fakes.with_suffix(".stood-by").exists()


@pytest.mark.parametrize("stage", ["capture", "convert", "validate"])
def test_a_worker_that_stood_by_fails_like_any_other(ahead, stage):
    ahead.behave(**{stage: "Configuration"})
    outcome = ahead.run()
    assert (outcome.verdict, "it broke" in outcome.message) == (Verdict.ERROR, True)


def test_nothing_of_later_stages_is_begun_than_the_last_one_wanted(ahead):
    ahead.run(until=StageName.ASSESS)
    assert ahead.started() == ["assess"]
    assert not list(ahead.work.logs.glob("*stand-by.log"))
    (ahead.folder / "m.pkl").write_bytes(b"another model")
    ahead.run(until=StageName.CAPTURE)
    assert [log.name for log in ahead.work.logs.glob("*stand-by.log")] == ["capture-stand-by.log"]


def test_what_an_earlier_server_said_is_not_taken_for_the_word_of_the_one_that_stood_by(ahead):
    assert ahead.run().verdict is Verdict.PASSED
    (said,) = ahead.work.logs.glob("*-candidate.out")
    said.write_text('{"url": "http://127.0.0.1:9"}\n')
    ahead.spec["jobs"] = {"retries": 0}
    (ahead.folder / "m.pkl").write_bytes(b"another model")
    assert ahead.run().verdict is Verdict.PASSED
    assert len(ahead.fakes.with_suffix(".stood-by").read_text().split()) == 8


def test_a_source_in_an_environment_of_its_own_is_not_prepared_for(ahead, monkeypatch):
    ahead.spec["source"]["environment"] = {"virtualenv": {"requirements": ["numpy"]}}
    lock = Lock("sha256:" + 64 * "0", ahead.folder / "lock.txt", "3.11")
    monkeypatch.setattr(Environments, "solve", lambda *_: lock)
    assert ahead.run().verdict is Verdict.PASSED
    assert "capture" not in ahead.fakes.with_suffix(".stood-by").read_text().split()


def test_nothing_that_was_begun_outlives_the_run(ahead, running):
    ahead.behave(capture="Configuration")
    assert ahead.run().verdict is Verdict.ERROR
    for _ in range(100):
        if not running(str(ahead.fakes)):
            break
        time.sleep(0.05)
    assert not running(str(ahead.fakes))
