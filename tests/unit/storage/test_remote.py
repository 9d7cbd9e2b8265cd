"""The store of a migration: every read checked, publishers side by side, and sweeps that spare what is wanted."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from paritygate import clock
from paritygate.api.artifacts import Receipt, StageName
from paritygate.api.digests import digest_of
from paritygate.errors import ConfigurationError, InfrastructureError
from paritygate.storage.digests import digest_of_path
from paritygate.storage.remote import MountedStore, ObjectStore, open_store

DAY = timedelta(days=1)


def published(store, folder, name, stage=StageName.CAPTURE):
    """Puts an artefact and its receipt, as a Job does."""
    receipt = Receipt(stage=stage, digest=digest_of(name), output=store.put(folder))
    store.record(receipt)
    return receipt


def files_of(tmp_path, digest):
    return tmp_path / "store" / "artifacts" / digest.removeprefix("sha256:")


def test_what_is_put_is_fetched_as_it_was(store, made, tmp_path):
    digest = store.put(made("a"))
    store.fetch(digest, tmp_path / "back")
    assert digest_of_path(tmp_path / "back") == digest == digest_of_path(tmp_path / "made" / "a")


@pytest.mark.parametrize("damage", ["changed", "shortened", "with more", "with less", "gone"])
def test_damage_is_found_told_and_mended_by_the_next_publisher(store, made, tmp_path, damage):
    receipt = published(store, made("a"), "a")
    there = files_of(tmp_path, receipt.output)
    match damage:
        case "changed":
            (there / "data" / "weights").write_text("b")
        case "shortened":
            (there / "data" / "weights").write_text("")
        case "with more":
            (there / "more").write_text("")
        case "with less":
            (there / "head.json").unlink()
        case "gone":
            shutil.rmtree(there)
    with pytest.raises(InfrastructureError, match=r"set another spec\.runID to make it anew") as caught:
        store.fetch(receipt.output, tmp_path / "back")
    assert caught.value.reason == "ArtefactLost"
    assert receipt.output in caught.value.message
    assert not (tmp_path / "back").exists(), "nobody may read what was not what its digest says"
    assert store.receipt(receipt.stage, receipt.digest) is None, "no Job may take the stage for finished"
    assert store.put(tmp_path / "made" / "a") == receipt.output
    store.fetch(receipt.output, tmp_path / "mended")
    assert store.receipt(receipt.stage, receipt.digest) == receipt


def test_a_receipt_that_was_forged_or_put_elsewhere_is_none(store, made, tmp_path):
    receipt = published(store, made("a"), "a")
    (file,) = (tmp_path / "store" / "receipts").iterdir()
    shutil.copy(file, file.with_name(f"Capture-{digest_of('other').removeprefix('sha256:')}.json"))
    assert store.receipt(StageName.CAPTURE, digest_of("other")) is None
    file.write_text('{"stage": "Capture"}')
    assert store.receipt(receipt.stage, receipt.digest) is None


def test_publishers_of_the_same_artefact_do_not_disturb_each_other_or_readers(store, made, tmp_path):
    folders = [made(f"copy-{number}", "the same") for number in range(4)]
    first = published(store, folders[0], "a")
    seen = []

    def read(number):
        store.fetch(first.output, tmp_path / f"read-{number}")
        seen.append(store.receipt(first.stage, first.digest))

    with ThreadPoolExecutor(6) as pool:
        puts = [pool.submit(published, store, folder, "a") for folder in folders * 5]
        reads = [pool.submit(read, number) for number in range(20)]
        assert {put.result().output for put in puts} == {first.output}
        assert all(read.result() is None for read in reads)
    assert seen == [first] * 20
    left = [path.name for path in (tmp_path / "store").rglob("*") if ".part" in path.name or ".swept" in path.name]
    assert left == []


def test_publishers_that_mend_the_same_damage_leave_the_whole(store, made, tmp_path):
    receipt = published(store, made("first", "the same"), "a")
    for turn in range(8):
        folders = [made(f"copy-{turn}-{number}", "the same") for number in range(6)]
        (files_of(tmp_path, receipt.output) / "data" / "weights").write_text("damaged")
        with ThreadPoolExecutor(6) as pool:
            assert set(pool.map(store.put, folders)) == {receipt.output}
        assert store.receipt(receipt.stage, receipt.digest) == receipt


@pytest.mark.parametrize("place", ["a file", "a folder", "the folder itself"])
def test_nothing_that_a_link_leads_to_is_published(store, made, tmp_path, place):
    secrets, folder = made("secrets"), made("a")
    match place:
        case "a file":
            (folder / "data" / "leak").symlink_to(secrets / "data" / "weights")
        case "a folder":
            (folder / "leak").symlink_to(secrets)
        case "the folder itself":
            shutil.rmtree(folder)
            folder.symlink_to(secrets)
    with pytest.raises(ConfigurationError, match="symbolic link") as caught:
        store.put(folder)
    assert caught.value.reason == "SymbolicLink"
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


def test_what_a_publisher_that_was_killed_had_begun_is_no_artefact(tmp_path, made, aged):
    store = MountedStore(tmp_path / "store")
    whole = published(store, made("a"), "a")
    shutil.copytree(made("b"), tmp_path / "store" / "incoming" / "killed" / "whole")
    with pytest.raises(InfrastructureError, match="is not in the store"):
        store.fetch(digest_of_path(tmp_path / "made" / "b"), tmp_path / "back")
    aged(30)
    store.sweep({whole.output}, clock.now() - DAY)
    assert list((tmp_path / "store" / "incoming").iterdir()) == []
    store.fetch(whole.output, tmp_path / "a")


def test_a_sweep_removes_what_is_old_and_not_kept_receipts_before_artefacts(store, made, tmp_path, aged):
    old, kept = published(store, made("old"), "old"), published(store, made("kept"), "kept")
    aged(30)
    new = published(store, made("new"), "new")
    assert store.sweep({kept.output}, clock.now() - DAY) == 0
    assert store.receipt(old.stage, old.digest) is None
    store.fetch(old.output, tmp_path / "still")  # for a Job that found the receipt a moment ago
    assert store.sweep({kept.output}, clock.now() - DAY) == 1
    assert not [path for path in files_of(tmp_path, old.output).rglob("*") if path.is_file()]
    for receipt in (kept, new):
        assert store.receipt(receipt.stage, receipt.digest) == receipt


def test_what_is_used_again_counts_as_new(store, made, aged):
    receipt = published(store, made("a"), "a")
    aged(30)
    store.record(receipt)
    store.sweep((), clock.now() - DAY)
    store.sweep((), clock.now() - DAY)
    assert store.receipt(receipt.stage, receipt.digest) == receipt


def test_what_is_made_again_counts_as_new_even_if_it_was_there(store, made, tmp_path, aged):
    digest = store.put(made("a"))
    aged(30)
    assert store.put(made("again", "a")) == digest
    store.sweep((), clock.now() - DAY)
    store.fetch(digest, tmp_path / "back")


class Answering(BaseHTTPRequestHandler):
    """An object store that answers everything with one status."""

    status = 403

    def do_GET(self):
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_PUT = do_GET  # noqa: N815 - as the base class wants it

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture
def refusing(monkeypatch):
    """An s3:// store that answers with a status of the test's choice."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "unknown")
    yield open_store("s3://artefacts/models/models/churn")
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (401, ConfigurationError, "StoreRefused"),
        (403, ConfigurationError, "StoreRefused"),
        (400, InfrastructureError, "StoreUnavailable"),
    ],
)
def test_what_an_object_store_says_is_told_in_plain_words(refusing, made, monkeypatch, status, kind, reason):
    monkeypatch.setattr(Answering, "status", status)
    assert isinstance(refusing, ObjectStore)
    for attempt in (
        lambda: refusing.receipt(StageName.CAPTURE, digest_of("a")),
        lambda: refusing.put(made("a")),
        lambda: refusing.sweep((), clock.now()),
    ):
        with pytest.raises(kind) as caught:
            attempt()
        assert caught.value.reason == reason
        assert "\n" not in caught.value.message
