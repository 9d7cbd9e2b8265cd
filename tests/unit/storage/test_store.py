"""Artefacts by content: whole or absent, and checked when read."""

import errno
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from paritygate.api.artifacts import Receipt, StageName
from paritygate.api.digests import digest_of, digest_of_bytes
from paritygate.errors import ConfigurationError, InfrastructureError
from paritygate.storage.digests import digest_of_path
from paritygate.storage.store import Store, discard_abandoned, disk_full_explained
from paritygate.storage.uris import resolve


def folder(path, content="x"):
    (path / "sub").mkdir(parents=True)
    (path / "sub" / "a").write_text(content)
    return path


def test_a_folder_has_the_digest_of_its_listing(tmp_path):
    listing = [["sub/a", digest_of_bytes(b"x")]]
    assert digest_of_path(folder(tmp_path / "f")) == digest_of(listing)


def test_a_symbolic_link_in_a_folder_is_refused(tmp_path):
    (folder(tmp_path / "f") / "link").symlink_to("sub/a")
    with pytest.raises(ConfigurationError, match="symbolic link"):
        digest_of_path(tmp_path / "f")


def test_a_receipt_counts_only_while_its_artefact_is_whole(tmp_path):
    store = Store(tmp_path / "store")
    output = store.put(folder(tmp_path / "f"))
    receipt = Receipt(stage=StageName.ASSESS, digest=digest_of("d"), output=output)
    store.record(receipt)
    assert store.receipt(StageName.ASSESS, receipt.digest) == receipt
    (store.path(output) / "sub" / "a").write_text("y")
    assert store.receipt(StageName.ASSESS, receipt.digest) is None
    assert store.put(folder(tmp_path / "f")) == output
    assert store.receipt(StageName.ASSESS, receipt.digest) == receipt


def test_what_a_killed_process_had_begun_to_write_is_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for number in (ended.pid, os.getpid()):
        (tmp_path / f"plan.json.part-{number}").write_text("{")
    discard_abandoned(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"plan.json.part-{os.getpid()}"]


def test_a_sweep_removes_what_is_old_and_not_kept(tmp_path):
    store = Store(tmp_path / "store")

    def stored(name, age):
        output = store.put(folder(tmp_path / name, name))
        store.record(Receipt(stage=StageName.ASSESS, digest=digest_of(name), output=output))
        for path in (store.path(output), *(tmp_path / "store" / "receipts").glob(f"*{digest_of(name)[7:]}.json")):
            os.utime(path, (age, age))

    for name, age in (("kept", 100), ("old", 100), ("new", 300)):
        stored(name, age)
    lost = store.put(folder(tmp_path / "lost", "without a receipt"))
    os.utime(store.path(lost), (100, 100))
    store.sweep({(StageName.ASSESS, digest_of("kept"))}, datetime.fromtimestamp(200, UTC))
    assert [store.receipt(StageName.ASSESS, digest_of(name)) is not None for name in ("kept", "old", "new")] == [
        True, False, True,
    ]  # fmt: skip
    assert len(list((tmp_path / "store" / "receipts").iterdir())) == 2
    assert len(list((tmp_path / "store" / "artifacts").iterdir())) == 2


def test_a_full_disk_says_how_much_is_free(tmp_path):
    with pytest.raises(InfrastructureError, match="bytes are free") as caught, disk_full_explained(tmp_path / "f", 10):
        raise OSError(errno.ENOSPC, "full")
    assert caught.value.reason == "DiskFull"


def test_paths_are_relative_to_the_manifest_and_remote_schemes_are_refused(tmp_path):
    assert resolve("m.pkl", tmp_path, "f") == tmp_path / "m.pkl"
    assert resolve("file:///a%20b", tmp_path, "f").as_posix() == "/a b"
    with pytest.raises(ConfigurationError, match=r"spec.source.uri is 's3://b/k'.*download it"):
        resolve("s3://b/k", tmp_path, "spec.source.uri")
