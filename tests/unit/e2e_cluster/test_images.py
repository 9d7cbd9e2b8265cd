"""What images of the suite follow from, how builders are called, and what they are told of the machine."""

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from cluster import base, builders, images, pip_settings, recipes

GROUND = recipes.Ground("paritygate.test/ground:1", "1")
# Writes what it was called with, and an archive where one is asked for.
STAND_IN = """#!/bin/sh
echo "$@" >>"{log}"
for word in "$@"; do
    case $word in oci-archive:*) file=${{word#oci-archive:}}; cp "{archive}" "${{file%%:*}}";; esac
done
test "$1" != save || cp "{archive}" "$3"
"""


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Puts a stand-in for a program on the PATH, and gives what it was called with."""
    archive, log = tmp_path / "oci.tar", tmp_path / "log"
    write_archive(archive, {"manifests": [{"digest": "sha256:" + 64 * "a"}]})
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setattr(builders.shutil, "which", lambda name: next(map(str, (tmp_path / "bin").glob(name)), None))
    (tmp_path / "bin").mkdir()

    def put(name):
        path = tmp_path / "bin" / name
        path.write_text(STAND_IN.format(log=log, archive=archive))
        path.chmod(0o755)
        return lambda: log.read_text().splitlines() if log.exists() else []

    return put


def write_archive(path: Path, index: object, name: str = "index.json") -> None:
    content = json.dumps(index).encode()
    with tarfile.open(path, "w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))


def build(tmp_path):
    image = builders.Build("paritygate.test/x:e2e", tmp_path / "Dockerfile", tmp_path, "x", {"BASE": "b"})
    builder = builders.found(tmp_path / "cache")
    builder.build(image)
    builder.save(image.tag, tmp_path / "x.tar")
    return builders.manifest_digest(tmp_path / "x.tar")


@pytest.mark.parametrize("name", ["buildah", "podman"])
def test_builds_without_a_daemon(tool, tmp_path, name):
    calls = tool(name)
    assert build(tmp_path) == "sha256:" + 64 * "a"
    building, saving = calls()
    assert f"--root {tmp_path}/cache/store" in building
    assert "--isolation chroot" in building
    assert "--timestamp 0" in building
    assert ":/etc/pip.conf:ro" in building
    assert building.endswith(f"--build-arg BASE=b --target x --file {tmp_path}/Dockerfile {tmp_path}")
    assert saving.endswith(f"paritygate.test/x:e2e oci-archive:{tmp_path}/x.tar:paritygate.test/x:e2e")


def test_builds_with_a_docker_that_answers(tool, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    calls = tool("docker")
    assert build(tmp_path) == "sha256:" + 64 * "a"
    asked, building, saving = calls()
    assert asked == "info"
    assert "SOURCE_DATE_EPOCH=0 --build-arg PIP_INDEX_URL=https://index.example/simple" in building
    assert saving == f"save --output {tmp_path}/x.tar paritygate.test/x:e2e"


def test_a_docker_without_its_daemon_does_not_count(tool, tmp_path):
    tool("docker")
    (tmp_path / "bin" / "docker").write_text("#!/bin/sh\nexit 1\n")
    assert builders.builds("docker", "podman") is None


@pytest.mark.usefixtures("tool")
def test_says_that_nothing_builds_here(tmp_path):
    with pytest.raises(builders.NoBuilder, match="apt-get install buildah debootstrap"):
        builders.found(tmp_path)


def test_shows_the_words_of_a_build_that_fails(tool, tmp_path):
    tool("buildah")
    (tmp_path / "bin" / "buildah").write_text("#!/bin/sh\necho no space left >&2\nexit 125\n")
    with pytest.raises(builders.NotBuilt, match=r"(?s)ended with 125:.*no space left"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("index", "name", "said"),
    [
        ({"manifests": [{"digest": "sha256:1"}, {"digest": "sha256:2"}]}, "index.json", "holds 2 images"),
        ([{"Config": "1.json"}], "manifest.json", "not in OCI's layout; Docker writes it since version 25"),
    ],
    ids=["two images", "the layout of an older Docker"],
)
def test_refuses_archives_that_name_no_digest(tmp_path, index, name, said):
    write_archive(tmp_path / "x.tar", index, name)
    with pytest.raises(builders.NotBuilt, match=said):
        builders.manifest_digest(tmp_path / "x.tar")


@pytest.mark.parametrize(
    ("change", "changes"),
    [
        pytest.param(lambda folder: (folder / "a/b.py").write_text("2"), True, id="a file's content"),
        pytest.param(lambda folder: (folder / "a/b.py").rename(folder / "a/c.py"), True, id="a file's name"),
        pytest.param(lambda folder: (folder / "a/b.py").chmod(0o755), True, id="whether a file may be run"),
        pytest.param(lambda folder: os.utime(folder / "a/b.py", (0, 0)), False, id="a file's time"),
        pytest.param(lambda folder: (folder / "a/b.pyc").write_text("2"), False, id="bytecode"),
        pytest.param(lambda folder: (folder / "c").write_text("2"), False, id="a file that is not named"),
    ],
)
def test_an_image_is_built_anew_when_what_goes_into_it_changes(tmp_path, change, changes):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.py").write_text("1")
    before = recipes.digest_of(tmp_path, ["a"])
    change(tmp_path)
    assert (recipes.digest_of(tmp_path, ["a"]) != before) is changes


def test_what_the_dockerfile_copies_is_what_digests_follow_from():
    copied = [
        word
        for line in (recipes.ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    ]
    locks = {f"requirements/{lock}.txt" for lock in recipes._OURS.values()}
    assert {word for word in copied if "WORKER" not in word} <= {*recipes._SOURCES, *locks}


def test_stands_on_the_base_that_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("E2E_BASE", "registry.example/python:3.11")
    ground = images._ground(builders.Buildah("buildah", tmp_path))
    assert ground == recipes.Ground("registry.example/python:3.11", "registry.example/python:3.11")


def test_stands_on_the_base_of_the_dockerfile_where_docker_builds(monkeypatch):
    monkeypatch.delenv("E2E_BASE", raising=False)
    assert images._ground(builders.Docker("docker")).reference == images.DEFAULT_BASE
    assert f"ARG BASE={images.DEFAULT_BASE}\n" in (recipes.ROOT / "Dockerfile").read_text()


def test_pip_is_told_what_the_machine_is_told(tmp_path):
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://old.example\nquiet = 1\n[install]\nextra-index-url =\n  https://a\n  https://b\n"
    )
    environment = {"PIP_INDEX_URL": "https://index.example", "SSL_CERT_FILE": "/ca.pem", "PIP_QUIET": "1"}
    known = pip_settings.settings(environment, [tmp_path / "pip.conf", tmp_path / "missing"])
    assert pip_settings.written(known) == (
        "[global]\ncert = /ca.pem\nextra-index-url = https://a https://b\nindex-url = https://index.example\n"
    )


@pytest.mark.parametrize(
    ("environment", "last"),
    [
        ({}, "/home/me/.config/pip/pip.conf"),
        ({"PIP_CONFIG_FILE": "/mine"}, "/mine"),
        ({"PIP_CONFIG_FILE": os.devnull}, None),
    ],
    ids=["the user's", "the one that is named", "none, where that is asked for"],
)
def test_the_nearest_configuration_of_pip_wins(environment, last):
    found = pip_settings.files(environment, Path("/home/me"))
    assert (str(found[-1]) if found else None) == last


def test_a_base_tells_nothing_of_the_machine(tmp_path):
    for name in (
        "etc/resolv.conf",
        "etc/hostname",
        "etc/apt/sources.list",
        "var/log/apt/term.log",
        "usr/share/doc/x/y",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine.example")
    (tmp_path / "usr/bin").mkdir()
    (tmp_path / "usr/bin/python3").write_text("it stays")
    base.strip(tmp_path)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"usr/bin/python3", "etc/machine-id"}
