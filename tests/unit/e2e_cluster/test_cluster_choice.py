"""Which cluster end-to-end tests run on, and what is said where there can be none."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from cluster import __main__ as command
from cluster import bare, cgroups, existing, prerequisites
from cluster.problems import Unavailable
from control_plane.plane import kubeconfig


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    for name in ("KUBECONFIG", "USE_EXISTING_CLUSTER", "PARITYGATE_CLUSTER", "PARITYGATE_IMAGES"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def program(tmp_path, name, status=0):
    path = tmp_path / "bin" / name
    path.write_text(f"#!/bin/sh\nexit {status}\n")
    path.chmod(0o755)


def named(tmp_path, server):
    path = tmp_path / "config"
    path.write_text(kubeconfig(server, tmp_path / "ca.crt", "token"))
    return path


def test_it_is_our_own_where_there_is_nothing_else():
    assert existing.chosen() == "bare"


def test_it_is_the_one_that_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(named(tmp_path, "https://127.0.0.1:6443")))
    assert existing.chosen() == "existing"


def test_it_is_not_the_one_that_happens_to_be_selected(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KUBECONFIG", str(named(tmp_path, "https://prod.example:6443")))
    assert existing.chosen() == "bare"
    assert "USE_EXISTING_CLUSTER=true" in capsys.readouterr().err
    monkeypatch.setenv("USE_EXISTING_CLUSTER", "true")
    assert existing.chosen() == "existing"


def test_it_is_kind_where_kind_works(tmp_path):
    program(tmp_path, "kind")
    assert existing.chosen() == "bare"
    program(tmp_path, "docker", status=1)
    assert existing.chosen() == "bare"
    program(tmp_path, "podman")
    assert existing.chosen() == "kind"


def test_it_is_what_is_asked_for(tmp_path, monkeypatch):
    program(tmp_path, "kind")
    program(tmp_path, "docker")
    monkeypatch.setenv("PARITYGATE_CLUSTER", "bare")
    assert existing.chosen() == "bare"
    monkeypatch.setenv("PARITYGATE_CLUSTER", "minikube")
    with pytest.raises(Unavailable, match="'minikube'; use one of existing, kind, bare"):
        existing.chosen()


@pytest.mark.parametrize(
    ("system", "user", "said"), [("darwin", 0, "needs Linux"), ("linux", 1000, "needs root.*sudo")]
)
def test_what_is_in_the_way_is_said_and_what_else_to_do(system, user, said):
    with pytest.raises(Unavailable, match=f"(?s){said}.*KUBECONFIG.*kind"):
        prerequisites.check(system, user)


def test_packages_that_are_missing_are_named_once():
    missing = prerequisites.packages({"a": "one", "b": "one", "c": "two", "d": "three"}, {"c"}.__contains__)
    assert missing == ["one", "three"]


def test_a_machine_without_apt_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(prerequisites, "check", lambda *_: None)
    monkeypatch.setattr(prerequisites, "_found", lambda _: None)
    with pytest.raises(Unavailable, match=r"no apt-get to install them: .*containerd.*runc"):
        prerequisites.ensure()


def test_an_existing_cluster_needs_images_that_it_can_pull(tmp_path, monkeypatch):
    with pytest.raises(Unavailable, match="PARITYGATE_IMAGES"):
        existing.images_given()
    (tmp_path / "images.json").write_text("{}")
    monkeypatch.setenv("PARITYGATE_IMAGES", str(tmp_path / "images.json"))
    assert existing.images_given() == tmp_path / "images.json"


def test_a_command_is_run_on_an_existing_cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(named(tmp_path, "https://127.0.0.1:6443")))
    (tmp_path / "images.json").write_text("{}")
    monkeypatch.setenv("PARITYGATE_IMAGES", str(tmp_path / "images.json"))
    script = f'echo "$KUBECONFIG $PARITYGATE_IMAGES" > {tmp_path}/said; exit 7'
    assert command.main(["run", "--", "/bin/sh", "-c", script]) == 7
    assert (tmp_path / "said").read_text() == f"{tmp_path}/config {tmp_path}/images.json\n"


def test_a_cluster_that_is_not_there_is_said_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bare, "BUILD", tmp_path)
    assert command.main(["enter", "--", "true"]) == 69
    assert capsys.readouterr().err == "No cluster is up in this checkout: `make cluster` starts one.\n"


def test_wrappers_say_that_the_cluster_is_gone(tmp_path):
    state = {"pid": os.getpid(), "network": "net:[1]", "ready": {}}
    (tmp_path / "state.json").write_text(json.dumps(state))
    script = tmp_path / "kubectl"
    script.write_text(bare.wrapper(bare.Cluster(tmp_path, tmp_path / "images.json"), "kubectl"))
    done = subprocess.run(
        ["/bin/sh", script], capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"}
    )
    assert (done.returncode, done.stderr) == (1, "The cluster is gone: `make cluster` starts a new one.\n")


def test_a_folder_too_deep_for_sockets_is_refused(monkeypatch):
    monkeypatch.setenv("PARITYGATE_CLUSTER_FOLDER", "/deep" * 11)
    with pytest.raises(Unavailable, match="more than 50 characters"):
        bare.place()


def test_control_groups_are_made_and_removed_in_every_hierarchy(tmp_path):
    for name in ("cpuset", "memory", "unified"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").touch()
    (tmp_path / "cpu").symlink_to(tmp_path / "cpuset")
    (tmp_path / "cpuset" / "cpuset.cpus").write_text("0-1")
    (tmp_path / "unified" / "cgroup.controllers").touch()
    cgroups.make("ours", tmp_path)
    assert (tmp_path / "cpuset" / "ours" / "cpuset.cpus").read_text() == "0-1"
    assert (tmp_path / "memory" / "ours").is_dir()
    assert not (tmp_path / "unified" / "ours").exists()
    # The kernel's files vanish with their folder; these do not.
    (tmp_path / "cpuset" / "ours" / "cpuset.cpus").unlink()
    for name in ("memory", "unified"):
        (tmp_path / name / "ours" / "kubepods" / "pod1").mkdir(parents=True)
    cgroups.remove("ours", tmp_path)
    assert list(tmp_path.glob("*/ours")) == []


def test_a_hierarchy_of_version_2_lends_its_controllers(tmp_path):
    for name in ("cgroup.controllers", "cgroup.subtree_control"):
        (tmp_path / name).touch()
    cgroups.make("ours", tmp_path)
    cgroups.join("ours", 42, tmp_path)
    assert (tmp_path / "ours" / "components" / "cgroup.procs").read_text() == "42"
    assert (tmp_path / "ours" / "cpu.weight").read_text() == "800"
    assert (tmp_path / "ours" / "cgroup.subtree_control").read_text() == "+pids"
    assert Path(tmp_path, "cgroup.subtree_control").read_text() == "+pids"
