"""Stores of both kinds, on folders of this machine."""

import os

import pytest

from paritygate.storage.remote import MountedStore, ObjectStore


@pytest.fixture(params=["mounted", "bucket"])
def store(request, tmp_path):
    """A store; its files lie in `tmp_path / "store"`."""
    from obstore.store import LocalStore

    (tmp_path / "store").mkdir()
    root = tmp_path / "store"
    return MountedStore(root) if request.param == "mounted" else ObjectStore(LocalStore(str(root)))


@pytest.fixture
def made(tmp_path):
    """Makes an artefact folder with some content."""

    def make(name, content=None):
        folder = tmp_path / "made" / name
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "weights").write_text(content or name)
        (folder / "head.json").write_text("{}")
        return folder

    return make


@pytest.fixture
def aged(tmp_path):
    """Lets everything in the store be that many hours older."""

    def age(hours):
        for path in (tmp_path / "store").rglob("*"):
            written = path.stat().st_mtime - 3600 * hours
            os.utime(path, (written, written))

    return age
